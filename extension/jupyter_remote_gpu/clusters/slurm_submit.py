"""Giving a job to ``sbatch``, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jupyter_remote_gpu.clusters.slurm_units import parse_moment
from remote_gpu.errors import StartFailed

__all__ = ["Estimate", "cancel_command", "parse_estimate", "parse_submitted", "submit_command"]

_SUBMITTED = re.compile(r"^(\d+)(?:;([\w.-]+))?$", re.MULTILINE)
_ESTIMATE = re.compile(
    r"Job (?P<id>\d+) to start at (?P<start>\S+)(?: .*?)? using (?P<cpus>\d+) processors on (?:nodes )?(?P<nodes>\S+) in partition (?P<partition>\S+)"
)
_PREEMPTS = re.compile(r"Preempts: (\S+)")


@dataclass(frozen=True, slots=True)
class Estimate:
    """When and where the controller would start a job if it were given now. `start` is seconds since the epoch."""

    start: float
    nodes: str = ""
    partition: str = ""
    preempts: tuple[str, ...] = ()
    """The jobs that it would displace."""


def submit_command(options: Sequence[str], *, test_only: bool = False) -> list[str]:
    """The argument vector of sbatch with `options`; the script goes to its stdin.

    `test_only`: nothing is submitted, and the answer is on stderr. A command that was killed, or got no answer, may have
    submitted the job all the same: look for its name before trying again.
    """
    return ["sbatch", "--parsable", *(["--test-only"] if test_only else []), *options]


def cancel_command(job_id: str) -> list[str]:
    """End a job, waiting or running. Exit status 0 also when there is no such job any more."""
    return ["scancel", job_id]


def parse_submitted(output: str) -> tuple[str, str]:
    """(job id, cluster or "") of what sbatch printed; raises `StartFailed` when there is no job id in it.

    The last line counts: a start-up file or a plug-in of the site may print before it.
    """
    found = _SUBMITTED.findall(output)
    if not found:
        said = output.strip()[-600:]
        raise StartFailed("sbatch ended without a job id" + (f" and said:\n{said}" if said else ", without a word."), step="sbatch")
    job_id, cluster = found[-1]
    return job_id, cluster


def parse_estimate(stderr: str, ahead: float | None = None) -> Estimate | None:
    """What ``--test-only`` said on stderr; None when it gave no time (its words are then a refusal, see `slurm_refusals`).

    `ahead`: by how many seconds the clock over there is ahead of UTC, for a time in words.
    """
    found = _ESTIMATE.search(stderr)
    if not found:
        return None
    preempts = _PREEMPTS.search(stderr)
    return Estimate(
        start=parse_moment(found["start"], ahead),
        nodes=found["nodes"],
        partition=found["partition"],
        preempts=tuple(preempts[1].split(",")) if preempts else (),
    )
