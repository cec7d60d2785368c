"""What clusters offer, and what a look at them has shown: frozen values, without behaviour beyond their own JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from jupyter_remote_gpu.models import gpu_label, iso

__all__ = ["ClusterSnapshot", "ClusterState", "Pool", "Site", "StartEstimate"]


class ClusterState(StrEnum):
    """What the gateway knows of a cluster now."""

    READY = "ready"
    CHECKING = "checking"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Pool:
    """The like nodes of a cluster. `accelerator` is the API: "cuda", "rocm", … or "" without a GPU; memory in MiB, time in seconds.

    What is 0 or "" nobody has said, but for the GPUs.
    """

    name: str
    gpu_model: str = ""
    gpu_memory_mb: int = 0
    gpus_total: int = 0
    gpus_free: int = 0
    gpus_per_node: int = 0
    cpu_arch: str = ""
    accelerator: str = ""
    gpus_down: int = 0
    """On nodes that are out of order; neither free nor in use."""
    fraction: bool = False
    """Whether what is counted are parts of GPUs (MIG profiles, shards)."""
    nodes: int = 0
    cpus_per_node: int = 0
    memory_mb_per_node: int = 0
    time_limit: int = 0
    pending_jobs: int = 0
    pending_gpus: int = 0
    """What those jobs ask for that wait in the pool's queue."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a cluster is and what holds there, as its configuration says; "" and None are not said.

    `country` is ISO 3166-1 alpha-2, `region` a key of the carbon table, `cost` what an hour of one GPU costs in `currency`.
    """

    country: str = ""
    region: str = ""
    internet: bool | None = None
    data_classes: tuple[str, ...] = ()
    """The classes of data that may be there; () = not said."""
    projects: tuple[str, ...] = ()
    cost: float | None = None
    currency: str = ""
    carbon: float | None = None
    """Grams of CO₂e for a kWh there; what is said here counts before the table."""


@dataclass(frozen=True, slots=True)
class StartEstimate:
    """What a scheduler itself says of one request: in how many seconds it would start, and how it was asked."""

    seconds: float
    source: str


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """What a cluster looked like at `updated` (seconds since the epoch; 0 = never seen).

    `distinct` has each node once, where pools have nodes in common; else it is empty.
    """

    name: str
    kind: str
    state: ClusterState = ClusterState.CHECKING
    detail: str = ""
    pools: tuple[Pool, ...] = ()
    updated: float = 0.0
    distinct: tuple[Pool, ...] = ()
    round_trip: float = 0.0
    """Seconds that a message there and back takes; 0 = not measured."""
    site: Site = field(default_factory=Site)
    estimate: StartEstimate | None = None
    """The scheduler's word on the very request that is ranked, if it was asked."""

    @property
    def gpus_total(self) -> int:
        """How many GPUs there are."""
        return sum(pool.gpus_total for pool in self.distinct or self.pools)

    @property
    def gpus_free(self) -> int:
        """How many of them nobody uses."""
        return sum(pool.gpus_free for pool in self.distinct or self.pools)

    def json(self) -> dict[str, Any]:
        """The `Cluster` of the REST API."""
        models = [pool.gpu_model for pool in self.distinct or self.pools for _ in range(pool.gpus_total)]
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "detail": self.detail,
            "pools": [asdict(pool) for pool in self.pools],
            "gpus_total": self.gpus_total,
            "gpus_free": self.gpus_free,
            "label": gpu_label(models) if self.state is ClusterState.READY else self.state,
            "updated": iso(self.updated or None),
        }
