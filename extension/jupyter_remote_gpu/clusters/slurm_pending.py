"""What waits in a cluster's queue, whoever's it is, and what that means for each pool: jobs, and the GPUs that they ask for.

One squeue for the whole cluster, its lines counted over there: ten thousand jobs that wait come back as some dozen lines.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jupyter_remote_gpu.clusters.slurm_gpus import gpus_of
from jupyter_remote_gpu.clusters.slurm_text import NOT_IN_LINE
from jupyter_remote_gpu.clusters.slurm_values import job_gpus, said
from jupyter_remote_gpu.offers import Pool

__all__ = ["Pending", "hides_jobs", "parse_pending", "pending_command", "with_queue"]

_SEPARATOR = "|"
_COLUMNS = ("Partition", "tres-alloc", "tres-per-node", "tres-per-job", "ArrayTaskID", "Reason")
_UNIMPORTANT = r"s/(cpu|mem|billing|energy|pages|vmem|fs\/[^=|]*)=[^,|]*,?//g"
"""Of the TRES, what makes lines differ that are the same to us."""
_COUNTED = re.compile(r"\s*(\d+) (.*)")
_NODES = re.compile(r"\bnode=(\d+)")
_PRIVATE = re.compile(r"^PrivateData\s*=\s*(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pending:
    """`jobs` that may each run in any of `partitions`, and ask for GPUs of the same types; `gpus` has (type or "", count of all of them together)."""

    partitions: tuple[str, ...]
    gpus: tuple[tuple[str, int], ...] = ()
    jobs: int = 1


def pending_command() -> list[str]:
    """All pending jobs of the cluster, like ones together: their number, then the columns. The tasks of arrays are written out (SLURM_BITSTR_LEN)."""
    columns = ",".join(f"{name}:{_SEPARATOR}" for name in _COLUMNS)
    squeue = shlex.join(["squeue", "--states=PENDING", "--noheader", f"--Format={columns}"])
    return ["sh", "-c", f"SLURM_BITSTR_LEN=0 {squeue} | sed -E {shlex.quote(_UNIMPORTANT)} | LC_ALL=C sort | uniq -c"]


def parse_pending(output: str) -> tuple[Pending, ...]:
    """What `pending_command` printed; a job array counts with each of its tasks. Those that wait for something else than nodes are left out."""
    found: dict[tuple[str, tuple[str, ...]], Pending] = {}
    for number, row in _rows(output):
        if not row["Reason"].startswith(NOT_IN_LINE):
            asked, jobs = _gpus(row), number * _tasks(row["ArrayTaskID"])
            key = (row["Partition"], tuple(kind for kind, _ in asked))
            known = found.get(key) or Pending(
                tuple(name for name in row["Partition"].split(",") if name), tuple((kind, 0) for kind in key[1]), 0
            )
            gpus = tuple((kind, count + jobs * each) for (kind, count), (_, each) in zip(known.gpus, asked, strict=True))
            found[key] = Pending(known.partitions, gpus, known.jobs + jobs)
    return tuple(found.values())


def hides_jobs(config: str) -> bool:
    """Whether a user sees no jobs but his own, by what ``scontrol show config`` says (PrivateData in slurm.conf(5))."""
    found = _PRIVATE.search(config)
    return found is not None and "jobs" in found[1].strip().lower().split(",")


def with_queue(pools: Sequence[Pool], waiting: Sequence[Pending], limits: Mapping[str, int | None]) -> tuple[Pool, ...]:
    """`pools` with what waits for each, and its partition's time limit in seconds.

    A job that names a type waits for the pools of that type, one that names none for all of its partition's that have GPUs. One without GPUs stands in
    the queue of each.
    """
    jobs: dict[tuple[str, str], int] = {}
    gpus: dict[tuple[str, str], int] = {}
    typed = {(_partition(pool), pool.gpu_model.lower()) for pool in pools}
    for each in waiting:
        for partition in each.partitions:
            for kind, count in each.gpus or (("", 0),):
                key = (partition, kind.lower() if (partition, kind.lower()) in typed else "")
                jobs[key] = jobs.get(key, 0) + each.jobs
                gpus[key] = gpus.get(key, 0) + count
    return tuple(_with(pool, jobs, gpus, limits) for pool in pools)


def _with(
    pool: Pool,
    jobs: Mapping[tuple[str, str], int],
    gpus: Mapping[tuple[str, str], int],
    limits: Mapping[str, int | None],
) -> Pool:
    partition = _partition(pool)
    keys = ((partition, pool.gpu_model.lower()), (partition, "")) if pool.gpu_model else ((partition, ""),)
    return replace(
        pool,
        time_limit=limits.get(partition) or 0,
        pending_jobs=sum(jobs.get(key, 0) for key in keys),
        pending_gpus=sum(gpus.get(key, 0) for key in keys) if pool.gpus_total else 0,
    )


def _partition(pool: Pool) -> str:
    return pool.name.partition(":")[0]


def _rows(output: str) -> Iterator[tuple[int, dict[str, str]]]:
    for line in output.splitlines():
        counted = _COUNTED.fullmatch(line)
        values = counted[2].removesuffix(_SEPARATOR).split(_SEPARATOR, len(_COLUMNS) - 1) if counted else ()
        if counted and len(values) == len(_COLUMNS):
            yield int(counted[1]), dict(zip(_COLUMNS, values, strict=True))


def _gpus(row: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    tres, per_node, per_job = (said(row[name]) for name in ("tres-alloc", "tres-per-node", "tres-per-job"))
    counted = job_gpus(tres, per_node, per_job)
    if counted:
        return counted
    nodes = int(found[1]) if (found := _NODES.search(tres)) else 1  # an installation whose accounting does not count GPUs
    return tuple(sorted({kind: count * nodes for kind, count in gpus_of(per_node).items()}.items())) or tuple(
        sorted(gpus_of(per_job).items())
    )


def _tasks(text: str) -> int:
    """How many tasks "1-10%4", "[3,5-8]" or "N/A" is; of a list that Slurm cut short ("1,3,..."), what is shown."""
    count = 0
    for part in text.strip("[] ").partition("%")[0].split(","):
        low, _, high = part.partition("-")
        first, last = low.strip(), high.partition(":")[0].strip()
        step = high.partition(":")[2].strip()
        if first.isdecimal() and last.isdecimal():
            count += max(0, int(last) - int(first)) // max(1, int(step) if step.isdecimal() else 1) + 1
        elif first.isdecimal():
            count += 1
    return max(1, count)
