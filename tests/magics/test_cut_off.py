"""A connection to a real front whose link loses its node: what a running cell hears, and that nothing is lost."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from tests.fakes.client import parts_of
from tests.fakes.node import FakeNode

from jupyter_remote_gpu.front import Front
from jupyter_remote_gpu.link import Link
from jupyter_remote_gpu.models import LinkState
from remote_gpu.errors import AccessRefused
from remote_gpu.execution import Execution, Finished
from remote_gpu.folders import node_folder
from remote_gpu.kernel import Connection
from remote_gpu.pump import Pump
from remote_gpu.running import LinkLost, Running

REFUSAL = AccessRefused("montreal wants you to log in.", hint="`%remote_gpu login montreal` asks you.")


class Shown:
    def __init__(self):
        self.texts = []

    def publish(self, message):
        self.texts.append(message.content.get("text"))

    def record(self, running, *, final):
        pass


@pytest.fixture
async def world():
    node = FakeNode()
    link = Link(node.open_stream, on_event=lambda _: None, on_state=lambda *_: None)
    await link.start()
    front = await Front.open(link, id="front1", folder=node_folder("f") / "front1", after=0)
    pump = Pump()
    connection = Connection(front.connection_file, pump, after=0)
    connection.begin()
    yield SimpleNamespace(node=node, link=link, front=front, connection=connection)
    pump.stop()
    await front.aclose()
    await link.aclose()
    await node.aclose()


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def begin(world) -> Running:
    running = Running(Execution(world.connection.signer.next_id()), Shown())
    world.connection.execute("x", running, allow_stdin=False, about={})
    return running


def says(world, running, kind, content):
    header, _, metadata, body = parts_of(kind, content)
    world.node.publish(header, json.dumps({"msg_id": running.msg_id, "msg_type": "execute_request"}).encode(), metadata, body)


async def cut(world, *told):
    world.node.refusal = REFUSAL
    await world.node.cut()
    await until(lambda: world.link.state is LinkState.LOST and all(not each.events.empty() for each in told))


async def test_running_cells_are_told_and_go_on_where_they_were(world):
    cells = [begin(world), begin(world)]
    await until(lambda: len(world.node.taken) == 2)
    says(world, cells[0], "stream", {"name": "stdout", "text": "before\n"})
    await until(lambda: cells[0].sink.texts == ["before\n"])
    await cut(world, *cells)
    assert [each.events.get() for each in cells] == [LinkLost("access_refused", str(REFUSAL))] * 2
    assert all(each.events.empty() for each in cells)
    late = begin(world)
    await until(lambda: not late.events.empty())
    world.node.refusal = None
    says(world, cells[0], "stream", {"name": "stdout", "text": "after\n"})
    world.link.reconnect()
    await until(lambda: cells[0].sink.texts[-1:] == ["after\n"])
    assert cells[0].sink.texts == ["before\n", "Connected again.\n", "after\n"]
    assert cells[1].sink.texts == late.sink.texts == ["Connected again.\n"]
    assert world.connection.asides.outage is None
    await until(lambda: len(world.node.taken) == 3)
    cells[0].execution.claimed = True
    says(world, cells[0], "status", {"execution_state": "idle"})
    await until(lambda: not cells[0].events.empty())
    assert isinstance(cells[0].events.get(), Finished)


async def test_a_login_that_is_refused_again_is_not_told_twice(world):
    cell = begin(world)
    await until(lambda: len(world.node.taken) == 1)
    await cut(world, cell)
    cell.events.get()
    with pytest.raises(AccessRefused):
        await world.link.take_up()
    heard = begin(world)
    await until(lambda: not heard.events.empty())
    assert cell.events.empty()
