"""What every stream of frames must do, run against each implementation."""

from __future__ import annotations

import asyncio
import sys

import pytest
from tests.fakes.streams import stream_pair

from remote_gpu.errors import RemoteGpuError
from remote_gpu.frames import PIECE, Frame, Kind, Lane
from remote_gpu.streams import CommandStream

ECHO = """
import sys, os
sys.path[:0] = {path!r}
while data := os.read(0, 1 << 16):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
"""


async def _command_echo():
    return await CommandStream.open([sys.executable, "-c", ECHO.format(path=sys.path)], None, "/"), None


async def _memory_echo():
    here, there = stream_pair()

    async def echo():
        while frames := await there.receive():
            await there.send(frames)

    return here, asyncio.create_task(echo())


@pytest.fixture(params=[_command_echo, _memory_echo], ids=["command", "memory"])
async def stream(request):
    """A stream whose far end sends everything back."""
    found, task = await request.param()
    yield found
    await found.aclose()
    if task is not None:
        await task


async def _receive(stream, count):
    frames = []
    async with asyncio.timeout(20):
        while len(frames) < count:
            got = await stream.receive()
            assert got, "the stream ended"
            frames += got
    return frames


async def test_frames_come_back_whole_and_in_order(stream):
    sent = [Frame(Kind.DATA, Lane.SHELL, 1, number, b"x" * (number * 37 % 3000), number % 3 == 0) for number in range(100)]
    await stream.send(sent)
    assert await _receive(stream, 100) == sent


async def test_more_than_any_buffer_holds_goes_through_both_ways_at_once(stream):
    sent = [Frame(Kind.DATA, Lane.SHELL, 1, number, bytes([number % 256]) * PIECE) for number in range(80)]

    async def send():
        for frame in sent:
            await stream.send([frame])

    task = asyncio.create_task(send())
    assert await _receive(stream, 80) == sent
    await task


async def test_sending_waits_while_the_other_side_does_not_take(stream):
    async def send():
        for number in range(400):
            await stream.send([Frame(Kind.DATA, Lane.SHELL, 1, number, b"x" * PIECE)])

    task = asyncio.create_task(send())
    done, _ = await asyncio.wait([task], timeout=0.3)
    assert not done
    assert len(await _receive(stream, 400)) == 400
    await task


async def test_after_closing_sending_is_refused_and_receiving_ends(stream):
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(RemoteGpuError):
        await stream.send([Frame(Kind.PING)])
    assert not await stream.receive()
