"""What a Slurm installation is: its name, version and settings, its partitions, and what a user may have there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jupyter_remote_gpu.clusters.slurm_gpus import gpus_of
from jupyter_remote_gpu.clusters.slurm_units import parse_time
from jupyter_remote_gpu.clusters.slurm_values import said

__all__ = [
    "Account",
    "Installation",
    "Partition",
    "Qos",
    "accounts_command",
    "config_command",
    "parse_accounts",
    "parse_config",
    "parse_partitions",
    "parse_qos",
    "parse_version",
    "partitions_command",
    "qos_command",
]

_SEPARATOR = "|"
_ACCOUNTS = (
    "DefaultAccount",
    "Cluster",
    "Account",
    "Partition",
    "QOS",
    "DefaultQOS",
    "GrpTRES",
    "MaxTRES",
    "MaxJobs",
    "MaxSubmit",
    "MaxWall",
)
_QOS = ("Name", "Priority", "MaxWall", "MaxTRES", "MaxTRESPU", "GrpTRES", "MaxJobsPU", "MaxSubmitPU")
_VERSION = re.compile(r"\b(\d\d)\.(\d\d)(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Installation:
    """`version` is (year, month) as SchedMD counts, (0, 0) = not known. Times in seconds.

    For `min_job_age` the controller remembers an ended job; a job that is told to end has `kill_wait` until it is killed;
    a command waits `message_timeout` for the controller, and most of them ask twice. `accounting`: whether sacct and
    sacctmgr have something to say. `gpus_apart`: whether GPUs are given one by one and by type.
    """

    cluster: str = ""
    version: tuple[int, int] = (0, 0)
    min_job_age: int = 300
    kill_wait: int = 30
    message_timeout: int = 10
    accounting: bool = False
    gpus_apart: bool = True
    limits_enforced: bool = False
    """Whether sbatch refuses what its partition does not allow; else such a job is taken and waits for ever."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition. Times in seconds, None = without limit; empty tuples of names = all are let in."""

    name: str
    up: bool = True
    default: bool = False
    max_time: int | None = None
    default_time: int | None = None
    max_nodes: int | None = None
    accounts: tuple[str, ...] = ()
    accounts_denied: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    gpus: tuple[tuple[str, int], ...] = ()
    nodes: str = ""
    preemptible: bool = False
    whole_nodes: bool = False

    def lets_in(self, account: str) -> bool:
        """Whether jobs of `account` may run in it."""
        return account not in self.accounts_denied and (not self.accounts or account in self.accounts)


@dataclass(frozen=True, slots=True)
class Account:
    """What a user may charge jobs to, and within which limits; None = no limit at this place (its QoS may have one)."""

    name: str
    default: bool = False
    partition: str = ""
    qos: tuple[str, ...] = ()
    default_qos: str = ""
    gpus: int | None = None
    gpus_per_job: int | None = None
    running_jobs: int | None = None
    jobs: int | None = None
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Qos:
    """A quality of service and its limits; None = no limit."""

    name: str
    priority: int = 0
    time: int | None = None
    gpus_per_job: int | None = None
    gpus_per_user: int | None = None
    gpus: int | None = None
    running_jobs_per_user: int | None = None
    jobs_per_user: int | None = None


def config_command() -> list[str]:
    """The controller's settings; its version among them."""
    return ["scontrol", "show", "config"]


def partitions_command() -> list[str]:
    """The partitions that this user may see."""
    return ["scontrol", "--oneliner", "show", "partition"]


def accounts_command(user: str) -> list[str]:
    """The accounts of a user. An installation without accounting answers with exit status 1."""
    return ["sacctmgr", "--noheader", "--parsable2", "show", "user", "where", f"name={user}", "withassoc", f"format={','.join(_ACCOUNTS)}"]


def qos_command() -> list[str]:
    """All qualities of service and their limits."""
    return ["sacctmgr", "--noheader", "--parsable2", "show", "qos", f"format={','.join(_QOS)}"]


def parse_version(output: str) -> tuple[int, int]:
    """(24, 11) of ``slurm-wlm 24.11.5`` or a bare ``24.11.5``; (0, 0) when there is none."""
    found = _VERSION.search(output)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def parse_config(output: str) -> Installation:
    """What `config_command` printed."""
    pairs = (line.partition("=") for line in output.splitlines() if "=" in line)
    values = {name.strip(): value.strip() for name, _, value in pairs}
    known = Installation()
    return Installation(
        cluster=values.get("ClusterName", ""),
        version=parse_version(values.get("SLURM_VERSION", "")),
        min_job_age=_leading(values.get("MinJobAge", ""), known.min_job_age),
        kill_wait=_leading(values.get("KillWait", ""), known.kill_wait),
        message_timeout=_leading(values.get("MessageTimeout", ""), known.message_timeout),
        accounting=values.get("AccountingStorageType", "").endswith("slurmdbd"),
        gpus_apart=values.get("SelectType", "").endswith("cons_tres"),
        limits_enforced=values.get("EnforcePartLimits", "NO") not in ("NO", "(null)"),
    )


def parse_partitions(output: str) -> tuple[Partition, ...]:
    """What `partitions_command` printed."""
    lines = (line for line in output.splitlines() if line.startswith("PartitionName="))
    return tuple(_partition(dict(re.findall(r"(\S+?)=(\S*)", line))) for line in lines)


def parse_accounts(output: str, cluster: str = "") -> tuple[Account, ...]:
    """What `accounts_command` printed; of `cluster` only, if it is named: one database may serve several."""
    rows = (row for row in _rows(output, _ACCOUNTS) if row["Account"] and (not cluster or row["Cluster"] == cluster))
    return tuple(
        Account(
            name=row["Account"],
            default=row["Account"] == row["DefaultAccount"],
            partition=row["Partition"],
            qos=_names(row["QOS"]),
            default_qos=row["DefaultQOS"],
            gpus=_gpus(row["GrpTRES"]),
            gpus_per_job=_gpus(row["MaxTRES"]),
            running_jobs=_limit(row["MaxJobs"]),
            jobs=_limit(row["MaxSubmit"]),
            time=parse_time(row["MaxWall"]),
        )
        for row in rows
    )


def parse_qos(output: str) -> tuple[Qos, ...]:
    """What `qos_command` printed."""
    return tuple(
        Qos(
            name=row["Name"],
            priority=_limit(row["Priority"]) or 0,
            time=parse_time(row["MaxWall"]),
            gpus_per_job=_gpus(row["MaxTRES"]),
            gpus_per_user=_gpus(row["MaxTRESPU"]),
            gpus=_gpus(row["GrpTRES"]),
            running_jobs_per_user=_limit(row["MaxJobsPU"]),
            jobs_per_user=_limit(row["MaxSubmitPU"]),
        )
        for row in _rows(output, _QOS)
    )


def _partition(values: dict[str, str]) -> Partition:
    return Partition(
        name=values["PartitionName"],
        up=values.get("State") == "UP",
        default=values.get("Default") == "YES",
        max_time=parse_time(values.get("MaxTime", "")),
        default_time=parse_time(values.get("DefaultTime", "")),
        max_nodes=_limit(values.get("MaxNodes", "")),
        accounts=_names(values.get("AllowAccounts", "")),
        accounts_denied=_names(values.get("DenyAccounts", "")),
        groups=_names(values.get("AllowGroups", "")),
        qos=_names(values.get("AllowQos", "")),
        gpus=tuple(sorted(gpus_of(values.get("TRES", "")).items())),
        nodes=said(values.get("Nodes", "")),
        preemptible=values.get("PreemptMode", "OFF") not in ("OFF", "(null)"),
        whole_nodes=values.get("OverSubscribe") == "EXCLUSIVE" or values.get("Exclusive") == "NODE",  # the latter since 26.05
    )


def _rows(output: str, names: Sequence[str]) -> Iterator[dict[str, str]]:
    rows = (line.split(_SEPARATOR) for line in output.splitlines())
    return (dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names))


def _names(text: str) -> tuple[str, ...]:
    return () if text.upper() in ("ALL", "") else tuple(name for name in said(text).split(",") if name)


def _limit(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _gpus(tres: str) -> int | None:
    found = re.search(r"gres/gpu=(\d+)", tres)
    return int(found[1]) if found else sum(gpus_of(tres).values()) or None


def _leading(text: str, otherwise: int) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else otherwise
