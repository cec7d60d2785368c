"""What many sessions cost a gateway: up to 200 on a simulated Slurm, half of them in its queue, half running with a notebook that gets two lines a second.

The gateway is this module's own process (``python -m benchmarks.scale N SECONDS``), as it is otherwise; the scheduler is played in it, and its share of
the processor is taken off. Supervisors and notebooks are two more processes. Each stream is a command, as an ``ssh`` is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.slurm import SimulatedSlurm, simulated_cluster
from tests.fakes.slurm_scheduler import Scheduler

from benchmarks.remote import ROOT, environment, load, speed
from benchmarks.report import Row
from jupyter_remote_gpu.gateway import GatewayParts, build
from jupyter_remote_gpu.live import Terms
from jupyter_remote_gpu.models import AllocationState, ResourceRequest, Session
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish

LEVELS = (1, 10, 50, 100, 200)
LINES = 2.0
LATENCY = 0.02
AT_ONCE = 50
_SETTLED = 100.0
"""Seconds after which each session that waits is looked at as seldom as ever."""


class Lag:
    """How late the event loop is: what a pause of 20 ms takes more."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._task = asyncio.create_task(self._look(), name="lag")

    async def _look(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.02)
            self.values.append((time.perf_counter() - began - 0.02) * 1000)

    def since(self, count: int) -> tuple[float, float]:
        """(95th percentile, maximum) in ms of those after the first `count`."""
        found = sorted(self.values[count:])
        return found[int(0.95 * len(found))], found[-1]

    async def end(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@dataclass
class Site:
    """A gateway in this process, its simulated cluster, and the process that listens."""

    parts: GatewayParts
    machine: SimulatedSlurm
    notebooks: asyncio.subprocess.Process

    async def start(self, name: str) -> Session:
        """Ask for a session."""
        return (await self.parts.sessions.start(Wish(name=name, cluster="simulated", request=ResourceRequest(gpus=1))))[0]

    async def runs(self, session: Session) -> Session:
        """It, once it runs."""
        while (found := await self.parts.sessions.wait(session.id, session.stamp, 30)).state is AllocationState.PENDING:
            session = found
        if found.state is not AllocationState.RUNNING:
            raise RuntimeError(found.detail)
        return found

    async def waits(self, session: Session) -> None:
        """What the gateway does for a cell that waits for its session: one long poll after the other."""
        while session.state is AllocationState.PENDING:
            session = await self.parts.sessions.wait(session.id, session.stamp, 20)

    async def listen(self, session: Session) -> None:
        """Attach a notebook."""
        attachment, _ = await self.parts.sessions.attach(session.id, Terms())
        info = {name: value for name, value in attachment.front.connection_info.items() if name != "key"}
        assert self.notebooks.stdin is not None
        self.notebooks.stdin.write(json.dumps(info).encode() + b"\n")

    async def heard(self) -> dict[str, float]:
        """What the notebooks got since the last call."""
        assert self.notebooks.stdin is not None
        assert self.notebooks.stdout is not None
        self.notebooks.stdin.write(b"\n")
        found: dict[str, float] = json.loads(await self.notebooks.stdout.readline())
        return found

    def held(self) -> dict[str, float]:
        """What this process holds now."""
        status = Path("/proc/self/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        ours = {str(self.machine.pid), str(self.notebooks.pid)}
        threads = len(list(Path("/proc/self/task").iterdir()))
        return {
            "memory": memory / 1000,
            "threads": threads,
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "processes": len(set(children) - ours),
        }


@contextlib.asynccontextmanager
async def site(folder: Path, gpus: int) -> AsyncIterator[Site]:
    """A cluster with so many GPUs, and its gateway; at the end all is stopped."""
    machine = SimulatedSlurm(Scheduler(nodes=-(-gpus // 4), gpus=4 if gpus > 1 else 1), latency=LATENCY, lines=LINES)

    async def notebook_of(_: str) -> None:
        return None

    settings = Settings(clusters={}, data_folder=folder / "d", own_clusters=False)
    parts = build(
        settings, kind="server", log=logging.getLogger("scale"), notebook_of=notebook_of, ready={"simulated": simulated_cluster(machine)}
    )
    pipe = asyncio.subprocess.PIPE
    notebooks = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.listeners", stdin=pipe, stdout=pipe, cwd=ROOT)
    try:
        yield Site(parts, machine, notebooks)
    finally:
        await asyncio.gather(*(parts.sessions.stop(session.id) for session in parts.registry.sessions()))
        assert notebooks.stdin is not None
        notebooks.stdin.close()
        await notebooks.wait()
        await parts.aclose()


async def level(folder: Path, count: int, seconds: float, settle: float) -> dict[str, float]:
    """`count` sessions, half of them waiting (a single one runs)."""
    running = count - count // 2
    async with site(folder, running) as here:
        lag, began = Lag(), time.perf_counter()
        for first in range(0, running, 10):
            some = [await here.start(f"s{number}") for number in range(first, min(first + 10, running))]
            for session in await asyncio.gather(*(here.runs(session) for session in some)):
                await here.listen(session)
        waiting = [await here.start(f"s{number}") for number in range(running, count)]
        cells = [asyncio.create_task(here.waits(session), name=f"cell of {session.name}") for session in waiting]
        while not all(here.parts.sessions.peek(session.id).allocation.job_id for session in waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        early = await window(here, lag, min(10.0, seconds))
        await asyncio.sleep(settle)
        found = {"early commands": early["commands"], **await window(here, lag, seconds), **here.held()}
        began = time.perf_counter()
        listed = await here.parts.sessions.list()
        found["list"] = (time.perf_counter() - began) * 1000
        assert len(listed) == count
        await lag.end()
        for cell in cells:
            cell.cancel()
        await asyncio.gather(*cells, return_exceptions=True)
        return found


async def window(here: Site, lag: Lag, seconds: float) -> dict[str, float]:
    """What goes on in so many seconds."""
    await here.heard()
    commands, spent, lags = here.machine.ran.total(), here.machine.spent, len(lag.values)
    busy, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    heard, (late, latest) = await here.heard(), lag.since(lags)
    used = time.process_time() - busy - (here.machine.spent - spent)
    ran = here.machine.ran.total() - commands
    return {
        "commands": ran / took,
        "processor": 100 * used / took,
        "lag": late,
        "worst lag": latest,
        "lines": heard["lines"] / took,
        "delay": heard["median"],
        "late": heard["p95"],
    }


async def at_once(folder: Path, count: int) -> dict[str, float]:
    """`count` sessions, asked for at the same moment, on a cluster that has room for all."""
    async with site(folder, count) as here:
        first = await here.runs(await here.start("first"))
        await here.parts.sessions.stop(first.id)
        lag, before, began = Lag(), here.machine.ran.copy(), time.perf_counter()
        asked = await asyncio.gather(*(here.start(f"s{number}") for number in range(count)))
        found = {"asked": (time.perf_counter() - began) * 1000}
        running = await asyncio.gather(*(here.runs(session) for session in asked))
        found["running"] = (time.perf_counter() - began) * 1000
        await asyncio.gather(*(here.listen(session) for session in running))
        found["attached"] = (time.perf_counter() - began) * 1000
        found |= {f"ran {name}": number for name, number in (here.machine.ran - before).items()}
        found["worst lag"] = lag.since(0)[1]
        began = time.perf_counter()
        await asyncio.gather(*(here.parts.sessions.stop(session.id) for session in running))
        found["stopped"] = (time.perf_counter() - began) * 1000
        await lag.end()
        return found


SHOWN = {
    "early commands": ("controller commands, in the first 10 s", "1/s", ""),
    "commands": ("controller commands, later", "1/s", "flat"),
    "processor": ("gateway, processor", "% of a core", ""),
    "memory": ("gateway, memory", "MB", ""),
    "descriptors": ("gateway, open files", "", ""),
    "processes": ("gateway, processes below it", "", ""),
    "threads": ("gateway, threads", "", ""),
    "lag": ("gateway, event loop late (95 %)", "ms", ""),
    "worst lag": ("gateway, event loop late (most)", "ms", ""),
    "lines": ("lines that came", "1/s", ""),
    "delay": ("a printed line is seen", "ms", ""),
    "late": ("a printed line is seen (95 %)", "ms", ""),
    "list": ("listing all sessions", "ms", ""),
}


def measure(quick: bool = False) -> list[Row]:
    """Each number of sessions in a process of its own."""
    rows = [speed()]
    for count in LEVELS[:3] if quick else LEVELS:
        found = in_a_process(str(count), "10" if quick else "60", "5" if quick else str(_SETTLED))
        rows += [Row(name, f"{count} sessions", unit, (found[key],), "", goal, load()) for key, (name, unit, goal) in SHOWN.items()]
    rows.sort(key=lambda row: list(SHOWN.values()).index(next((each for each in SHOWN.values() if each[0] == row.case), SHOWN["list"])))
    for count in (10, AT_ONCE):
        found = in_a_process("at-once", str(count))
        rows += [
            Row(f"{count} sessions started at once", name, "ms" if " " not in name or "lag" in name else "", (value,), note=load())
            for name, value in found.items()
        ]
    return [*rows, speed()]


def in_a_process(*words: str) -> Mapping[str, float]:
    """What this module's process says."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.scale", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: Mapping[str, float] = json.loads(done.stdout)
    return found


def main(words: list[str]) -> None:
    """Be a gateway with many sessions, and print what they cost."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="c"))
    places: dict[str, Any] = {
        "JUPYTER_REMOTE_GPU_FOLDER": folder / "r",
        "JUPYTER_RUNTIME_DIR": folder / "rt",
        "JUPYTER_CONFIG_DIR": folder / "c",
    }
    for place in places.values():
        place.mkdir(mode=0o700)
    try:
        with environment({name: str(place) for name, place in places.items()}):
            what = (
                at_once(folder, int(words[1])) if words[0] == "at-once" else level(folder, int(words[0]), float(words[1]), float(words[2]))
            )
            print(json.dumps(asyncio.run(what)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
