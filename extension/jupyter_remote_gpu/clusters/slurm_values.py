"""A job and a group of nodes as Slurm tells of them, whichever of its commands and forms told it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jupyter_remote_gpu.clusters.slurm_gpus import gpus_of
from jupyter_remote_gpu.clusters.slurm_script import session_of
from jupyter_remote_gpu.clusters.slurm_words import ENDED, JobState, allocation_state
from jupyter_remote_gpu.models import AllocationState, SessionId

__all__ = ["NodeGroup", "SlurmJob", "exit_of", "job_gpus", "said"]

_NOTHING = frozenset(("(null)", "N/A", "n/a", "None", "None assigned", "Unknown", "NONE"))


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One job. Times are seconds since the epoch, 0 = not known; `time_limit` and `time_left` are seconds, None = without limit.

    `start` of a pending job is when Slurm expects to start it. `gpus` has (type or "", count over all nodes). `exit_code`
    and `signal` are how its script ended; `cancelled_by` is a user id, which only the accounting knows.
    """

    id: str
    state: JobState
    flags: frozenset[JobState] = frozenset()
    name: str = ""
    reason: str = ""
    nodes: str = ""
    batch_host: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    user: str = ""
    submitted: float = 0.0
    start: float = 0.0
    end: float = 0.0
    time_limit: int | None = None
    time_left: int | None = None
    priority: int = 0
    restarts: int = 0
    gpus: tuple[tuple[str, int], ...] = ()
    exit_code: int = 0
    signal: int = 0
    cancelled_by: int | None = None
    stdout: str = ""
    comment: str = ""

    @property
    def session(self) -> SessionId | None:
        """The session that it is the job of, if it is one of ours."""
        return session_of(self.name)

    @property
    def gpu_count(self) -> int:
        """Its GPUs over all nodes."""
        return sum(count for _, count in self.gpus)

    @property
    def ending(self) -> bool:
        """Whether it is over but for processes that are still being ended."""
        return self.state is JobState.COMPLETING or JobState.COMPLETING in self.flags

    @property
    def over(self) -> bool:
        """Whether nothing of it runs or waits any more."""
        return self.state in ENDED and not self.ending

    @property
    def allocation_state(self) -> AllocationState | None:
        """See `slurm_words.allocation_state`."""
        return allocation_state(self.state, self.flags, ran=bool(self.nodes))


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """`count` nodes of a partition that are alike. `state` and `flags` are sinfo's words in lower case ("mixed", {"drain"}).

    `gres` and `gres_used` are those of each node; `memory_mb` is a node's, `cpus` and `cpus_free` are sums.
    """

    partition: str
    state: str
    flags: frozenset[str] = frozenset()
    count: int = 0
    nodes: str = ""
    gres: str = ""
    gres_used: str = ""
    cpus: int = 0
    cpus_free: int = 0
    memory_mb: int = 0
    features: tuple[str, ...] = ()
    reason: str = ""
    default: bool = False
    """Whether its partition is the one of a job that names none."""
    available: bool = True
    """Whether its partition starts jobs at all."""


def said(text: str) -> str:
    """`text`, or "" for one of Slurm's words for nothing."""
    text = text.strip()
    return "" if text in _NOTHING else text


def exit_of(text: str) -> tuple[int, int]:
    """(exit code, signal) of ``3:0`` or of a wait status as wait(2) has it, which squeue prints before Slurm 23."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if not found:
        return 0, 0
    if found[2] is None:
        return (int(found[1]) >> 8) & 255, int(found[1]) & 127
    return int(found[1]), int(found[2])


def job_gpus(tres: str, *asked: str) -> tuple[tuple[str, int], ...]:
    """The GPUs of a job from its TRES; what the accounting does not count is taken from what was `asked` for: for each node, and for the job."""
    counts = gpus_of(tres)
    if not counts and asked:
        nodes = int(found[1]) if (found := re.search(r"\bnode=(\d+)", tres)) else 1
        each, *whole = map(gpus_of, asked)
        counts = {model: count * nodes for model, count in each.items()} or next(filter(None, whole), {})
    named = [model for text in asked for model in gpus_of(text) if model]
    if set(counts) == {""} and len(set(named)) == 1:
        counts = {named[0]: counts[""]}
    return tuple(sorted(counts.items()))


def first(values: Mapping[str, str], *names: str) -> str:
    """The first of these that says something."""
    return next((found for name in names if (found := said(values.get(name, "")))), "")
