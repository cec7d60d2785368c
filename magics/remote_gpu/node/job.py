"""The batch job that a session runs in, if it runs in one: when it ends, and what the scheduler's signals mean.

Slurm sends SIGTERM to a job that is cancelled, preempted or out of time, and some time before that the signal that ``--signal`` asked for
(sbatch(1)); it is SIGUSR1 here. Neither says why, but the clock often does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

__all__ = ["Job"]

_EARLY = 75.0
"""Seconds by which Slurm may be early: it looks at time limits every half minute, and counts them in whole minutes."""


class Job:
    """`ends` is when the job's time is over, in seconds since the epoch (0 = not known). Without a job, all texts are of signals alone."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self.id = environment.get("SLURM_JOB_ID", "")
        self.ends = _number(environment.get("SLURM_JOB_END_TIME"))
        self.warned_at = 0.0

    def warning(self) -> str:
        """What to tell the user at the scheduler's early signal."""
        now = self.warned_at = time.time()
        if self.ends and now < self.ends:
            left = max(1, round((self.ends - now) / 60))
            text = f"This session ends in about {left} min: its Slurm job {self.id} reaches its time limit."
            return f"[remote_gpu] {text} Save what you need; %remote_gpu extend asks for more time."
        return f"[remote_gpu] Slurm job {self.id} of this session is about to end: its time limit is near, or it is preempted. Save what you need."

    def ending(self) -> str:
        """Why the session ends at SIGTERM, as far as one can tell here."""
        if not self.id:
            return "The session was ended by a signal (SIGTERM)."
        if self.ends and time.time() > self.ends - _EARLY:
            return f"Slurm job {self.id} reached its time limit."
        return f"Slurm ended job {self.id} before its time: it was cancelled or preempted."


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
