"""The command behind a data stream, and the socket that a notebook gets of it: bytes take one hop, past the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from remote_gpu.errors import LinkProblem

__all__ = ["DataCommand"]

_AHEAD = 4 << 20  # bytes that the socket may hold on their way to the command; the system may allow less
_LEAVE = 2.0  # seconds that the command has to end when its stream ends
_TAIL = 4096


class DataCommand:
    """A command (``… node data SESSION``) whose stdin and stdout are one end of a socket pair; `take` gives the other one away."""

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket, name: str) -> None:
        self._process = process
        self._connection: socket.socket | None = connection
        self._name = name
        self._said = b""
        self._listening = asyncio.create_task(self._listen(), name=f"errors of {name}")

    @classmethod
    async def open(cls, argv: Sequence[str], env: Mapping[str, str]) -> DataCommand:
        """Run `argv` with exactly the environment `env`. Raises `LinkProblem` when it cannot be run."""
        here, there = socket.socketpair()
        try:
            for each in (here, there):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _AHEAD)
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=there.fileno(),
                stdout=there.fileno(),
                stderr=asyncio.subprocess.PIPE,
                env=dict(env),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            here.close()
            raise LinkProblem(f"The command {argv[0]} cannot be run: {error.strerror or error}.") from error
        except BaseException:
            here.close()
            raise
        finally:
            there.close()
        return cls(process, here, Path(argv[0]).name)

    @property
    def ended(self) -> bool:
        """Whether the command is over."""
        return self._process.returncode is not None

    async def spoken(self, limit: float = 60.0) -> None:
        """Wait until the command says something, and leave that in the stream. Raises `LinkProblem`, with its last words when it ended."""
        connection, loop = self._connection, asyncio.get_running_loop()
        if connection is None:
            return
        connection.setblocking(False)
        heard = asyncio.Event()
        loop.add_reader(connection, heard.set)
        try:
            async with asyncio.timeout(limit):
                await heard.wait()
            if not connection.recv(1, socket.MSG_PEEK):
                raise LinkProblem(await self.wait() or f"The command {self._name} ended without a word.")
        except TimeoutError as error:
            raise LinkProblem(f"The command {self._name} said nothing for {limit:g} s.") from error
        except ConnectionError as error:
            raise LinkProblem(await self.wait() or f"The command {self._name} ended: {error}.") from error
        finally:
            loop.remove_reader(connection)
        connection.setblocking(True)

    def take(self) -> socket.socket:
        """The stream's other end; it belongs to the caller, and its closing ends the command."""
        if self._connection is None:
            raise LinkProblem("This data stream was given away already.")
        taken, self._connection = self._connection, None
        return taken

    async def wait(self) -> str:
        """Wait for the end of the command; returns what it said of its failure, "" when it did not fail."""
        await asyncio.shield(self._listening)  # who waits may be cancelled; `aclose` still needs it
        status = await self._process.wait()
        said = self._said.decode(errors="replace").strip()
        return f"The command {self._name} ended with exit status {status}." + (f" It said: {said}" if said else "") if status else ""

    async def aclose(self) -> None:
        """End the command, by its stream and else by signals; it is reaped when this returns."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await asyncio.shield(self._listening)
                    await self._process.wait()
                    break
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()

    async def _listen(self) -> None:
        stream = self._process.stderr
        while stream is not None and (data := await stream.read(_TAIL)):
            self._said = (self._said + data)[-_TAIL:]
        await self._process.wait()
