"""A scheduler of Slurm's kind that is simulated: jobs wait, run and end as its clock goes on, and are told of in the columns that are asked for.

It has one partition of like nodes and starts jobs in their order, each as soon as its GPUs are free and the scheduler's next turn has come.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from jupyter_remote_gpu.clusters.slurm_units import parse_time

__all__ = ["Job", "Scheduler"]

_HOUR = 3600
_OVER = ("COMPLETED", "CANCELLED", "TIMEOUT")


@dataclass(slots=True)
class Job:
    """One job. Times are the clock's, 0 = not known; `node` is where it runs or ran."""

    id: int
    name: str
    gpus: int
    limit: int
    log: str
    account: str
    submitted: float
    state: str = "PENDING"
    started: float = 0.0
    ended: float = 0.0
    node: str = ""
    cancelled: bool = False

    @property
    def over(self) -> bool:
        """Whether it has ended, with all its processes."""
        return self.state in _OVER


@dataclass
class Scheduler:
    """`nodes` of `gpus` each. `turn`: seconds between its turns; `ends_in`: seconds that a job needs to end; `remembers`: MinJobAge."""

    clock: Callable[[], float] = time.time
    nodes: int = 1
    gpus: int = 4
    turn: float = 0.1
    ends_in: float = 0.05
    remembers: float = 300.0
    started: Callable[[Job], None] = lambda _: None
    """Called with each job when it starts, and"""
    over: Callable[[Job], None] = lambda _: None
    """when it has ended."""
    jobs: dict[int, Job] = field(default_factory=dict)
    kept: dict[int, Job] = field(default_factory=dict)
    """What the accounting knows: all jobs."""
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def submit(self, name: str, *, gpus: int, limit: str, log: str, account: str) -> Job:
        """A new job; `limit` is a time as sbatch takes it."""
        job = Job(next(self._ids), name, gpus, parse_time(limit) or _HOUR, log, account or "(null)", self.clock())
        self.jobs[job.id] = self.kept[job.id] = job
        return job

    def cancel(self, number: int) -> None:
        """End a job; one that is over, or unknown, is no error."""
        self._end(number, "CANCELLED")

    def complete(self, number: int) -> None:
        """A job's script ends by itself."""
        self._end(number, "COMPLETED")

    def go_on(self) -> None:
        """Do what the clock says is due."""
        now = self.clock()
        for job in list(self.jobs.values()):
            if job.state == "COMPLETING" and now - job.ended >= self.ends_in:
                self._over(job, "CANCELLED" if job.cancelled else "COMPLETED")
            elif job.state == "RUNNING" and now >= job.started + job.limit:
                job.ended = now
                self._over(job, "TIMEOUT")
            elif job.over and now - job.ended > self.remembers:
                del self.jobs[job.id]
        for job in self.waiting():
            if now - job.submitted < self.turn or (node := self._free_node(job.gpus)) is None:
                break
            job.state, job.node, job.started = "RUNNING", node, now
            self.started(job)

    def waiting(self) -> list[Job]:
        """Those that wait, in their order."""
        return [job for job in self.jobs.values() if job.state == "PENDING"]

    def _end(self, number: int, how: str) -> None:
        job = self.jobs.get(number)
        if job is None or job.over or job.state == "COMPLETING":
            return
        ran, job.ended = job.state == "RUNNING", self.clock()
        job.cancelled = how == "CANCELLED"
        if ran:
            job.state = "COMPLETING"
        else:
            self._over(job, how)

    def _over(self, job: Job, state: str) -> None:
        job.state = state
        self.over(job)

    def _used(self) -> dict[str, int]:
        used = {f"n{number}": 0 for number in range(1, self.nodes + 1)}
        for job in self.jobs.values():
            if job.state in ("RUNNING", "COMPLETING") and job.node:
                used[job.node] += job.gpus
        return used

    def _free_node(self, gpus: int) -> str | None:
        return next((node for node, used in self._used().items() if used + gpus <= self.gpus), None)

    # what it tells

    def queue(self, columns: Sequence[tuple[str, str]], jobs: Sequence[Job]) -> str:
        """The lines of squeue with these columns: (name, what stands behind it)."""
        return "".join("".join(f"{self._of_job(job, name)}{end}" for name, end in columns) + "\n" for job in jobs)

    def accounting(self, columns: Sequence[str], numbers: Sequence[int]) -> str:
        """The lines of ``sacct --parsable2``."""
        jobs = [self.kept[number] for number in numbers if number in self.kept]
        return "".join("|".join(self._of_record(job, name) for name in columns) + "\n" for job in jobs)

    def groups(self, columns: Sequence[tuple[str, str]]) -> str:
        """The lines of sinfo: nodes of which as many GPUs are in use stand together."""
        found: dict[int, list[str]] = {}
        for node, used in self._used().items():
            found.setdefault(used, []).append(node)
        return "".join(
            "".join(f"{self._of_nodes(used, nodes, name)}{end}" for name, end in columns) + "\n" for used, nodes in found.items()
        )

    def estimate(self) -> str:
        """What ``sbatch --test-only`` says of a job that is given now: it starts with the next turn, or an hour after those that wait."""
        start = round(self.clock() + self.turn) + _HOUR * len(self.waiting())
        return f"sbatch: Job {len(self.kept) + 1} to start at {start} using 1 processors on nodes n1 in partition main\n"

    def describe(self, job: Job) -> str:
        """The line of ``scontrol --oneliner show job``, with the keys that are read."""
        tres = f"cpu=1,mem=100M,node=1,billing=1,gres/gpu={job.gpus}"
        words = {
            "JobId": job.id,
            "JobName": job.name,
            "UserId": "me(1)",
            "Priority": self._of_job(job, "PriorityLong"),
            "Account": job.account,
            "QOS": "normal",
            "JobState": job.state,
            "Reason": self._of_job(job, "Reason"),
            "Restarts": 0,
            "ExitCode": "0:0",
            "RunTime": _clock_time(round((job.ended or self.clock()) - job.started) if job.started else 0),
            "TimeLimit": _clock_time(job.limit),
            "SubmitTime": round(job.submitted),
            "StartTime": self._of_job(job, "StartTime"),
            "EndTime": self._of_job(job, "EndTime"),
            "Partition": "main",
            "NodeList": job.node or "(null)",
            "BatchHost": job.node or "(null)",
            "ReqTRES": tres,
            "AllocTRES": tres if job.node else "(null)",
            "StdOut": job.log,
            "TresPerNode": f"gres/gpu:{job.gpus}",
        }
        return " ".join(f"{name}={value}" for name, value in words.items()) + "\n"

    def _of_job(self, job: Job, column: str) -> str:
        now = self.clock()
        left = job.limit - (now - job.started) if job.state == "RUNNING" else job.limit
        values = {
            "JobID": job.id,
            "State": job.state,
            "exit_code": "0:15" if job.cancelled and job.node else "0:0",
            "NodeList": job.node,
            "BatchHost": job.node or "n/a",
            "Partition": "main",
            "Account": job.account,
            "QOS": "normal",
            "UserName": "me",
            "SubmitTime": round(job.submitted),
            "StartTime": round(job.started or job.ended) or "N/A",
            "EndTime": round(job.ended or (job.started + job.limit if job.started else 0)) or "N/A",
            "TimeLimit": _clock_time(job.limit),
            "TimeLeft": _clock_time(round(max(0, left))),
            "PriorityLong": 1000,
            "RestartCnt": 0,
            "tres-alloc": f"cpu=1,mem=100M,node=1,billing=1,gres/gpu={job.gpus}",
            "tres-per-node": f"gres/gpu:{job.gpus}",
            "tres-per-job": "N/A",
            "ArrayTaskID": "N/A",
            "Reason": self._reason(job),
            "Name": job.name,
            "StdOut": job.log,
            "Comment": "(null)",
        }
        return str(values[column])

    def _reason(self, job: Job) -> str:
        if job.state != "PENDING" or self.clock() - job.submitted < self.turn:
            return "None"
        return "Resources" if self.waiting()[0] is job else "Priority"

    def _of_record(self, job: Job, column: str) -> str:
        tres = f"billing=1,cpu=1,gres/gpu={job.gpus},mem=100M,node=1"
        values = {
            "JobIDRaw": job.id,
            "State": "CANCELLED by 1" if job.state == "CANCELLED" else job.state,
            "ExitCode": "0:0",
            "NodeList": job.node or "None assigned",
            "User": "me",
            "Submit": round(job.submitted),
            "Start": round(job.started) or "None",
            "End": round(job.ended) or "Unknown",
            "TimelimitRaw": job.limit // 60,
            "AllocTRES": tres if job.node else "",
            "ReqTRES": tres,
            "JobName": job.name,
            "Comment": "",
        }
        return str(values[column]) if column in values else self._of_job(job, column)

    def _of_nodes(self, used: int, nodes: Sequence[str], column: str) -> str:
        values = {
            "Partition": "main*",
            "StateComplete": "idle" if not used else "allocated" if used == self.gpus else "mixed",
            "Nodes": len(nodes),
            "NodeList": ",".join(nodes),
            "Gres": f"gpu:h100:{self.gpus}",
            "GresUsed": f"gpu:h100:{used}(IDX:{f'0-{used - 1}' if used else 'N/A'})",
            "CPUsState": f"{used * len(nodes)}/{(16 - used) * len(nodes)}/0/{16 * len(nodes)}",
            "Memory": 32000,
            "Available": "up",
            "Features": "x86_64,h100",
            "Reason": "none",
        }
        return str(values[column])


def _clock_time(seconds: int) -> str:
    """As squeue writes it: [days-][hours:]minutes:seconds."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    text = f"{rest // 60:02}:{rest % 60:02}" if hours or days else f"{rest // 60}:{rest % 60:02}"
    return f"{days}-{hours:02}:{text}" if days else f"{hours}:{text}" if hours else text
