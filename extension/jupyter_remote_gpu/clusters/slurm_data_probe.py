"""How fast a data stream is, measured by a short burst through it in both directions (ECHO in docs/reference/data-stream.md)."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jupyter_remote_gpu.clusters.options import DataWay
from remote_gpu.errors import BadFrame, LinkProblem, from_problem
from remote_gpu.transfer.frames import Message, Op, Reader, head_of, preamble, slices, write_all

__all__ = ["Measured", "measure"]

_FIRST = 512 << 10  # bytes of the first burst in a direction, and
_MOST = 8 << 20  # of the last one
_TIME = 0.15  # seconds after which no further burst begins
_SILENCE = 5  # seconds without a byte after which a stream is of no use
_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Measured:
    """A way and what a burst told of it: bytes a second to the node and from it, 0.0 = not measured."""

    way: DataWay
    up: float = 0.0
    down: float = 0.0

    @property
    def rate(self) -> float:
        """That of the slower direction."""
        return min(self.up, self.down)

    def json(self) -> dict[str, Any]:
        """``{"way", "up", "down"}``, rates in bytes a second; null = not measured."""
        return {"way": self.way, "up": round(self.up) or None, "down": round(self.down) or None}

    def __str__(self) -> str:
        return f"{self.way} ({_words(self.up)} to the node, {_words(self.down)} from it)" if self.rate else self.way.value


def measure(way: DataWay, connection: socket.socket) -> Measured:
    """What the stream at `connection` carries, which the burst uses up. Blocks; the caller ends it by ending the stream's command.

    Raises what the node says instead of its HELLO, and `LinkProblem`.
    """
    burst = _Burst(connection)
    try:
        burst.greet()
        pause = min(burst.up(0), burst.up(0))
        return Measured(way, _rate(burst.up, pause), _rate(burst.down, pause))
    except OSError as error:
        raise LinkProblem(f"A data stream by {way} does not carry a burst: {error.strerror or error}.") from error


def _rate(burst: Callable[[int], float], pause: float) -> float:
    """Bytes a second in one direction: the best of bursts that double, as long as there is time."""
    size, spent, best = _FIRST, 0.0, 0.0
    while size <= _MOST and spent < _TIME:
        seconds = burst(size)
        travelled = max(seconds - pause, seconds / 2)  # what is told by a pause on a busy machine is worth little
        best, spent, size = max(best, size / travelled), spent + seconds, 2 * size
    return best


class _Burst:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        with suppress(OSError):
            limit = struct.pack("ll", _SILENCE, 0)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                connection.setsockopt(socket.SOL_SOCKET, option, limit)
        self._descriptor = connection.fileno()
        self._reader = Reader(self._descriptor)
        self._block = os.urandom(_STEP)  # ssh may compress

    def greet(self) -> None:
        with suppress(OSError):  # one that is gone has left its last words
            write_all(self._descriptor, preamble())
        self._reader.greet()
        self._expect(Op.HELLO)

    def up(self, size: int) -> float:
        """Seconds until the node has so many bytes and has said so."""
        began = time.perf_counter()
        write_all(self._descriptor, head_of(Op.ECHO, {"size": 0}, size))
        while size:
            part = memoryview(self._block)[:size]
            for piece in slices(part):
                write_all(self._descriptor, piece)
            size -= len(part)
        self._expect(Op.ECHO)
        return time.perf_counter() - began

    def down(self, size: int) -> float:
        """Seconds until so many bytes of the node are here."""
        began = time.perf_counter()
        write_all(self._descriptor, head_of(Op.ECHO, {"size": size}))
        message = self._expect(Op.ECHO)
        if message.size != size:
            raise BadFrame("The node sends another number of bytes than it was asked for.")
        self._reader.skip(size)
        return time.perf_counter() - began

    def _expect(self, op: Op) -> Message:
        while (message := self._reader.message()) is not None:
            if message.op == Op.FAILED:
                raise from_problem(message.meta.get("problem") or {})
            if message.op == op:
                return message
            if message.op != Op.WAIT:
                raise BadFrame(f"The node answers message {message.op} to an echo.")
        raise LinkProblem("The data stream ended.")


def _words(rate: float) -> str:
    return f"{rate / 1e6:.0f} MB/s" if rate >= 10e6 else f"{rate / 1e6:.1f} MB/s"  # noqa: PLR2004  two digits are enough
