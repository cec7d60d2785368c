"""In which environment Slurm's commands are run, so that they print what our parsers read.

A user's own settings for them (``SQUEUE_PARTITION=…`` in a start-up file) would hide jobs and nodes, or change what a job
asks for, and go through ssh unseen. Formats are always given as options, which win over SQUEUE_FORMAT and its like.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ENVIRONMENT", "HIDING", "SUBMITTING", "asking", "estimating", "submitting"]

ENVIRONMENT = {"SLURM_TIME_FORMAT": "%s"}
"""Times as seconds since the epoch: the cluster's clock may be in another time zone. For squeue, sacct, sinfo and scontrol."""

HIDING = (
    "SQUEUE_ACCOUNT",
    "SQUEUE_LICENSES",
    "SQUEUE_NAMES",
    "SQUEUE_PARTITION",
    "SQUEUE_QOS",
    "SQUEUE_USERS",
    "SINFO_PARTITION",
)
"""Settings that filter what squeue and sinfo show, beside our own filters."""

SUBMITTING = (
    "SBATCH_ARRAY_INX",
    "SBATCH_CONTAINER",
    "SBATCH_EXCLUSIVE",
    "SBATCH_EXPORT",
    "SBATCH_GET_USER_ENV",
    "SBATCH_GPUS",
    "SBATCH_GPUS_PER_NODE",
    "SBATCH_GPUS_PER_TASK",
    "SBATCH_GRES",
    "SBATCH_MEM_PER_CPU",
    "SBATCH_MEM_PER_GPU",
    "SBATCH_MEM_PER_NODE",
    "SBATCH_NTASKS_PER_GPU",
    "SBATCH_WAIT",
    "SLURM_TIME_FORMAT",
)
"""Settings that make another job of ours, or that the job must not inherit. A default account or partition stays in force."""


def asking(argv: Sequence[str]) -> list[str]:
    """`argv` of a command that only asks, behind an ``env`` that gives it the environment it needs."""
    return _within(argv, HIDING, ENVIRONMENT)


def submitting(argv: Sequence[str]) -> list[str]:
    """`argv` of sbatch, behind an ``env`` without what would change the job."""
    return _within(argv, SUBMITTING, {})


def estimating(argv: Sequence[str]) -> list[str]:
    """`argv` of sbatch that only asks when a job would start: as `submitting`, with the time in seconds."""
    return _within(argv, SUBMITTING, ENVIRONMENT)


def _within(argv: Sequence[str], unset: Sequence[str], values: dict[str, str]) -> list[str]:
    gone = [word for name in unset for word in ("-u", name)]
    return ["env", *gone, *(f"{name}={value}" for name, value in values.items()), *argv]
