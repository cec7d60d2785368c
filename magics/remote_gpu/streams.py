"""Streams of frames, and the one that the gateway uses: the stdin and stdout of a command.

A stream carries frames in both directions, in order, until it breaks; making it whole again is the link's work. A
`CommandStream` runs an attach command (``… node attach SESSION``, ``ssh HOST … attach SESSION``) over a socket pair.
Both ends have sent their preamble and seen the other's before a stream is handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from remote_gpu.errors import AccessRefused, BadFrame, LinkProblem, RemoteGpuError, SessionEnded, VersionMismatch
from remote_gpu.frames import Frame, FrameReader, join, preamble

__all__ = ["NO_SESSION", "CommandStream", "FrameStream", "close_surely"]

NO_SESSION = 3
"""The exit status of an attach command that found no such session."""

_WRITE_AHEAD = 256 * 1024  # bytes in our own buffer above which `send` waits; the socket holds about as much again
_READ_AHEAD = 1024 * 1024  # bytes received and not yet taken above which reading pauses
_TAIL = 4096  # characters of a command's stderr that are kept
_QUOTED = 600  # of which an error message quotes so many
_LEAVE = 1.0  # seconds that a command has to end when its input ends, and again when it is told to
_REFUSED = re.compile(
    r"permission denied \(|host key verification failed|remote host identification has changed"
    r"|too many authentication failures|authentication failed|no more authentication methods",
    re.IGNORECASE,
)


class FrameStream(Protocol):
    """Carries frames until it breaks. Used by one link, from one event loop; one `receive` and one `send` at a time."""

    @property
    def holds_back(self) -> bool:
        """Whether a small message waits in it until TCP has acknowledged the one before, as in Slurm's ``srun``."""
        ...

    async def send(self, frames: Sequence[Frame]) -> None:
        """Hand `frames` to the transport; waits while more than about 512 KiB are on their way. Raises `LinkProblem`."""
        ...

    async def receive(self) -> Sequence[Frame]:
        """The frames that came since the last call, at least one; empty at the end of the stream.

        Raises `LinkProblem` (or `SessionEnded`) when the stream broke and the reason is known.
        """
        ...

    async def aclose(self) -> None:
        """Give up the stream and everything behind it, after what was sent has left. Idempotent, never raises."""
        ...


class FrameProtocol(asyncio.Protocol):
    """Frames over any asyncio transport: preambles, batches of frames, back-pressure both ways."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._frames: list[Frame] = []
        self._held = 0
        self._writable = asyncio.Event()
        self._readable = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self.problem: RemoteGpuError | None = None
        self.greeted = asyncio.Event()
        """Set once the peer's preamble was seen, or the stream ended without it."""
        self.closed = asyncio.Event()

    @property
    def noise(self) -> str:
        """What came instead of a preamble."""
        return self._reader.noise()

    @property
    def understood(self) -> bool:
        """Whether the peer's preamble was seen and fits."""
        return self._reader.version is not None and self.problem is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preamble."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream needs a transport for both directions")
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        transport.write(preamble())
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; a stream that is not ours ends here."""
        try:
            frames = self._reader.feed(data)
        except LinkProblem as problem:
            self.problem = problem
            self._open().abort()
            return
        if self._reader.version is not None:
            self.greeted.set()
        if not frames:
            return
        self._frames += frames
        self._held += len(data)
        if self._held > _READ_AHEAD:
            self._open().pause_reading()
        self._readable.set()

    def pause_writing(self) -> None:
        """Asyncio says that its buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Asyncio says that its buffer has room."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits."""
        if self.problem is None and exc is not None:
            self.problem = LinkProblem(f"The stream to the node broke: {exc}.")
        self.closed.set()
        for event in (self.greeted, self._readable, self._writable):
            event.set()

    async def send(self, frames: Sequence[Frame]) -> None:
        """As `FrameStream.send`."""
        if self.closed.is_set():
            raise self.problem or LinkProblem("The stream to the node is closed.")
        self._open().write(join(frames))
        if not self._writable.is_set():
            await self._writable.wait()

    async def receive(self) -> Sequence[Frame]:
        """As `FrameStream.receive`."""
        while not self._frames:
            if self.closed.is_set():
                if self.problem is not None:
                    raise self.problem
                return ()
            self._readable.clear()
            await self._readable.wait()
        frames, self._frames = self._frames, []
        if self._held > _READ_AHEAD and not self.closed.is_set():
            self._open().resume_reading()
        self._held = 0
        return frames

    def _open(self) -> asyncio.Transport:
        if self._transport is None:
            raise LinkProblem("The stream to the node is not open.")
        return self._transport


class _Tail(asyncio.Protocol):
    """Keeps the end of what a command says on stderr."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        del self._bytes[:-_TAIL]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self.closed.set()

    def text(self) -> str:
        return self._bytes.decode(errors="replace").strip()


class CommandStream:
    """The stdin and stdout of a command that runs in a session of its own; see `FrameStream` for the methods."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        protocol: FrameProtocol,
        transport: asyncio.Transport,
        errors: asyncio.BaseTransport,
        tail: _Tail,
        *,
        name: str,
    ) -> None:
        self._process = process
        self._protocol = protocol
        self._transport = transport
        self._errors = errors
        self._tail = tail
        self._name = name
        self._leaving = False
        self.holds_back = False
        """See `FrameStream`."""

    @property
    def pid(self) -> int:
        """The command's process."""
        return self._process.pid

    @classmethod
    async def open(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        *,
        timeout: float = 60,  # noqa: ASYNC109
    ) -> CommandStream:
        """Run `argv` with exactly the environment `env` (None: this process's) and wait for the peer's preamble.

        Raises `LinkProblem` with the command's own words when it cannot be run, prints something else, ends early or
        says nothing for `timeout` seconds; `AccessRefused` when it was a login that failed; `SessionEnded` when it
        exits with `NO_SESSION`; `VersionMismatch`.
        """
        here, there = socket.socketpair()
        try:
            stream = await cls._run(argv, env, cwd, here, there)
        except BaseException:
            here.close()
            raise
        finally:
            there.close()
        try:
            await stream._greet(timeout)  # noqa: SLF001
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def _greet(self, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._protocol.greeted.wait()
        except TimeoutError as error:
            raise LinkProblem(f"The command {self._name} said nothing for {limit:g} s.{self._words()}") from error
        if not self._protocol.understood:
            raise await self._why()

    @classmethod
    async def _run(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | Path | None,
        here: socket.socket,
        there: socket.socket,
    ) -> CommandStream:
        here.setblocking(False)
        reading, writing = os.pipe()
        errors = os.fdopen(reading, "rb", buffering=0)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=there.fileno(), stdout=there.fileno(), stderr=writing, env=env, cwd=cwd, start_new_session=True
            )
        except OSError as error:
            errors.close()
            raise LinkProblem(f"The command {argv[0]} cannot be run: {error.strerror or error}.") from error
        except BaseException:
            errors.close()
            raise
        finally:
            os.close(writing)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(FrameProtocol, sock=here)
        pipe, tail = await loop.connect_read_pipe(_Tail, errors)
        return cls(process, protocol, transport, pipe, tail, name=Path(argv[0]).name)

    async def send(self, frames: Sequence[Frame]) -> None:
        """As `FrameStream.send`."""
        await self._protocol.send(frames)

    async def receive(self) -> Sequence[Frame]:
        """As `FrameStream.receive`; an end without `aclose` is told as the command tells it."""
        try:
            frames = await self._protocol.receive()
        except LinkProblem as problem:
            raise await self._why() from problem
        if not frames and not self._leaving:
            raise await self._why()
        return frames

    async def aclose(self) -> None:
        """End the command: its input first, then by signal; it is reaped when this returns."""
        self._leaving = True
        self._transport.close()
        if not self._protocol.closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await self._protocol.closed.wait()
        if not self._protocol.closed.is_set():
            self._transport.abort()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if await self._ended(number):
                break
        self._errors.close()
        await self._tail.closed.wait()
        await self._protocol.closed.wait()

    async def _ended(self, number: signal.Signals | None) -> bool:
        if self._process.returncode is None and number is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
        try:
            async with asyncio.timeout(_LEAVE):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def _why(self) -> RemoteGpuError:
        problem = self._protocol.problem
        if isinstance(problem, BadFrame | VersionMismatch):
            return problem
        if not self._protocol.closed.is_set():
            self._transport.abort()
        if not await self._ended(None):
            return problem or LinkProblem(f"The command {self._name} closed its output.{self._words()}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):  # its last words are in the pipe already
                await self._tail.closed.wait()
        status = self._process.returncode
        said = self._tail.text()
        if status == NO_SESSION:
            return SessionEnded(said.splitlines()[-1] if said else "The node has no such session any more.")
        if _REFUSED.search(said):
            return AccessRefused(f"The login failed.{self._words()}", hint="Mend it, then connect again; it is not tried again by itself.")
        return LinkProblem(f"The command {self._name} ended with exit status {status}.{self._words()}")

    def _words(self) -> str:
        said = "\n".join(part for part in (self._protocol.noise, self._tail.text()) if part)
        return f" It said: {said[-_QUOTED:]}" if said else ""


async def close_surely(stream: FrameStream) -> None:
    """Close `stream`, even when the caller is cancelled meanwhile: a command that was started is ended."""
    closing = asyncio.ensure_future(stream.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise
