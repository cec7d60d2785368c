"""One process that plays the supervisors of many sessions: ``python -m tests.fakes.supervisors SOCKET LINES``.

It hears ``start SESSION NODE`` and ``stop SESSION`` on stdin and ends with it, says ``ready`` and then the name of each session that was told to stop by its
gateway. Streams come to the Unix socket SOCKET: a line ``attach SESSION`` or ``data SESSION``, answered by ``+`` or ``-``; then bytes as a node's. Each session
prints LINES lines a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.fakes.client import parts_of
from tests.fakes.node import FakeNode

from remote_gpu.errors import LinkProblem
from remote_gpu.frames import Frame, FrameReader, Kind, encode_json, join, preamble
from remote_gpu.transfer.frames import preamble as data_preamble

_PATIENCE = 20.0


class PeerStream:
    """The node's end of a stream, over a socket; see `FrameStream`."""

    holds_back = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        writer.write(preamble())

    async def send(self, frames: Sequence[Frame]) -> None:
        try:
            self._writer.write(join(frames))
            await self._writer.drain()
        except ConnectionError as error:
            raise LinkProblem("The gateway is gone.") from error

    async def receive(self) -> Sequence[Frame]:
        while True:
            try:
                data = await self._reader.read(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return []
            if frames := self._frames.feed(data):
                return frames

    async def aclose(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Supervisor(FakeNode):
    """One session's, whose kernel is idle. `told_to_stop` is called with its name."""

    def __init__(self, session: str, node: str, told_to_stop: Callable[[str], None]) -> None:
        super().__init__()
        self.session = session
        self.over = asyncio.Event()
        self.lines = 0
        self._about = {"session": session, "node": node, "pid": os.getpid(), "start_time": 1, "folder": f"/tmp/{session}", "gpus": []}
        kernel = {"state": "idle", "pid": os.getpid(), "incarnation": 1}
        self.answers = {
            "status": lambda _: {"kernel": kernel},
            "ends": lambda _: {},
            "log": lambda _: {"text": ""},
            "stop": lambda _: told_to_stop(session) or {},
        }

    def print(self) -> None:
        """One more line of a cell."""
        self.lines += 1
        self.publish(*parts_of("stream", {"name": "stdout", "text": f"line {self.lines} {time.time()}\n"}))

    async def carry(self, stream: PeerStream) -> None:
        """One stream, until either side ends."""
        ways = [asyncio.create_task(self._serve(stream)), asyncio.create_task(self.over.wait())]  # type: ignore[arg-type]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        await stream.aclose()
        ways[1].cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _read(self, stream: Any) -> None:
        await stream.send([encode_json(Kind.EVENT, {"event": "session", **self._about})])
        await super()._read(stream)


class Player:
    """All of them."""

    def __init__(self) -> None:
        self.sessions: dict[str, Supervisor] = {}
        self._news = asyncio.Event()

    async def obey(self, stdin: asyncio.StreamReader) -> None:
        """What the simulated cluster says, until it ends."""
        while line := await stdin.readline():
            verb, session, *node = line.decode().split()
            if verb == "start":
                self.sessions[session] = Supervisor(session, node[0], lambda name: print(name, flush=True))
            elif found := self.sessions.pop(session, None):
                found.over.set()
            self._news.set()
            self._news = asyncio.Event()

    async def on_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One command that carries a stream."""
        verb, session = (await reader.readline()).decode().split()
        found = await self._found(session)
        writer.write(b"+" if found else b"-")
        if found is None:
            writer.close()
        elif verb == "attach":
            await found.carry(PeerStream(reader, writer))
        else:
            writer.write(data_preamble())
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

    async def _found(self, session: str) -> Supervisor | None:
        """It, once its job has begun."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while session not in self.sessions:
                    await self._news.wait()
        return self.sessions.get(session)

    async def print(self, lines: float) -> None:
        """So many lines a second of each session, not all at the same moment."""
        while True:
            found = list(self.sessions.values())
            for session in found:
                session.print()
                await asyncio.sleep(1 / lines / len(found))
            if not found:
                await self._news.wait()


async def play(path: str, lines: float) -> None:
    """Until stdin ends."""
    player, stdin = Player(), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    server = await asyncio.start_unix_server(player.on_stream, path, backlog=1000)
    printing = asyncio.create_task(player.print(lines)) if lines else None
    print("ready", flush=True)
    await player.obey(stdin)
    if printing is not None:
        printing.cancel()
    server.close()


if __name__ == "__main__":
    asyncio.run(play(sys.argv[1], float(sys.argv[2])))
