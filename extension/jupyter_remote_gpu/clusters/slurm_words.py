"""The states of a Slurm job (squeue(1), "JOB STATE CODES"), and what each of them means for an allocation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from jupyter_remote_gpu.models import AllocationState

__all__ = ["ENDED", "JobState", "allocation_state", "state_of"]


class JobState(StrEnum):
    """A base state, or one of the flags that Slurm shows in its place. UNKNOWN: a word of a later version."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    # flags
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    EXPEDITING = "EXPEDITING"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    POWER_UP_NODE = "POWER_UP_NODE"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"


_BASE = tuple(JobState)[:12]

ENDED = frozenset(
    (
        JobState.COMPLETED,
        JobState.CANCELLED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
        JobState.OUT_OF_MEMORY,
        JobState.REVOKED,
    )
)
"""Nothing happens any more; unless it is COMPLETING still, its processes are gone."""

_WAITS = frozenset(
    (
        JobState.PENDING,
        JobState.CONFIGURING,
        JobState.EXPEDITING,
        JobState.POWER_UP_NODE,
        JobState.REQUEUED,
        JobState.REQUEUE_FED,
        JobState.REQUEUE_HOLD,
        JobState.RESV_DEL_HOLD,
        JobState.SPECIAL_EXIT,
    )
)
_OTHER_SPELLINGS = {
    "REQUEUE": JobState.REQUEUED,
    "COMPLETE": JobState.COMPLETED,
    "OOM": JobState.OUT_OF_MEMORY,
    "NODE_FAILED": JobState.NODE_FAIL,
}
_WORD = re.compile(r"[A-Z_]+")


def state_of(words: str | Iterable[str]) -> tuple[JobState, frozenset[JobState]]:
    """The base state and the flags of one word ("RUNNING", "CANCELLED by 1001") or of several (["CANCELLED", "COMPLETING"]).

    squeue and scontrol show a single word, and a flag hides its base state: "COMPLETING" may become any end. Then the flag
    is the state.
    """
    found = [_one(word) for word in ([words] if isinstance(words, str) else words)]
    base = next((word for word in found if word in _BASE), found[0] if found else JobState.UNKNOWN)
    return base, frozenset(word for word in found if word is not base)


def allocation_state(state: JobState, flags: Iterable[JobState] = (), *, ran: bool = True) -> AllocationState | None:
    """What a job's state is for its allocation; None for a word that this version does not know.

    `ran` tells ENDED from FAILED: whether it ever had nodes. A job whose processes are still being ended runs, as its
    supervisor can yet say something; one whose nodes are still being switched on waits.
    """
    flags = frozenset(flags)
    if state is JobState.COMPLETING or JobState.COMPLETING in flags:
        return AllocationState.RUNNING
    if state in ENDED:
        return AllocationState.ENDED if ran and state is not JobState.BOOT_FAIL else AllocationState.FAILED
    if state in _WAITS or JobState.CONFIGURING in flags:
        return AllocationState.PENDING
    return None if state is JobState.UNKNOWN else AllocationState.RUNNING


def _one(word: str) -> JobState:
    found = _WORD.match(word.strip().upper())
    text = found[0] if found else ""
    if text in _OTHER_SPELLINGS:
        return _OTHER_SPELLINGS[text]
    return JobState(text) if text in set(JobState) else JobState.UNKNOWN
