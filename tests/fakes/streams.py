"""Streams in memory that cut, delay and repeat, as their `Faults` say; the same seed does the same again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from remote_gpu.errors import LinkProblem
from remote_gpu.frames import Frame, FrameReader, Kind, encode, preamble

_AHEAD = 256 * 1024


@dataclass(frozen=True, slots=True)
class Faults:
    """What befalls one stream. Cuts are numbers of bytes of that direction, None: never."""

    seed: int = 0
    cut_up: int | None = None
    cut_down: int | None = None
    repeat: float = 0.0
    """How likely a message of one frame comes twice."""
    chunk: int = 1 << 20
    """The most bytes that arrive at once."""
    turns: int = 0
    """The most turns of the loop that bytes take."""


class _Way:
    """One direction: bytes in order."""

    def __init__(self, faults: Faults, cut_after: int | None, salt: int) -> None:
        self._random = random.Random(faults.seed * 2 + salt)
        self._faults = faults
        self._left = cut_after
        self._bytes = bytearray()
        self._reader = FrameReader()
        self._reader.feed(preamble())
        self._changed = asyncio.Condition()
        self._inside: set[tuple[int, int]] = set()
        self.ended = False

    async def put(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._add(self._encoded(frame))
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._bytes) < _AHEAD or self.ended)

    def _encoded(self, frame: Frame) -> bytes:
        key = (frame.attachment, frame.lane)
        whole = key not in self._inside and not frame.more
        (self._inside.add if frame.more else self._inside.discard)(key)
        often = 2 if frame.kind is Kind.DATA and whole and self._random.random() < self._faults.repeat else 1
        return encode(frame) * often

    def _add(self, data: bytes) -> None:
        if self.ended:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._bytes += data

    @property
    def cut(self) -> bool:
        return self._left == 0

    async def get(self) -> list[Frame]:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._bytes or self.ended)
                if not self._bytes:
                    return []
            for _ in range(self._random.randint(0, self._faults.turns)):
                await asyncio.sleep(0)
            size = self._random.randint(1, self._faults.chunk)
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            async with self._changed:
                self._changed.notify_all()
            if frames := self._reader.feed(data):
                return frames

    async def end(self) -> None:
        self.ended = True
        async with self._changed:
            self._changed.notify_all()


class FakeStream:
    """One end. `break_` cuts both directions at once, as a lost connection does."""

    def __init__(self, out: _Way, back: _Way) -> None:
        self._out = out
        self._back = back
        self.closed = self.holds_back = False
        self.sent: list[Frame] = []

    async def send(self, frames: Sequence[Frame]) -> None:
        if self._out.ended:
            raise LinkProblem("The fake stream is cut.")
        self.sent += [frame._replace(payload=b"") for frame in frames]
        await self._out.put(frames)
        if self._out.cut:
            await self.break_()

    async def receive(self) -> Sequence[Frame]:
        return await self._back.get()

    async def break_(self) -> None:
        await self._out.end()
        await self._back.end()

    async def aclose(self) -> None:
        self.closed = True
        await self.break_()


def stream_pair(faults: Faults | None = None) -> tuple[FakeStream, FakeStream]:
    """(the gateway's end, the node's end) of one stream."""
    faults = faults or Faults()
    up, down = _Way(faults, faults.cut_up, 0), _Way(faults, faults.cut_down, 1)
    return FakeStream(up, down), FakeStream(down, up)
