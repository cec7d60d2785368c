"""A login node of a Slurm cluster that is simulated: it runs what our code runs there, and streams reach supervisors that one other process plays.

`SimulatedSlurm` is a `Machine`. Commands are answered by a `Scheduler` in this process, in the columns that they ask for; files are kept in memory. The
command of a stream is a real process, as an ``ssh`` or ``srun`` is, and carries frames to ``tests.fakes.supervisors``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tests.fakes.slurm_scheduler import Job, Scheduler

from jupyter_remote_gpu.clusters.machines import QUICK, Done, Hello
from jupyter_remote_gpu.clusters.options import DataWay, RemoteOptions
from jupyter_remote_gpu.clusters.slurm import SlurmCluster
from jupyter_remote_gpu.clusters.slurm_script import session_of
from jupyter_remote_gpu.settings import Settings

__all__ = ["SimulatedSlurm", "simulated_cluster"]

ROOT = Path(__file__).parent.parent.parent
_CARRY = """
import sys
sys.path[:0] = [sys.argv[1]]
from _socket import AF_UNIX, SOCK_STREAM, socket
from remote_gpu.node.pump import pump
peer = socket(AF_UNIX, SOCK_STREAM)
peer.connect(sys.argv[2])
peer.sendall(f"{sys.argv[3]}\\n".encode())
if peer.recv(1) != b"+":
    print("There is no such session.", file=sys.stderr)
    sys.exit(3)
pump(peer.fileno())
"""
_RULES = {"config": "PrivateData             = none\n", "partition": "PartitionName=main Default=YES MaxTime=1-00:00:00 State=UP\n"}
_REFUSE = 'printf "%s\\n" "$1" >&2; exit 1'


class SimulatedSlurm:
    """One login node, by its `scheduler`. `latency` is how long a command takes (seconds), `lines` how many each session prints in a second.

    `ran` counts the commands by program; `spent` is the processor time (seconds) that this process took to play them.
    """

    name = "simulated"

    def __init__(self, scheduler: Scheduler | None = None, *, latency: float = 0.005, lines: float = 0.0) -> None:
        self.scheduler = scheduler or Scheduler()
        self.scheduler.started, self.scheduler.over = self._on_started, self._on_over
        self.ran: Counter[str] = Counter()
        self.spent = 0.0
        self.files: dict[str, str] = {}
        self._begun: dict[str, asyncio.Event] = {}
        self.pid = 0
        """The process that plays the supervisors."""
        self._latency = latency
        self._lines = lines
        self._folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="s"))
        self._player: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None

    async def hello(self, *, ask: bool = False) -> Hello:
        """See `Machine`."""
        del ask
        await self._play()
        return Hello("login", os.getuid(), "me", "/home/me", "x86_64", sys.executable, "3.11", "", "/home/me/.cache/jrg/b/x.pyz")

    async def run(self, argv: Sequence[str], *, given: str = "", limit: float = QUICK, env: Mapping[str, str] | None = None) -> Done:
        """See `Machine`."""
        del limit, env
        await self._play()
        await asyncio.sleep(self._latency)
        began = time.thread_time()
        try:
            return self._answer(_without_env(argv), given)
        finally:
            self.spent += time.thread_time() - began

    async def appears(self, path: str, limit: float) -> bool:
        """See `Machine`, of a job's log: it is there once its job runs."""
        begun = self._begun.setdefault(PurePosixPath(path).stem, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await begun.wait()
        return begun.is_set()

    async def widen(self) -> bool:
        """See `Machine`."""
        return False

    async def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """See `Machine`; of a stream, whether as a step of its job or over ssh."""
        self.scheduler.go_on()
        verb, session = _node_verb(argv)
        job = next((job for job in self.scheduler.jobs.values() if session_of(job.name) == session), None)
        if job is None or job.state != "RUNNING":
            said = f"srun: error: Slurm job {job.id} has expired" if job else "srun: error: Invalid job id specified"
            return ["sh", "-c", _REFUSE, "sh", said], {}
        return [sys.executable, "-I", "-S", "-c", _CARRY, str(ROOT / "magics"), self._socket, f"{verb} {session}"], {}

    async def aclose(self) -> None:
        """See `Machine`."""
        player, self._player = self._player, None
        if player is not None and player.stdin is not None:
            player.stdin.close()
            await player.wait()
        if self._listening is not None:
            await self._listening
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _socket(self) -> str:
        return str(self._folder / "p")

    async def _play(self) -> None:
        async with self._starting:
            if self._player is not None:
                return
            pipe = asyncio.subprocess.PIPE
            self._player = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fakes.supervisors", self._socket, str(self._lines)),
                stdin=pipe,
                stdout=pipe,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("magics", "extension"))},
            )
            self.pid = self._player.pid
            assert self._player.stdout is not None
            assert await self._player.stdout.readline() == b"ready\n"
            self._listening = asyncio.create_task(self._listen(self._player.stdout), name="simulated supervisors")

    async def _listen(self, stdout: asyncio.StreamReader) -> None:
        """Hear which supervisors ended by themselves."""
        while line := await stdout.readline():
            session = line.decode().strip()
            for job in list(self.scheduler.jobs.values()):
                if session_of(job.name) == session:
                    self.scheduler.complete(job.id)

    def _tell(self, words: str) -> None:
        if self._player is not None and self._player.stdin is not None:
            self._player.stdin.write(f"{words}\n".encode())

    def _on_started(self, job: Job) -> None:
        self.files[job.log] = 'JRG {"ok": true}\n'
        self._begun.setdefault(PurePosixPath(job.log).stem, asyncio.Event()).set()
        self._tell(f"start {session_of(job.name)} {job.node}")

    def _on_over(self, job: Job) -> None:
        self._tell(f"stop {session_of(job.name)}")

    # commands

    def _answer(self, argv: Sequence[str], given: str) -> Done:
        self.scheduler.go_on()
        program = "sbatch" if "sbatch" in argv else argv[0]
        self.ran[program] += 1
        answer: Callable[[Sequence[str], str], Done] | None = {
            "sbatch": self._sbatch,
            "squeue": self._squeue,
            "scontrol": self._scontrol,
            "sacct": self._sacct,
            "sinfo": lambda argv, _: Done(0, self.scheduler.groups(_columns(argv)), ""),
            "scancel": self._scancel,
            "tail": self._tail,
            "grep": self._grep,
            "rm": self._rm,
            "sh": self._pending,
        }.get(program)
        return answer(argv, given) if answer is not None else Done(127, "", f"{program}: No such file or directory")

    def _sbatch(self, argv: Sequence[str], given: str) -> Done:
        """Behind the sh that writes the request down: ``sh -c TEXT sh FOLDER FILE … sbatch …``; or that tells the time, for an estimate."""
        if "--test-only" in argv:
            return Done(0, "", f"{round(self.scheduler.clock())}+0000\n{self.scheduler.estimate()}")
        self.files[argv[5]] = given.partition("\n")[0]
        told = _options(argv)
        job = self.scheduler.submit(
            told["job-name"],
            gpus=int(told.get("gpus-per-node", "0").rpartition(":")[2]),
            limit=told.get("time", ""),
            log=told["output"],
            account=told.get("account", ""),
        )
        return Done(0, f"{job.id}\n", "")

    def _squeue(self, argv: Sequence[str], _: str) -> Done:
        jobs = list(self.scheduler.jobs.values()) if "--me" in argv else self.scheduler.waiting()
        return Done(0, self.scheduler.queue(_columns(argv), jobs), "")

    def _pending(self, argv: Sequence[str], _: str) -> Done:
        """``sh -c "squeue … | sort | uniq -c"``."""
        lines = self.scheduler.queue(_columns(shlex.split(argv[2])), self.scheduler.waiting()).splitlines()
        return Done(0, "".join(f"{count:7} {line}\n" for line, count in sorted(Counter(lines).items())), "")

    def _scontrol(self, argv: Sequence[str], _: str) -> Done:
        if argv[-1] in _RULES:
            return Done(0, _RULES[argv[-1]], "")
        number = int(re.sub(r"\D", "", argv[-1] if "show" in argv else argv[2]))
        job = self.scheduler.jobs.get(number)
        if job is None:
            return Done(1, "", "slurm_load_jobs error: Invalid job id specified")
        if "show" in argv:
            return Done(0, self.scheduler.describe(job), "")
        job.limit += 60 * int(argv[-1].partition("+")[2])
        return Done(0, "", "")

    def _sacct(self, argv: Sequence[str], _: str) -> Done:
        told = _options(argv)
        numbers = [int(number) for number in told["jobs"].split(",")]
        return Done(0, self.scheduler.accounting(told["format"].split(","), numbers), "")

    def _scancel(self, argv: Sequence[str], _: str) -> Done:
        self.scheduler.cancel(int(argv[1]))
        return Done(0, "", "")

    def _tail(self, argv: Sequence[str], _: str) -> Done:
        if argv[-1] not in self.files:
            return Done(1, "", f"tail: cannot open '{argv[-1]}' for reading: No such file or directory")
        return Done(0, self.files[argv[-1]][-int(argv[2]) :], "")

    def _grep(self, argv: Sequence[str], _: str) -> Done:
        found = {name: re.search(argv[-2], text) for name, text in self.files.items() if name.endswith(".json")}
        lines = [f"{name}:{match[0]}\n" for name, match in found.items() if match]
        return Done(0 if lines else 1, "".join(lines), "")

    def _rm(self, argv: Sequence[str], _: str) -> Done:
        for name in argv[2:]:
            self.files.pop(name, None)
        return Done(0, "", "")


def simulated_cluster(machine: SimulatedSlurm | None = None, name: str = "simulated") -> SlurmCluster:
    """Our cluster of kind ``slurm``, on a machine that is simulated. Data goes by the step: nothing is measured."""
    return SlurmCluster(name, machine or SimulatedSlurm(), RemoteOptions(data=DataWay.SRUN), Settings())


def _without_env(argv: Sequence[str]) -> list[str]:
    """`argv` behind ``env -u NAME … NAME=VALUE …``."""
    words = list(argv)
    if words[0] != "env":
        return words
    words = words[1:]
    while words[0] == "-u" or "=" in words[0]:
        words = words[2 if words[0] == "-u" else 1 :]
    return words


def _options(argv: Sequence[str]) -> dict[str, str]:
    """The ``--name=value`` of a command."""
    return {name[2:]: value for name, _, value in (word.partition("=") for word in argv) if name.startswith("--")}


def _columns(argv: Sequence[str]) -> list[tuple[str, str]]:
    """(name, what stands behind it) of ``--Format=NAME:END,…``."""
    return [(name, end) for name, _, end in (each.partition(":") for each in _options(argv)["Format"].split(","))]


def _node_verb(argv: Sequence[str]) -> tuple[str, str]:
    """(verb, session) of the node's half, whatever runs it."""
    words = [word for text in argv for word in text.replace("'", " ").split()]
    at = max(index for index, word in enumerate(words) if word in ("attach", "data"))
    return words[at], words[at + 1]
