"""Fronts against a node in memory and clients on real sockets."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import ANY

import pytest
from tests.fakes.client import Client, parts_of
from tests.fakes.node import WINDOW, FakeNode

from jupyter_remote_gpu.front import Front, Pace, read_cursor
from jupyter_remote_gpu.front_output import Item, merge, split
from jupyter_remote_gpu.link import Link
from remote_gpu.errors import NotAllowed, NotWritable, SessionEnded
from remote_gpu.folders import node_folder
from remote_gpu.frames import Lane


class World:
    """A fake node, its link, and fronts that are closed at the end."""

    def __init__(self):
        self.node = FakeNode()
        self.link = Link(self.node.open_stream, on_event=lambda _: None, on_state=lambda *_: None)
        self.fronts, self.clients = [], []

    async def front(self, name="front1", **options):
        front = await Front.open(self.link, id=name, folder=node_folder("f") / name, **({"after": 0} | options))
        self.fronts.append(front)
        return front

    def client(self, front, **options):
        client = Client(front.connection_info, **options)
        self.clients.append(client)
        return client


@asynccontextmanager
async def opened():
    world = World()
    await world.link.start()
    try:
        yield world
    finally:
        for client in world.clients:
            client.close()
        for front in world.fronts:
            await front.aclose()
        await world.link.aclose()
        await world.node.aclose()


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_request_and_its_answers_pass_with_the_fronts_own_key():
    async with opened() as world:
        front = await world.front()
        client = world.client(front)
        msg_id = await client.send("shell", "execute_request", {"code": "1"}, [b"buffer"])
        await until(lambda: world.node.taken)
        name, lane, message = world.node.taken[0]
        assert (name, lane, message.identities) == ("front1", Lane.SHELL, [client.identity])
        assert json.loads(message.parts[0])["msg_id"] == msg_id
        assert message.parts[4] == b"buffer"
        world.node.publish(*parts_of("status", {"execution_state": "busy"}))
        world.node.reply(Lane.SHELL, "front1", client.identity, *parts_of("execute_reply", {"status": "ok"}), b"back")
        status = await client.receive("iopub")
        assert (status["topic"], status["content"]) == (b"iopub.1", {"execution_state": "busy"})
        reply = await client.receive("shell")
        assert reply["content"] == {"status": "ok"}
        assert bytes(reply["buffers"][0]) == b"back"


async def test_control_stdin_and_heartbeat_have_their_own_sockets():
    async with opened() as world:
        client = world.client(await world.front())
        await client.send("control", "interrupt_request", {})
        await until(lambda: world.node.taken)
        assert world.node.taken[0][1] is Lane.CONTROL
        world.node.ask("front1", client.identity, *parts_of("input_request", {"prompt": "name?"}))
        assert (await client.receive("stdin"))["content"] == {"prompt": "name?"}
        await client.send("stdin", "input_reply", {"value": "x"})
        await until(lambda: len(world.node.taken) == 2)
        assert world.node.taken[1][1] is Lane.STDIN
        await client.sockets["hb"].send(b"ping")
        assert await client.sockets["hb"].recv() == b"ping"


async def test_folder_key_and_sockets_are_private_and_gone_in_the_end():
    async with opened() as world:
        front = await world.front()
        folder = front.connection_file.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(front.connection_file.stat().st_mode) == 0o600
        info = json.loads(front.connection_file.read_text())
        assert info["transport"] == "ipc"
        assert len(info["key"]) == 64
        assert front.connection_info["key"] == info["key"].encode()
        other = await world.front("front2")
        assert other.connection_info["key"] != front.connection_info["key"]
        await front.aclose()
        await front.aclose()
        assert not folder.exists()
        await until(lambda: list(world.node.clients) == ["front2"])


async def test_messages_with_a_wrong_signature_are_dropped_and_told_once_without_content(caplog):
    async with opened() as world:
        front = await world.front()
        forger, client = world.client(front, key=b"wrong"), world.client(front)
        for _ in range(3):
            await forger.send("shell", "execute_request", {"code": "secret words"})
        await forger.sockets["shell"].send_multipart([b"no message at all"])
        await client.send("control", "interrupt_request", {})
        await client.send("shell", "execute_request", {"code": "mine"})
        await until(lambda: len(world.node.taken) == 2)
        assert all(b"secret" not in part for _, _, message in world.node.taken for part in message.parts)
        assert [record.levelname for record in caplog.records if "signature" in record.message] == ["WARNING"]
        assert "secret" not in caplog.text


async def test_nothing_is_published_before_somebody_subscribes():
    async with opened() as world:
        front = await world.front()
        for number in range(50):
            world.node.publish(*parts_of("stream", {"name": "stdout", "text": f"{number}\n"}))
        await until(lambda: front.waiting == 50)
        client = world.client(front)
        assert [number for number, _ in await client.parts(50)] == list(range(1, 51))
        await until(lambda: front.published == 50)


async def test_a_stalled_subscriber_loses_none_of_20000_displays_and_stalls_nobody_else():
    async with opened() as world:
        slow, quick = await world.front("slow"), await world.front("quick")
        stalled, reader = world.client(slow, hwm=10), world.client(quick)
        taken = asyncio.create_task(reader.parts(20_000))
        for number in range(20_000):
            world.node.publish(*parts_of("display_data", {"data": {"text/plain": "x" * 600}, "n": number}))
        assert [number for number, _ in await taken] == list(range(1, 20_001))
        assert slow.published < 20_000
        assert world.node.clients["slow"].most_unacked <= WINDOW
        got = await stalled.parts(20_000)
        assert [number for number, _ in got] == list(range(1, 20_001))
        assert [json.loads(content)["n"] for _, content in got] == list(range(20_000))


async def test_two_subscribers_of_one_front_both_get_everything():
    async with opened() as world:
        front = await world.front(subscribers=2)
        for _ in range(300):
            world.node.publish(*parts_of("display_data", {}))
        first = world.client(front)
        await until(lambda: front.unused_since is None and front.waiting >= 300)
        second = world.client(front)
        both = await asyncio.gather(first.parts(300), second.parts(300))
        assert both[0] == both[1]


async def test_a_front_says_when_nobody_is_subscribed_any_more():
    told = []
    async with opened() as world:
        front = await world.front(on_unused=lambda: told.append(1), unused_after=0.02)
        await until(lambda: told)
        client = world.client(front)
        await until(lambda: front.unused_since is None)
        told.clear()
        client.close()
        await until(lambda: told)
        assert front.unused_since is not None


async def test_after_the_sockets_files_were_deleted_rebinding_serves_old_and_new_clients():
    async with opened() as world:
        front = await world.front()
        old = world.client(front)
        world.node.publish(*parts_of("status", {}))
        await old.receive("iopub")
        for path in front.connection_file.parent.glob("k-*"):
            path.unlink()
        front.connection_file.unlink()
        front.rebind()
        new = Client(json.loads(front.connection_file.read_text()) | {"key": front.connection_info["key"]})
        world.clients.append(new)
        await new.send("shell", "kernel_info_request", {})
        await until(lambda: world.node.taken)
        await new.sockets["hb"].send(b"x")
        assert await new.sockets["hb"].recv() == b"x"  # by now its subscription is there, too
        for _ in range(100):
            world.node.publish(*parts_of("display_data", {}))
        assert [number for number, _ in await old.parts(100)] == list(range(2, 102))
        assert [number for number, _ in await new.parts(100)] == list(range(2, 102))


async def test_a_front_that_comes_back_continues_after_its_cursor_with_its_old_clients():
    async with opened() as world:
        front = await world.front(cursor_file=True)
        client = world.client(front)
        for _ in range(10):
            world.node.publish(*parts_of("display_data", {}))
        await client.parts(10)
        await until(lambda: front.published == 10)
        await front.aclose(keep=True)
        folder = front.connection_file.parent
        assert read_cursor(folder)[Lane.IOPUB] == 10
        for _ in range(5):
            world.node.publish(*parts_of("display_data", {}))
        again = await world.front(cursor_file=True, after=None)
        assert again.connection_info == front.connection_info
        assert [number for number, _ in await client.parts(5)] == list(range(11, 16))


async def test_replies_to_a_client_that_is_gone_go_to_the_one_who_claims_them():
    async with opened() as world:
        parent = {"msg_id": "m1"}
        world.node.reply(Lane.SHELL, "dead", b"dead client", *parts_of("execute_reply", {"status": "ok"}, parent), parent="m1")
        front = await world.front(claims=["m1"])
        client = world.client(front)
        await client.send("shell", "kernel_info_request", {})
        assert (await client.receive("shell"))["parent_header"]["msg_id"] == "m1"


async def test_a_gap_and_the_end_are_shown_in_the_clients_own_terms():
    async with opened() as world:
        for _ in range(9):
            world.node.publish(*parts_of("display_data", {}))
        world.node.floor = 6
        client = world.client(await world.front())
        gap = await client.receive("iopub")
        assert "5 messages of output" in gap["content"]["text"]
        assert gap["metadata"]["remote_gpu"] == {"gap": {"first": 1, "last": 5}}
        assert gap["topic"] == b"iopub.5"
        await client.parts(4)
        world.node.refusal = SessionEnded("It is over.")
        await world.node.cut()
        end = await client.receive("iopub")
        assert end["content"] == {"execution_state": "dead", "remote_gpu": {"reason": "session_ended", "text": "It is over."}}


async def test_attaching_that_fails_leaves_no_folder():
    async with opened() as world:
        with pytest.raises(NotAllowed):
            await world.front(role="nobody")
        assert not (node_folder("f") / "front1").exists()
        with pytest.raises(NotWritable, match="too long"):
            await Front.open(world.link, id="x", folder=Path("/tmp") / ("x" * 120))
        assert not (Path("/tmp") / ("x" * 120)).exists()


async def test_text_that_waits_is_merged_without_changing_its_order():
    async with opened() as world:
        front = await world.front(coalesce=True)
        for number in range(300):
            name = "stderr" if number % 100 == 50 else "stdout"
            world.node.publish(*parts_of("stream", {"name": name, "text": f"{number}\n"}, {"msg_id": "p"}))
            if number == 200:
                world.node.publish(*parts_of("display_data", {"data": {}}, {"msg_id": "p"}))
        await until(lambda: front.waiting == 301)
        client = world.client(front)
        got, seen = [], []
        while sum(text.count("\n") for _, text in got) < 300:
            message = await client.receive("iopub")
            seen.append(message["topic"])
            if message["msg_type"] == "stream":
                got.append((message["content"]["name"], message["content"]["text"]))
        assert "".join(text for _, text in got) == "".join(f"{number}\n" for number in range(300))
        assert [text for name, text in got if name == "stderr"] == ["50\n", "150\n", "250\n"]
        assert len(got) == 8
        assert seen[-1] == b"iopub.301"


def item(number, text, kind="stream", parent="p", size=None):
    parts = parts_of(kind, {"name": "stdout", "text": text}, {"msg_id": parent})
    return Item(number, parts, size or sum(map(len, parts)))


def test_only_text_of_one_parent_is_merged():
    from collections import deque

    items = deque([item(1, "a"), item(2, "b"), item(3, "c", parent="q"), item(4, "d", kind="display_data")])
    merge(items)
    assert [each.number for each in items] == [2, 3, 4]
    merge(items)
    assert [each.number for each in items] == [2, 3, 4]


def test_a_pace_stays_below_what_the_server_drops_and_starts_anew_at_idle():
    pace, now, sent = Pace(messages=10, text=10_000, window=3.0), 0.0, []
    for number in range(35):
        each = item(number, "x", kind="display_data")
        while wait := pace.wait(each, now):
            now += wait
        pace.count(each, now)
        sent.append(now)
    assert all(sent[place + 10] - sent[place] >= 3.0 for place in range(25))
    text = item(99, "x" * 6000, size=6000)
    now += 10
    pace.count(text, now)
    assert pace.wait(text, now) == pytest.approx(3.0)
    idle = Item(100, parts_of("status", {"execution_state": "idle"}), 100)
    assert pace.wait(idle, now) == 0.0
    pace.count(idle, now)
    assert pace.wait(text, now) == 0.0


def test_a_long_text_goes_in_pieces_below_the_limit_and_counts_as_taken_with_the_last():
    text = "".join(f"{n} \N{SNOWMAN} \n" for n in range(200_000))
    parts = [memoryview(part) for part in parts_of("stream", {"name": "stdout", "text": text})]
    item = Item(7, parts, sum(len(part) for part in parts))
    pieces = split(item)
    assert len(pieces) > 5
    assert max(piece.size for piece in pieces) < 600_000
    assert [piece.number for piece in pieces] == [6] * (len(pieces) - 1) + [7]
    assert "".join(json.loads(bytes(piece.parts[3]))["text"] for piece in pieces) == text
    assert split(Item(1, parts_of("stream", {"name": "stdout", "text": "x"}), 10)) == [Item(1, ANY, 10)]


def test_text_that_is_no_valid_unicode_can_be_cut_and_merged():
    parts = parts_of("stream", {"name": "stdout", "text": "\ud800" * 200_000})
    pieces = split(Item(1, parts, sum(len(part) for part in parts)))
    assert "".join(json.loads(bytes(piece.parts[3]))["text"] for piece in pieces) == "\ud800" * 200_000
