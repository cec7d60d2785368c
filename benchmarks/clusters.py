"""What the clusters cost: starts in an idle Slurm and on a machine behind ssh, warm cells, and commands. Real Slurm and sshd, on this machine.

The rival is what people do by hand: a plain ipykernel in a batch job (or in the background), jupyter_client at five ports that ssh forwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab.lab import Lab

from benchmarks import stamps
from benchmarks.notebook import Notebook, notebook, rounds
from benchmarks.remote import Places, lab, load, places, speed
from benchmarks.report import Row
from benchmarks.rivals import background, batch_job, by_connection, by_forwards
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.settings import Settings
from remote_gpu.gateway import Gateway

LOAD = "%load_ext remote_gpu"
WARMS_UP = 5.0
RESTS = 2.0
"""Seconds without a job before each start in Slurm, and up to one more, by chance: its controller hands jobs out once a second."""
FIRST, WITHOUT = "first cell, no session yet", "the same, without Slurm's own wait for its next turn"
SLURM, HERE, SSH = "slurm", "here", "ssh"
OPTIONS = ("--account=dri", "--partition=hopper", "--time=10", "--mem=1000", "--gpus-per-node=1")
_names = itertools.count()


def clusters(site: Lab) -> dict[str, Any]:
    """A Slurm cluster over ssh, the same from its login node, and a machine over ssh."""
    shared = {
        "kind": "slurm",
        "python": str(site.python),
        "account": "dri",
        "partition": "hopper",
        "request": {"time": 600, "memory_mb": 1000},
    }
    return {
        "local": {"kind": "local"},
        SSH: {"kind": "ssh", "host": "box", "python": str(site.python)},
        SLURM: {**shared, "host": "bristol"},
        HERE: shared,
    }


def rest() -> None:
    """Let Slurm come to rest."""
    time.sleep(RESTS + random.random())


class Starts:
    """First cells of new sessions, each from a new notebook, and where their time goes."""

    def __init__(self, site: Lab, mine: Places) -> None:
        self._site = site
        self._log = mine.base / "trace.jsonl"
        self._mine = mine
        self.values: dict[tuple[str, str], list[float]] = {}
        self.phases: dict[str, list[dict[str, float]]] = {}

    def note(self, case: str, who: str, value: float) -> None:
        """Keep a value in ms."""
        self.values.setdefault((case, who), []).append(value)

    @contextlib.contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """A gateway that knows nothing yet."""
        with self._mine.gateway(self._log) as record, Gateway(record) as client:
            yield client

    def first_cell(self, client: Gateway, cluster: str, who: str = "") -> float:
        """Milliseconds from running a remote cell for which no session exists to its output; as `who` it counts."""
        name = f"bench-{next(_names)}"
        with notebook(LOAD) as book:
            if cluster != SSH:
                rest()
            sent = time.time()
            run = book.run(f"%%remote_gpu --cluster {cluster} --session {name}\nprint('seen')")
            seen = next(at for at, text in run.arrivals if "seen" in text)
        try:
            if who:
                self.note(FIRST, who, (seen - sent) * 1000)
                self._explain(client, cluster, who, name, sent, seen)
                if stamps.SLURMS in (phases := self.phases[who][-1]):
                    self.note(WITHOUT, who, (seen - sent) * 1000 - phases[stamps.SLURMS])
        finally:
            client.stop_session(name)
        return (seen - sent) * 1000

    def plain_job(self, who: str, host: str, master: str, folder: str) -> None:
        """A plain kernel in a batch job, reached by hand."""
        rest()
        took, job, submitted = batch_job(host, master, str(self._site.python), folder, OPTIONS)
        self.note(FIRST, who, took)
        self.note(WITHOUT, who, took - (stamps.launch_of(self._site.bristol, job) - submitted) * 1000)

    def _explain(self, client: Gateway, cluster: str, who: str, name: str, sent: float, seen: float) -> None:
        found, session = stamps.events(self._log, sent), client.session(name)
        if cluster == SSH:
            phases = dict(stamps.milliseconds(stamps.of_ssh(found, sent, seen)))
        else:
            machine = self._site.bristol.machines[session.node]
            folder = machine.temporary / Path(session.folder).relative_to("/tmp")
            parts = stamps.of_slurm(found, sent, seen, self._site, folder)
            phases = {name: value for part in parts for name, value in stamps.milliseconds(part)}
        self.phases.setdefault(who, []).append(phases)

    def rows(self, bases: dict[str, str], goals: dict[str, str]) -> list[Row]:
        """All that was measured."""
        rows = [
            Row(case, who, "ms", tuple(values), bases.get(who, ""), goals.get(who, ""), load())
            for (case, who), values in self.values.items()
        ]
        for who, found in self.phases.items():
            rows += [Row(f"of which, {who}", name, "ms", values) for name, values in stamps.medians(found).items()]
        return rows


def starts(site: Lab, mine: Places, count: int) -> list[Row]:
    """Sessions that start, beside plain kernels that do."""
    found, python, home = Starts(site, mine), str(site.python), str(site.alice.home)
    shared = str(site.folder / f"cache-{mine.base.name}")
    with found.gateway() as client:  # the logins are made, and the node's half is brought there
        for cluster in (SLURM, SSH):
            found.note("first cell, never been there: login, node's half", cluster, found.first_cell(client, cluster))
    bristol, box = mine.master("bristol"), mine.master("box")
    for _ in range(count):
        found.plain_job("plain kernel, sbatch over ssh", "bristol", bristol, home)
        with found.gateway() as client:
            found.first_cell(client, SLURM, "Slurm over ssh, first session")
            found.first_cell(client, SLURM, "Slurm over ssh, second session")
        found.plain_job("plain kernel, sbatch here", "", "", shared)
        with found.gateway() as client:
            found.first_cell(client, HERE, "Slurm here")
        found.note(FIRST, "plain kernel, ssh", plain_over_ssh(box, python, home))
        with found.gateway() as client:
            site.ssh("box", f"{python} {bundle_of(site)} zygote stop")
            found.first_cell(client, SSH, "ssh, cold, first session")
            time.sleep(WARMS_UP)
            found.first_cell(client, SSH, "ssh, warm, second session")
    slurm, here, ssh = "plain kernel, sbatch over ssh", "plain kernel, sbatch here", "plain kernel, ssh"
    bases = {"Slurm here": here} | {who: ssh if who.startswith("ssh, ") else slurm for who in found.phases if who != "Slurm here"}
    return found.rows(bases, {who: "≤ 1.5 × plain" for who in found.phases if "Slurm" in who})


def bundle_of(site: Lab) -> str:
    """The node's half in alice's home."""
    return str(max((site.alice.home / ".cache/jupyter-remote-gpu/b").glob("*.pyz"), key=lambda path: path.stat().st_mtime))


def plain_over_ssh(master: str, python: str, home: str) -> float:
    """Milliseconds from starting a plain kernel in the background there to the first output of its first cell, by five forwards."""
    began = time.perf_counter()
    with background("box", master, python, home) as info, by_forwards("box", master, info) as book:
        book.run("print(1)")
        return (time.perf_counter() - began) * 1000


def warm(site: Lab, mine: Places, count: int) -> list[Row]:
    """No-op cells of sessions that are there, by turns."""
    box, python, home = mine.master("box"), str(site.python), str(site.alice.home)
    with contextlib.ExitStack() as stack:
        client = Gateway(stack.enter_context(mine.gateway()))
        cases: dict[str, Callable[[], float]] = {}
        for who, cluster in {"local": "local", "ssh": SSH, "Slurm over ssh": SLURM, "Slurm here": HERE}.items():
            cell = f"%%remote_gpu --cluster {cluster} --session warm-{cluster}\npass"
            book = stack.enter_context(notebook(LOAD, cell))
            stack.callback(client.stop_session, f"warm-{cluster}")
            cases[who] = timed(book, cell)
        info = stack.enter_context(background("box", box, python, home))
        ways = {
            "plain kernel, ssh -N -L": by_connection("box", info, ["-N"]),
            "plain kernel, ssh -L with a session": by_connection("box", info, ["-T"], "cat"),
            "plain kernel, forwards of a master": by_forwards("box", box, info),
        }
        cases |= {who: timed(stack.enter_context(way), "pass") for who, way in ways.items()}
        cases["plain kernel, here"] = timed(stack.enter_context(notebook("pass")), "pass")
        values = rounds(count, cases)
    goals = {"ssh": "≤ 1.3 × local", "Slurm over ssh": "local + 10 ms", "Slurm here": "local + 10 ms"}
    local = sorted(values["local"])[count // 2]
    return [
        Row("no-op cell, warm", who, "ms", found, "local" if who != "local" else "", goals.get(who, ""), f"{added(found, local)}{load()}")
        for who, found in values.items()
    ]


def added(values: tuple[float, ...], base: float) -> str:
    """By how much their median is above `base`."""
    return f"local {sorted(values)[len(values) // 2] - base:+.1f} ms; "


def timed(book: Notebook, cell: str) -> Callable[[], float]:
    """Runs a cell to its end; milliseconds."""
    return lambda: book.run(cell).total * 1000


def commands(site: Lab, mine: Places, count: int) -> list[Row]:
    """A command by the agent beside one by ssh on the same login."""
    return asyncio.run(_commands(site, mine, mine.master("bristol"), count))


async def _commands(site: Lab, mine: Places, master: str, count: int) -> list[Row]:
    logins = Logins()
    made = Clusters(Settings(clusters=clusters(site), data_folder=mine.base / "d"), logins=logins)
    machine = made[SLURM]._machine  # type: ignore[attr-defined]  # noqa: SLF001
    cases: dict[str, Callable[[], Any]] = {}
    for words in (["true"], ["squeue", "--me"]):
        cases[f"{words[0]}, by the agent"] = lambda words=words: machine.run(words)
        cases[f"{words[0]}, by ssh on the master"] = lambda words=words: _run(
            ["ssh", "-S", master, "-o", "BatchMode=yes", "bristol", *words]
        )
    cases["ssh -O check"] = lambda: _run(["ssh", "-S", master, "-O", "check", "bristol"])
    values: dict[str, list[float]] = {who: [] for who in cases}
    try:
        for turn in range(count + 1):
            for who, case in cases.items():
                began = time.perf_counter()
                await case()
                if turn:
                    values[who].append((time.perf_counter() - began) * 1000)
    finally:
        await made.aclose()
        await logins.aclose()
    return [
        Row(
            "a command on the login node",
            who,
            "ms",
            tuple(found),
            who.replace("by the agent", "by ssh on the master") * ("agent" in who),
            "",
            load(),
        )
        for who, found in values.items()
    ]


async def _run(argv: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await process.wait()


def measure(quick: bool = False) -> list[Row]:
    """All cases, in one lab."""
    rows = [speed()]
    with lab() as site, places(site, clusters(site)) as mine:
        rows += starts(site, mine, 2 if quick else 7)
        rows += warm(site, mine, 10 if quick else 100)
        rows += commands(site, mine, 10 if quick else 100)
    return [*rows, speed()]
