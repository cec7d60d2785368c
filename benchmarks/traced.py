"""A headless gateway that writes down what it does, and when: ``python -m benchmarks.traced FILE``.

FILE gets a line of JSON for each command that the gateway runs, each question to an agent, each frame of a link, each step of a launch and each
request, with the time of day. It is the gateway as it is otherwise; a line costs some twenty microseconds.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jupyter_remote_gpu import headless
from jupyter_remote_gpu.clusters.agents import Agent
from jupyter_remote_gpu.handlers.base import Handler
from jupyter_remote_gpu.launches import Launches
from remote_gpu.frames import Frame, Kind
from remote_gpu.streams import FrameProtocol, FrameReader

_PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sinfo", "srun", "start", "attach", "data", "list", "stop", "zygote")

Note = Callable[..., None]


def what_runs(argv: Iterable[str]) -> str:
    """What a command does, in a word or two: where one program runs another, the innermost that is known."""
    words = [word.rpartition("/")[2] for text in argv for word in str(text).split()]
    inner = [word for word in words if word in _PROGRAMS]
    if "-O" in words or "-M" in words or "-G" in words:
        return f"ssh {next(word for word in ('-O', '-M', '-G') if word in words)}"
    outer = "ssh " if words[:1] == ["ssh"] else ""
    return outer + (" ".join(dict.fromkeys(inner)) or ("agent" if "exec(sys.stdin" in " ".join(words) else words[0]))


def _trace_commands(note: Note) -> None:
    run, wait = asyncio.create_subprocess_exec, asyncio.subprocess.Process.wait

    async def traced(*argv: str, **more: Any) -> asyncio.subprocess.Process:
        note("runs", words=what_runs(argv))
        process = await run(*argv, **more)
        note("run", words=what_runs(argv), pid=process.pid)
        return process

    async def waited(self: asyncio.subprocess.Process) -> int:
        status = await wait(self)
        note("ended", pid=self.pid, status=status)
        return status

    asyncio.create_subprocess_exec = traced  # type: ignore[assignment]
    asyncio.subprocess.Process.wait = waited  # type: ignore[method-assign]


def _trace_agents(note: Note) -> None:
    begin, ask = Agent._begin, Agent._ask

    async def begun(self: Agent, bundle: Any) -> None:
        await begin(self, bundle)
        note("agent is open")

    async def asked(self: Agent, request: dict[str, Any], limit: float) -> dict[str, Any]:
        words = what_runs(request.get("run", ["ping"]))
        note("ask", words=words)
        try:
            return await ask(self, request, limit)
        finally:
            note("answer", words=words)

    Agent._begin, Agent._ask = begun, asked  # type: ignore[method-assign]


def _trace_frames(note: Note) -> None:
    send, feed = FrameProtocol.send, FrameReader.feed

    def told(frames: Iterable[Frame]) -> list[str]:
        return [f"{frame.kind.name} {frame.json()['event']}" if frame.kind is Kind.EVENT else frame.kind.name for frame in frames]

    async def sent(self: FrameProtocol, frames: Any) -> None:
        note("out", frames=told(frames), size=sum(len(frame.payload) for frame in frames))
        await send(self, frames)

    def fed(self: FrameReader, data: bytes) -> list[Frame]:
        frames = feed(self, data)
        events = [frame.json() for frame in frames if frame.kind is Kind.EVENT]
        note("in", frames=told(frames), size=len(data), events=events)
        return frames

    FrameProtocol.send = sent  # type: ignore[method-assign]
    FrameReader.feed = fed  # type: ignore[method-assign]


def _trace_launches(note: Note) -> None:
    record = Launches._record

    def recorded(self: Launches, allocation: Any) -> None:
        record(self, allocation)
        note("step", session=allocation.session, state=allocation.state, detail=allocation.detail, job=allocation.job_id)

    Launches._record = recorded  # type: ignore[method-assign]


def _trace_requests(note: Note) -> None:
    prepare, finish = Handler.prepare, Handler.on_finish

    async def prepared(self: Handler) -> None:
        note("request", words=f"{self.request.method} {self.request.path}")
        await prepare(self)

    def finished(self: Handler) -> None:
        note("served", words=f"{self.request.method} {self.request.path}")
        finish(self)

    Handler.prepare, Handler.on_finish = prepared, finished  # type: ignore[method-assign]


def _note(file: Any, what: str, **more: Any) -> None:
    file.write(json.dumps({"at": time.time(), "what": what, **more}) + "\n")


def main() -> None:
    """Trace, then be the gateway."""
    file = Path(sys.argv[1]).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    note = functools.partial(_note, file)
    for trace in (_trace_commands, _trace_agents, _trace_frames, _trace_launches, _trace_requests):
        trace(note)
    sys.exit(headless.serve(idle=0))


if __name__ == "__main__":
    main()
