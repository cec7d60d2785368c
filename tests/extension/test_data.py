"""Data streams through a gateway: a notebook gets a socket of its own to the node's data process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.fakes.clusters import FakeCluster

from jupyter_remote_gpu.clusters.base import CarriesData
from jupyter_remote_gpu.clusters.local import LocalCluster
from jupyter_remote_gpu.data_door import DataDoor, door_of
from jupyter_remote_gpu.gateway import build
from jupyter_remote_gpu.live import Terms
from jupyter_remote_gpu.models import AllocationState
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.errors import GatewayUnavailable, LinkProblem, NoDataStream, UnknownAttachment, UnknownSession, UsageProblem, from_problem
from remote_gpu.node import blobs
from remote_gpu.transfer.door import connect_data
from remote_gpu.transfer.transfers import Transfers


@contextlib.asynccontextmanager
async def gateway(places, cluster):
    async def notebook_of(_: str) -> str | None:
        return None

    settings = Settings(clusters={}, data_folder=Path(places.base) / "d", local_python=sys.executable)
    parts = build(settings, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of, ready={cluster.name: cluster})
    parts.data.start()
    try:
        yield parts
    finally:
        for session in await parts.sessions.list():
            await parts.sessions.stop(session.id)
        await parts.aclose()


def local() -> LocalCluster:
    return LocalCluster("local", {"kind": "local"}, Settings(local_python=sys.executable))


async def attached(parts):
    session, _ = await parts.sessions.start(Wish(cluster="local", cwd="/"))
    attachment, session = await parts.sessions.attach(session.id, Terms())
    return session, attachment


def test_the_local_cluster_carries_data_and_a_plain_one_does_not(places):
    assert isinstance(local(), CarriesData)
    assert not isinstance(FakeCluster(), CarriesData)


async def test_bytes_reach_the_node_past_the_gateway_and_end_with_the_attachment(places):
    async with gateway(places, local()) as parts:
        session, attachment = await attached(parts)
        transfers = Transfers(lambda: connect_data(parts.socket, session.id, attachment.id))
        data = os.urandom(3 << 20)
        (digest,) = await asyncio.to_thread(transfers.put_missing, [memoryview(data)])
        assert bytes(blobs.mapped(digest, len(data))) == data
        assert await asyncio.to_thread(lambda: transfers.cwd) == "/"
        (command,) = parts.data._streams.values()
        await parts.sessions.detach(session.id, attachment.id)
        await asyncio.wait_for(command.wait(), 10)
        assert not parts.data._streams
        transfers.close()


async def test_a_data_process_that_was_killed_is_opened_again(places):
    async with gateway(places, local()) as parts:
        session, attachment = await attached(parts)
        transfers = Transfers(lambda: connect_data(parts.socket, session.id, attachment.id))
        (first,) = await asyncio.to_thread(transfers.put_missing, [memoryview(b"a" * 100_000)])
        (command,) = parts.data._streams.values()
        os.kill(command._process.pid, signal.SIGKILL)
        await command.wait()
        again = await asyncio.to_thread(transfers.put_missing, [memoryview(b"a" * 100_000), memoryview(b"b" * 100_000)])
        assert again[0] == first
        assert bytes(blobs.mapped(again[1], 100_000)) == b"b" * 100_000
        transfers.close()


async def test_a_door_that_closes_ends_the_streams_that_are_open(places):
    async with gateway(places, local()) as parts:
        session, attachment = await attached(parts)
        other = Path(places.base) / "other.sock"
        door = DataDoor(door_of(other), parts.sessions, parts.clusters, logging.getLogger("test"))
        door.start()
        transfers = Transfers(lambda: connect_data(other, session.id, attachment.id))
        await asyncio.to_thread(transfers.put_missing, [memoryview(b"a" * 100_000)])
        (command,) = door._streams.values()
        await door.aclose()
        assert command.ended
        transfers.close()


async def test_a_data_stream_is_refused_with_the_reason(places):
    async with gateway(places, local()) as parts:
        session, attachment = await attached(parts)
        for wrong, kind in ((("nosuch", attachment.id), UnknownSession), ((session.id, "nosuch"), UnknownAttachment)):
            with pytest.raises(kind):
                await asyncio.to_thread(connect_data, parts.socket, *wrong)
    with pytest.raises(GatewayUnavailable):
        await asyncio.to_thread(connect_data, parts.socket, session.id, attachment.id)


async def test_a_cluster_without_a_data_stream_says_so(places):
    cluster = FakeCluster("local")
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish(cluster="local"))
        async with asyncio.timeout(5):
            while (await parts.sessions.get(session.id)).state is not AllocationState.RUNNING:
                await parts.sessions.wait(session.id, AllocationState.PENDING, 1)
        parts.sessions.attachment = lambda *_: object()  # a cluster in memory has nobody to attach to
        with pytest.raises(NoDataStream, match="local"):
            await asyncio.to_thread(connect_data, parts.socket, session.id, "one")
        del parts.sessions.attachment


async def test_a_command_that_ends_at_once_is_quoted_with_its_last_words(places):
    cluster = local()
    async with gateway(places, cluster) as parts:
        session, attachment = await attached(parts)
        code = "import sys; sys.exit('This node has no room for Python.')"
        cluster._quick_command = lambda *_: [sys.executable, "-I", "-S", "-c", code]
        with pytest.raises(LinkProblem, match=r"exit status 1\. It said: This node has no room for Python"):
            await asyncio.to_thread(connect_data, parts.socket, session.id, attachment.id)
        cluster._quick_command = lambda *_: ["/no/such/python"]
        with pytest.raises(LinkProblem, match="/no/such/python cannot be run"):
            await asyncio.to_thread(connect_data, parts.socket, session.id, attachment.id)


async def test_nonsense_at_the_door_is_answered_with_a_problem(places):
    async with gateway(places, FakeCluster()) as parts:
        reader, writer = await asyncio.open_unix_connection(str(parts.socket.with_suffix(".data")))
        writer.write(b"nonsense")
        with pytest.raises(UsageProblem):
            raise from_problem(json.loads(await reader.read()))
        writer.close()
        await writer.wait_closed()
        assert parts.socket.with_suffix(".data").stat().st_mode & 0o777 == 0o600
    assert not parts.socket.with_suffix(".data").exists()
