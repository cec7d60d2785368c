"""What is asked about jobs, and how its answer is read: each command beside its parser, so that they cannot drift apart.

Text, not ``--json``: it has the same columns from Slurm 22.05 on, is some fifty times shorter, and is filtered. (``squeue
--json`` before 24.05 prints every job of the cluster, whatever is asked for.) A column's width ``:`` means as wide as need
be. Columns whose text is a user's own come last, where a separator within cannot shift the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jupyter_remote_gpu.clusters.slurm_json import jobs_of_json
from jupyter_remote_gpu.clusters.slurm_units import parse_epoch, parse_time
from jupyter_remote_gpu.clusters.slurm_values import SlurmJob, exit_of, first, job_gpus, said
from jupyter_remote_gpu.clusters.slurm_words import ENDED, state_of

__all__ = [
    "NOT_IN_LINE",
    "accounting_command",
    "ahead_command",
    "job_command",
    "jobs_ahead",
    "parse_accounting",
    "parse_jobs",
    "queue_command",
]

_SEPARATOR = "|"
_QUEUE = (
    "JobID",
    "State",
    "exit_code",
    "NodeList",
    "BatchHost",
    "Partition",
    "Account",
    "QOS",
    "UserName",
    "SubmitTime",
    "StartTime",
    "EndTime",
    "TimeLimit",
    "TimeLeft",
    "PriorityLong",
    "RestartCnt",
    "tres-alloc",
    "tres-per-node",
    "tres-per-job",
    "Reason",
    "Name",
    "StdOut",
    "Comment",
)
_AHEAD = ("JobID", "PriorityLong", "Reason")
_ACCOUNTING = (
    "JobIDRaw",
    "State",
    "ExitCode",
    "NodeList",
    "Partition",
    "Account",
    "QOS",
    "User",
    "Submit",
    "Start",
    "End",
    "TimelimitRaw",
    "AllocTRES",
    "ReqTRES",
    "Reason",
    "JobName",
    "Comment",
)
NOT_IN_LINE = ("Dependency", "BeginTime", "JobHeld", "Reservation")
"""Reasons of jobs that do not compete for nodes now."""

_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z_/]*(?::[A-Za-z:]+)?)=")


def queue_command(ids: Sequence[str] = ()) -> list[str]:
    """All jobs of this user that the controller knows, ended ones, too, for its MinJobAge (5 minutes unless the site says else).

    With `ids` only these, of whichever user; then a single id that is not known is an error (exit status 1, "Invalid job id
    specified"), and among several it is left out in silence.
    """
    whose = [f"--jobs={','.join(ids)}"] if ids else ["--me"]
    return ["squeue", *whose, "--states=all", "--noheader", f"--Format={_columns(_QUEUE)}"]


def job_command(job_id: str) -> list[str]:
    """All about one job, as long as the controller knows it; then exit status 1 and "Invalid job id specified"."""
    return ["scontrol", "--oneliner", "show", "job", job_id]


def ahead_command(partition: str) -> list[str]:
    """All pending jobs of a partition: some thirty bytes each, of which a busy site has ten thousand."""
    return ["squeue", f"--partition={partition}", "--states=PENDING", "--noheader", f"--Format={_columns(_AHEAD)}"]


def accounting_command(ids: Sequence[str]) -> list[str]:
    """How jobs ended, for good; of a job that was requeued, its last run. Records come some seconds late."""
    return ["sacct", f"--jobs={','.join(ids)}", "--allocations", "--noheader", "--parsable2", f"--format={','.join(_ACCOUNTING)}"]


def parse_jobs(output: str) -> list[SlurmJob]:
    """The jobs that `queue_command` or `job_command` printed, or either with ``--json``; other lines are passed over."""
    text = output.lstrip()
    if text.startswith("{"):
        return jobs_of_json(text)
    if re.search(r"^JobId=\d", text, re.MULTILINE):
        return [_of_scontrol(line) for line in text.splitlines() if line.startswith("JobId=")]
    return [_of_squeue(row) for row in _rows(output, _QUEUE)]


def parse_accounting(output: str) -> list[SlurmJob]:
    """The jobs that `accounting_command` printed."""
    return [_of_sacct(row) for row in _rows(output, _ACCOUNTING, end="")]


def jobs_ahead(output: str, job_id: str) -> int | None:
    """How many jobs `ahead_command` shows that are to start before `job_id`; None when it is not among them.

    Those that wait for something else than nodes do not count. Backfill may start a small job out of turn.
    """
    waiting = [
        (-int(row["PriorityLong"]), int(row["JobID"]))
        for row in _rows(output, _AHEAD)
        if row["PriorityLong"].isdecimal() and (row["JobID"] == job_id or not row["Reason"].startswith(NOT_IN_LINE))
    ]
    own = next((place for place in waiting if str(place[1]) == job_id), None)
    return None if own is None else sum(place < own for place in waiting)


def _columns(names: Sequence[str]) -> str:
    return ",".join(f"{name}:{_SEPARATOR}" for name in names)


def _rows(output: str, names: Sequence[str], end: str = _SEPARATOR) -> Iterator[dict[str, str]]:
    for line in output.splitlines():
        values = line.removesuffix(end).split(_SEPARATOR, len(names) - 1)
        if len(values) == len(names) and values[0].isdecimal():
            yield dict(zip(names, values, strict=True))


def _of_squeue(row: dict[str, str]) -> SlurmJob:
    state, flags = state_of(row["State"])
    code, signal = exit_of(row["exit_code"])
    return SlurmJob(
        id=row["JobID"],
        state=state,
        flags=flags,
        name=row["Name"],
        reason=said(row["Reason"]),
        nodes=said(row["NodeList"]),
        batch_host=said(row["BatchHost"]),
        partition=row["Partition"],
        account=said(row["Account"]),
        qos=said(row["QOS"]),
        user=row["UserName"],
        submitted=parse_epoch(row["SubmitTime"]),
        start=parse_epoch(row["StartTime"]),
        end=parse_epoch(row["EndTime"]),
        time_limit=parse_time(row["TimeLimit"]),
        time_left=parse_time(row["TimeLeft"]),
        priority=_number(row["PriorityLong"]),
        restarts=_number(row["RestartCnt"]),
        gpus=job_gpus(row["tres-alloc"], row["tres-per-node"], row["tres-per-job"]),
        exit_code=code,
        signal=signal,
        stdout=said(row["StdOut"]),
        comment=said(row["Comment"]),
    )


def _of_scontrol(line: str) -> SlurmJob:
    found = list(_KEY.finditer(line))
    ends = [match.start() for match in found[1:]] + [len(line)]
    values: dict[str, str] = {}
    for match, end in zip(found, ends, strict=True):  # the first of a name counts: a comment may have others within
        values.setdefault(match[1], line[match.end() : end].strip())
    state, flags = state_of(values.get("JobState", ""))
    code, signal = exit_of(values.get("ExitCode", ""))
    limit, run = parse_time(values.get("TimeLimit", "")), parse_time(values.get("RunTime", ""))
    over = state in ENDED or limit is None
    return SlurmJob(
        id=values["JobId"],
        state=state,
        flags=flags,
        name=values.get("JobName", ""),
        reason=first(values, "Reason"),
        nodes=first(values, "NodeList"),
        batch_host=first(values, "BatchHost"),
        partition=values.get("Partition", ""),
        account=first(values, "Account"),
        qos=first(values, "QOS"),
        user=values.get("UserId", "").partition("(")[0],
        submitted=parse_epoch(values.get("SubmitTime", "")),
        start=parse_epoch(values.get("StartTime", "")),
        end=parse_epoch(values.get("EndTime", "")),
        time_limit=limit,
        time_left=None if over or limit is None else max(0, limit - (run or 0)),
        priority=_number(values.get("Priority", "")),
        restarts=_number(values.get("Restarts", "")),
        gpus=job_gpus(first(values, "AllocTRES", "TRES", "ReqTRES"), values.get("TresPerNode", ""), values.get("TresPerJob", "")),
        exit_code=code,
        signal=signal,
        stdout=first(values, "StdOut"),
        comment=first(values, "Comment"),
    )


def _of_sacct(row: dict[str, str]) -> SlurmJob:
    state, flags = state_of(row["State"])
    code, signal = exit_of(row["ExitCode"])
    by = re.search(r" by (\d+)$", row["State"])
    return SlurmJob(
        id=row["JobIDRaw"],
        state=state,
        flags=flags,
        name=row["JobName"],
        reason=said(row["Reason"]),
        nodes=said(row["NodeList"]),
        partition=row["Partition"],
        account=row["Account"],
        qos=row["QOS"],
        user=row["User"],
        submitted=parse_epoch(row["Submit"]),
        start=parse_epoch(row["Start"]),
        end=parse_epoch(row["End"]),
        time_limit=parse_time(row["TimelimitRaw"]),
        gpus=job_gpus(row["AllocTRES"] or row["ReqTRES"]),
        exit_code=code,
        signal=signal,
        cancelled_by=int(by[1]) if by else None,
        comment=row["Comment"],
    )


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0
