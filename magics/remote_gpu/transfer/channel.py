"""This side of a data stream: one connected socket to the node's ``data`` process, and fresh memory for what comes."""

from __future__ import annotations

import mmap
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from remote_gpu.errors import BadFrame, LinkProblem, NoRoom, RemoteGpuError, from_problem
from remote_gpu.transfer.frames import Message, Op, Reader, StreamEnded, head_of, preamble, slices, write_all
from remote_gpu.transfer.packed import fill_block

__all__ = ["Channel", "Progress", "fresh", "human", "memory_left"]

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), often; it must be quick."""

_SILENCE = 60  # seconds without a byte after which a stream is given up; a busy node says WAIT meanwhile
_AHEAD = 4 << 20  # bytes that the socket may hold; the system may allow less
_LAST_WORDS = 2


class Channel:
    """Owns `connection`. Every method raises `LinkProblem` when the stream breaks; then only `close` is left."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.seed = 0
        self.cwd = ""
        self.broken = False
        """Whether it stopped in the middle of a message."""
        self.pause = 0.0
        """Seconds that the node's quickest answer took: a round trip."""
        self._marks: deque[tuple[float, Callable[[float], None]]] = deque()
        self._reached = 0.0
        try:
            connection.setblocking(True)
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _AHEAD)
            self._limit(_SILENCE)
            self._reader = Reader(connection.fileno())
            self._say_hello()
        except BaseException:
            connection.close()
            raise

    def _say_hello(self) -> None:
        try:
            write_all(self._socket.fileno(), preamble())
            self._reader.greet()
        except OSError as error:
            raise LinkProblem(f"The data stream did not open: {error}.") from error
        hello = self.receive(Op.HELLO).meta
        try:
            self.seed = int(str(hello["seed"]), 16)
        except (KeyError, ValueError) as error:
            raise BadFrame("The node's data process did not say its seed.") from error
        self.cwd = str(hello.get("cwd") or "")

    def close(self) -> None:
        """Let go of the stream; the node's process ends."""
        self._socket.close()

    def send(
        self, op: Op, meta: dict[str, Any], body: bytes | memoryview = b"", *, packed: bool = False, told: Progress | None = None
    ) -> None:
        """Send one message; `told` is called as its body leaves. An error that the node told meanwhile is raised."""
        view = memoryview(body)
        descriptor = self._socket.fileno()
        try:
            write_all(descriptor, head_of(op, meta, len(view), packed=packed))
            done = 0
            for piece in slices(view):
                write_all(descriptor, piece)
                done += len(piece)
                if told is not None:
                    told(done, len(view))
        except OSError as error:
            raise self._why(error) from error

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes of a body whose head was sent by `send_head`."""
        try:
            write_all(self._socket.fileno(), data)
        except OSError as error:
            raise self._why(error) from error

    def send_head(self, op: Op, meta: dict[str, Any], size: int) -> None:
        """Begin a message whose body follows by `write`."""
        self.write(head_of(op, meta, size))

    def receive(self, *expected: Op) -> Message:
        """The next message, which must be one of `expected`; raises the error that the node tells instead."""
        while True:
            try:
                message = self._reader.message()
            except OSError as error:
                raise LinkProblem(_words(error)) from error
            if message is None:
                raise StreamEnded("The data stream ended.")
            if message.op == Op.FAILED:
                raise from_problem(message.meta.get("problem") or {})
            if message.op in expected:
                return message
            if message.op == Op.ECHO and self._marks:
                self._reach()
            elif message.op != Op.WAIT:
                raise BadFrame(f"The node answered with message {message.op} on the data stream.")

    def ask(self, op: Op, meta: dict[str, Any], *expected: Op) -> Message:
        """Send a message and wait for its answer."""
        began = time.monotonic()
        self.send(op, meta)
        answer = self.receive(*expected)
        took = time.monotonic() - began
        self.pause = min(self.pause or took, took)
        return answer

    def mark(self, began: float, told: Callable[[float], None]) -> None:
        """Have the node say when all that was sent has reached it, whatever is between.

        `told` gets the seconds that this took since `began` (monotonic), or since the mark before was reached; it is called by `listen` or `receive`.
        """
        self.send(Op.ECHO, {"size": 0})
        self._marks.append((began, told))

    def listen(self, *, wait: bool = False) -> None:
        """Take what the node has said of marks; with `wait`, at least one of them."""
        while self._marks and (wait or select.select([self._socket], [], [], 0)[0]):
            self.broken = True
            self.receive(Op.ECHO)
            self.broken = False
            self._reach()
            wait = False

    def _reach(self) -> None:
        (began, told), now = self._marks.popleft(), time.monotonic()
        told(now - max(began, self._reached))
        self._reached = now

    def fill(self, view: memoryview, *, packed: bool = False) -> int:
        """Take a body's next bytes, or the next block of a packed one; returns how many bytes came."""
        try:
            if packed:
                return fill_block(self._reader, view)
            self._reader.fill(view)
            return len(view)
        except OSError as error:
            raise LinkProblem(_words(error)) from error

    def _limit(self, seconds: int) -> None:
        value = struct.pack("ll", seconds, 0)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, value)

    def _why(self, error: OSError) -> RemoteGpuError:
        """The stream broke while we sent: what the node said before it went."""
        self.broken = True
        with suppress(OSError, RemoteGpuError):
            self._limit(_LAST_WORDS)
            while (message := self._reader.message()) is not None:
                if message.op == Op.FAILED:
                    return from_problem(message.meta.get("problem") or {})
                self._reader.skip(message.size)
        return LinkProblem(_words(error))


def _words(error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return f"The data stream brought nothing for {_SILENCE} s."
    return f"The data stream broke: {error.strerror or error}."


def memory_left() -> int:
    """Bytes of memory that this machine has left; a large number where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 62


def fresh(sizes: Sequence[int]) -> list[memoryview]:
    """Writable memory for so many bytes each, in huge pages where the system gives them. Raises `NoRoom` when it does not fit here."""
    need, left = sum(sizes), memory_left()
    if need > left:
        raise NoRoom(f"{human(need)} are to come, and this machine has {human(left)} of memory left.", hint="Fetch a part of it.")
    return [_memory(size) for size in sizes]


def _memory(size: int) -> memoryview:
    numpy = sys.modules.get("numpy")
    if numpy is not None and size:
        return memoryview(numpy.empty(size, dtype="u1"))  # numpy asks for huge pages
    if size < mmap.PAGESIZE:
        return memoryview(bytearray(size))
    made = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            made.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(made)


def human(size: float) -> str:
    """A size for people: ``3.2 GB``."""
    units = ["B", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:  # noqa: PLR2004  decimal units
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.1f} {units[0]}"  # noqa: PLR2004  three digits
