"""What was seen of a host: values without behaviour beyond their own JSON, which `docs/reference/rest-api.yaml` describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jupyter_remote_gpu.clusters.slurm_gpus import accelerator_of
from jupyter_remote_gpu.clusters.slurm_nodes import once, usage
from jupyter_remote_gpu.clusters.slurm_site import Account, Installation, Partition
from jupyter_remote_gpu.clusters.slurm_values import NodeGroup
from jupyter_remote_gpu.models import Gpu, iso

__all__ = ["OLDEST_PYTHON", "Facts", "Folder", "Python", "SlurmFacts"]

OLDEST_PYTHON = (3, 10)
"""The oldest Python that the node's half runs on."""

_KERNEL = (7,)
"""The oldest ipykernel that it works with."""


@dataclass(frozen=True, slots=True)
class Python:
    """A Python of the host: the version of its ipykernel ("" = none), and whether it can make virtual environments.

    `prologue` are the lines without which it is not there: ``module load …``.
    """

    path: str
    version: str
    ipykernel: str = ""
    venv: bool = False
    prologue: tuple[str, ...] = ()

    @property
    def new_enough(self) -> bool:
        """Whether the node's half runs on it."""
        return _numbers(self.version) >= OLDEST_PYTHON

    @property
    def suits(self) -> bool:
        """Whether sessions can run in it as it is."""
        return self.new_enough and _numbers(self.ipykernel) >= _KERNEL


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder for large files. `kind` is its file system's; `shared`: whether nodes see it, too, as far as the kind tells."""

    path: str
    kind: str = ""
    shared: bool | None = None
    free_mb: int | None = None
    inode: int = 0


@dataclass(frozen=True, slots=True)
class SlurmFacts:
    """A Slurm installation, as this user sees it. `login_only`: its commands are found in a login shell only."""

    installation: Installation
    partitions: tuple[Partition, ...] = ()
    nodes: tuple[NodeGroup, ...] = ()
    accounts: tuple[Account, ...] = ()
    said: str = ""
    """What it said instead, when it did not answer as it should."""
    login_only: bool = False
    displaced: frozenset[str] = frozenset()
    """The partitions whose jobs those of another partition may displace."""

    @property
    def account_names(self) -> tuple[str, ...]:
        """The accounts, the user's default one first."""
        return tuple(dict.fromkeys(each.name for each in sorted(self.accounts, key=lambda each: (not each.default, each.name))))

    @property
    def default_account(self) -> str:
        """The account that jobs are charged to that name none; "" when there is none, or nobody keeps accounts."""
        return next((each.name for each in self.accounts if each.default), "")

    def json(self) -> dict[str, Any]:
        """The `SlurmFacts` of the REST API."""
        uses = usage(self.nodes)
        year, month = self.installation.version
        return {
            "cluster": self.installation.cluster,
            "version": f"{year}.{month:02}" if year else "",
            "accounting": self.installation.accounting,
            "accounts": list(self.account_names),
            "default_account": self.default_account,
            "partitions": [
                {**_partition(each, [use for use in uses if use.partition == each.name]), "displaced": each.name in self.displaced}
                for each in self.partitions
            ],
            "gpus_total": sum(use.total for use in usage(once(self.nodes))),
            "said": self.said,
        }


@dataclass(frozen=True, slots=True)
class Facts:
    """A host. What is None could not be found out; sizes in MiB, `certificate_ends` in seconds since the epoch."""

    host: str
    node: str = ""
    system: str = ""
    arch: str = ""
    user: str = ""
    home: str = ""
    shell: str = ""
    home_free_mb: int | None = None
    pythons: tuple[Python, ...] = ()
    modules: tuple[str, ...] | None = None
    """The environment modules that look like Pythons; None: there is no ``module`` command, or it took too long."""
    modules_slow: bool = False
    uv: str = ""
    gpus: tuple[Gpu, ...] = ()
    accelerator: str = ""
    slurm: SlurmFacts | None = None
    scratch: tuple[Folder, ...] = ()
    internet: bool | None = None
    """Whether the host reaches the Python Package Index."""
    certificate_ends: float | None = None
    cut_off: str = ""
    """The part of the look that took too long, so that it and what comes after is missing."""

    @property
    def python(self) -> Python | None:
        """The first Python that sessions can run in as it is."""
        return next((each for each in self.pythons if each.suits), None)

    def json(self) -> dict[str, Any]:
        """The `HostFacts` of the REST API."""
        plain = (
            "host",
            "node",
            "system",
            "arch",
            "user",
            "home",
            "shell",
            "home_free_mb",
            "modules_slow",
            "uv",
            "accelerator",
            "internet",
            "cut_off",
        )
        return {
            **{name: getattr(self, name) for name in plain},
            "pythons": [{**asdict(each), "suits": each.suits} for each in self.pythons],
            "modules": list(self.modules) if self.modules is not None else None,
            "gpus": [asdict(each) for each in self.gpus],
            "slurm": self.slurm.json() if self.slurm is not None else None,
            "scratch": [asdict(each) for each in self.scratch],
            "certificate_ends": iso(self.certificate_ends),
        }


def _partition(partition: Partition, uses: Sequence[Any]) -> dict[str, Any]:
    names = ("name", "up", "default", "max_time", "default_time", "whole_nodes")
    gpus = [{"type": use.gpu_type, "total": use.total, "free": use.free, "per_node": use.per_node} for use in uses if use.total]
    api = next((accelerator_of(use.gpu_type) for use in uses if use.total), "")
    return {
        **{name: getattr(partition, name) for name in names},
        "gpus": gpus,
        "arch": next((use.architecture for use in uses), ""),
        "accelerator": api,
    }


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "3.11.2" → (3, 11, 2), "7.0.0b1" → (7, 0, 0)."""
    found: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    return tuple(found)
