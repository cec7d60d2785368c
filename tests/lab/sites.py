"""The policies of the lab's clusters, as different as those of real sites are, and the files that tell them to Slurm.

Keys: slurm.conf(5), gres.conf(5), cgroup.conf(5). A GPU is a link to /dev/null, which is a character device: without a device
file Slurm would schedule it, but not set CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = ["BRISTOL", "FAR", "MONTREAL", "Node", "Partition", "Places", "Site", "files"]


@dataclass(frozen=True, slots=True)
class Node:
    """One compute node; `gpus` has how many of each type."""

    name: str
    gpus: Mapping[str, int]
    features: str = "x86_64"
    cpus: int = 16
    memory: int = 32000
    """In MB. Nothing of it must be there."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: its nodes as Slurm writes them, and its keys."""

    name: str
    nodes: str
    keys: str


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster's policy."""

    name: str
    nodes: tuple[Node, ...]
    partitions: tuple[Partition, ...]
    remembers: int
    """Seconds for which slurmctld keeps an ended job (MinJobAge)."""
    accounting: bool = False
    keys: tuple[str, ...] = ()

    def without_accounting(self) -> Site:
        """The same policy without accounts."""
        return replace(self, accounting=False, remembers=300)

    @property
    def gpu_types(self) -> tuple[str, ...]:
        """All types of GPU of the site."""
        return tuple(dict.fromkeys(kind for node in self.nodes for kind in node.gpus))


BRISTOL = Site(
    "bristol",
    (
        *(Node(f"gh{n}", {"gh200": 1}, "aarch64,gh200", 8, 16000) for n in (1, 2)),
        *(Node(f"hx{n}", {"h100": 4}, "x86_64,h100") for n in (1, 2)),
    ),
    (
        Partition("grace", "gh[1-2]", "Default=YES MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=10"),
        Partition("hopper", "hx[1-2]", "MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=10"),
        Partition("short", "gh[1-2]", "MaxTime=1 DefaultTime=1 PriorityTier=10"),
        Partition("whole", "hx[1-2]", "MaxTime=12:00:00 DefaultTime=10 PriorityTier=10 OverSubscribe=EXCLUSIVE"),
        Partition("spare", "gh[1-2],hx[1-2]", "MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0"),
    ),
    remembers=5,
    accounting=True,
)
"""Accounts and limits; jobs are soon forgotten by slurmctld, and known to sacct."""

MONTREAL = Site(
    "montreal",
    (
        *(Node(f"ta{n}", {"h100": 4}, "x86_64,h100") for n in (1, 2)),
        *(Node(f"nv{n}", {"a100": 4}, "x86_64,a100") for n in (1, 2)),
        Node("nv3", {"a100": 2, "a100_3g.20gb": 2, "a100_1g.5gb": 4}, "x86_64,a100,mig"),
    ),
    (
        Partition("compute", "nv[1-3]", "Default=YES MaxTime=12:00:00 DefaultTime=30 PriorityTier=10"),
        Partition("wholenode", "ta[1-2]", "MaxTime=1-00:00:00 DefaultTime=60 PriorityTier=10 OverSubscribe=EXCLUSIVE"),
        Partition("interactive", "nv[1-3]", "MaxTime=1:00:00 DefaultTime=15 PriorityTier=20"),
        Partition("long", "ta[1-2],nv[1-3]", "MaxTime=UNLIMITED DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0"),
    ),
    remembers=300,
    keys=("EnforcePartLimits=ALL",),
)
"""No accounting, so no sacct: how a job ended is known for five minutes. What a partition's limits forbid is refused at once (Bristol lets it wait)."""

FAR = Site(
    "far",
    tuple(Node(f"fr{n}", {"h100": 2}, "x86_64,h100") for n in (1, 2)),
    (Partition("main", "fr[1-2]", "Default=YES MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=10"),),
    remembers=300,
)
"""Small, at the other end of a long network path."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a site's daemons are to be."""

    folder: Path
    devices: Path
    controller: str
    """The host name of the controller's machine."""
    user: str
    ports: Mapping[str, int] = field(default_factory=dict)
    """Of the nodes by name, of ``slurmctld`` and ``slurmdbd``."""
    node_host: str = ""
    """The host name that all nodes have; empty: each its own."""


def files(site: Site, places: Places) -> dict[str, str]:
    """The contents of the site's configuration files, by name."""
    found = {
        "slurm.conf": "\n".join([*_general(site, places), *_accounting(site, places), *_nodes(site, places), ""]),
        "gres.conf": "\n".join(["AutoDetect=off", *(line for node in site.nodes for line in _gres(node, places.devices)), ""]),
        "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
    }
    return {**found, "slurmdbd.conf": _slurmdbd(places)} if site.accounting else found


def _general(site: Site, places: Places) -> list[str]:
    here = places.folder
    return [
        f"ClusterName={site.name}",
        f"SlurmctldHost={places.controller}(127.0.0.1)",
        f"SlurmctldPort={places.ports['slurmctld']}",
        f"SlurmUser={places.user}",
        f"SlurmdUser={places.user}",
        f"AuthInfo=socket={here}/run/munge.sock",
        f"StateSaveLocation={here}/state",
        f"SlurmctldPidFile={here}/run/slurmctld.pid",
        f"SlurmctldLogFile={here}/log/slurmctld.log",
        f"SlurmdSpoolDir={here}/run/spool.%n",
        f"SlurmdPidFile={here}/run/slurmd.%n.pid",
        f"SlurmdLogFile={here}/log/slurmd.%n.log",
        "SlurmdParameters=config_overrides",
        "ProctrackType=proctrack/linuxproc",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "DefMemPerCPU=100",
        "GresTypes=gpu",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=bf_interval=2,sched_min_interval=0,batch_sched_delay=0,sched_interval=5,bf_continue",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "SlurmctldParameters=preempt_send_user_signal",
        "ReturnToService=1",
        "KillWait=3",
        "SlurmdTimeout=10",
        f"MinJobAge={site.remembers}",
        *site.keys,
    ]


def _accounting(site: Site, places: Places) -> list[str]:
    if not site.accounting:
        return []
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=127.0.0.1",
        f"AccountingStoragePort={places.ports['slurmdbd']}",
        f"AccountingStoragePass={places.folder}/run/munge.sock",
        "AccountingStorageEnforce=associations,limits,qos",
        f"AccountingStorageTRES=gres/gpu,{','.join(f'gres/gpu:{kind}' for kind in site.gpu_types)}",
    ]


def _nodes(site: Site, places: Places) -> list[str]:
    return [
        *(
            f"NodeName={node.name} NodeHostname={places.node_host or node.name} NodeAddr=127.0.0.1 Port={places.ports[node.name]}"
            f" CPUs={node.cpus} RealMemory={node.memory} Feature={node.features}"
            f" Gres={','.join(f'gpu:{kind}:{count}' for kind, count in node.gpus.items())}"
            for node in site.nodes
        ),
        *(f"PartitionName={part.name} Nodes={part.nodes} State=UP {part.keys}" for part in site.partitions),
    ]


def _gres(node: Node, devices: Path) -> list[str]:
    lines, first = [], 0
    for kind, count in node.gpus.items():
        which = f"[{first}-{first + count - 1}]" if count > 1 else str(first)
        lines.append(f"NodeName={node.name} Name=gpu Type={kind} Flags=nvidia_gpu_env File={devices}/gpu{which}")
        first += count
    return lines


def _slurmdbd(places: Places) -> str:
    here = places.folder
    return "\n".join(
        [
            f"AuthInfo=socket={here}/run/munge.sock",
            "DbdHost=localhost",
            "DbdAddr=127.0.0.1",
            f"DbdPort={places.ports['slurmdbd']}",
            f"SlurmUser={places.user}",
            f"PidFile={here}/run/slurmdbd.pid",
            f"LogFile={here}/log/slurmdbd.log",
            "StorageType=accounting_storage/mysql",
            "StorageHost=localhost",
            "StorageUser=root",
            "StorageLoc=slurm_acct",
            "",
        ]
    )
