"""How a session's job ended, in words for its user."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from jupyter_remote_gpu.clusters.slurm_reasons import reason_of
from jupyter_remote_gpu.clusters.slurm_values import SlurmJob
from jupyter_remote_gpu.clusters.slurm_words import JobState

__all__ = ["Ending", "duration", "ending_of"]

_MEMORY = re.compile(r"oom[-_ ]?kill|out[ -]of[ -]memory|exceeded (?:job |step )?memory limit|Exceeded job memory", re.IGNORECASE)
_NO_OUTPUT = 53  # not a signal: what Slurm reports when it cannot open a job's output
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_MORE_MEMORY = "Ask for more memory, or keep less of it at a time."


@dataclass(frozen=True, slots=True)
class Ending:
    """What happened, and what to try."""

    sentence: str
    hint: str = ""


def ending_of(job: SlurmJob, *, names: Mapping[int, str] | None = None, log: str = "") -> Ending:
    """Why an ended job ended. `names` has user ids → names, `log` is the end of the job's output: it says more than Slurm does.

    Without task/cgroup, Slurm calls a job FAILED that it killed for its memory: only the log tells.
    """
    if job.state in (JobState.FAILED, JobState.CANCELLED, JobState.OUT_OF_MEMORY) and _MEMORY.search(log):
        return Ending(f"Its job was ended because it used more memory than it had asked for{_on(job)}.", _MORE_MEMORY)
    if job.state in _ENDINGS:
        sentence, hint = _ENDINGS[job.state]
        return Ending(sentence.format(limit=_limit(job), on=_on(job)), hint)
    if job.state is JobState.CANCELLED:
        return _cancelled(job, names or {})
    if job.state is JobState.FAILED:
        return _failed(job)
    return Ending(f"Its job is {job.state} in Slurm's words." if job.state is not JobState.UNKNOWN else "Its job is gone.")


_ENDINGS = {
    JobState.TIMEOUT: ("Its job was ended: its time limit{limit} was reached.", "Ask for more time."),
    JobState.NODE_FAIL: ("Its node failed{on}.", "Start it again: Slurm gives it another node."),
    JobState.OUT_OF_MEMORY: ("Its job was ended because it used more memory than it had asked for{on}.", _MORE_MEMORY),
    JobState.PREEMPTED: ("Its job had to make room for one of a higher priority{on}.", "Start it again, or use a partition or QoS that is not displaced."),
    JobState.BOOT_FAIL: ("Its node did not start{on}.", "Start it again: Slurm gives it another node."),
    JobState.DEADLINE: ("Its job could not end before its deadline any more.", "Start it again with a later deadline, or less time."),
    JobState.COMPLETED: ("Its job ended by itself.", ""),
    JobState.REVOKED: ("Its job runs on another cluster of the federation.", "Name one cluster in the configuration."),
}  # fmt: skip


def _cancelled(job: SlurmJob, names: Mapping[int, str]) -> Ending:
    who = (
        ""
        if job.cancelled_by is None
        else f" by {names.get(job.cancelled_by) or ('root' if job.cancelled_by == 0 else f'the user {job.cancelled_by}')}"
    )
    if not job.nodes:
        return Ending(f"Its job was cancelled{who} while it waited.")
    hint = "The site's operators or one of its rules ended it; ask the site's support why." if job.cancelled_by == 0 else ""
    return Ending(f"Its job was cancelled{who}{_on(job)}.", hint)


def _failed(job: SlurmJob) -> Ending:
    if job.signal == _NO_OUTPUT:
        hint = "Does the node see the session's folder, and is there room in it?"
        return Ending(f"Its job could not be started{_on(job)}: its log could not be written there.", hint)
    if job.signal:
        hint = "SIGKILL often means that memory ran out." if job.signal == signal.SIGKILL else ""
        return Ending(f"Its job was ended by {_signal_name(job.signal)}{_on(job)}.", hint)
    if not job.nodes:
        reason = reason_of(job.reason)
        return Ending(f"Its job never ran. {reason.sentence}", reason.hint)
    if job.exit_code:
        return Ending(f"Its job ended with exit code {job.exit_code}{_on(job)}.", "The session's log says more.")
    reason = reason_of(job.reason)
    return Ending(f"Its job failed{_on(job)}. {reason.sentence}", reason.hint)


def duration(seconds: float) -> str:
    """A length of time as people say it: "2 h", "1 d 12 h", "90 s", "1 h 30 min"."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    parts = []
    rest = round(seconds / _MINUTE) * _MINUTE
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if rest >= size:
            parts.append(f"{rest // size:.0f} {unit}")
            rest %= size
    return " ".join(parts[:2])


def _limit(job: SlurmJob) -> str:
    return f" of {duration(job.time_limit)}" if job.time_limit else ""


def _on(job: SlurmJob) -> str:
    return f" on {job.nodes}" if job.nodes else ""


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"
