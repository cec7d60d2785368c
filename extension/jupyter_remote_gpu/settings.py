"""The settings: traitlets at the edge, frozen dataclasses inside.

Set them in ``jupyter_server_config.py`` or on the command line, for example ``--RemoteGpu.idle_timeout=600``.
`RemoteGpu.freeze` is called once, when the extension loads; nothing reads a trait after that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir
from traitlets import Bool, Dict, Integer, List, Unicode
from traitlets.config import Configurable

from jupyter_remote_gpu.carbon_live import check_source
from jupyter_remote_gpu.sites import read_site
from remote_gpu.errors import UsageProblem

__all__ = ["OF_ALL_KINDS", "RemoteGpu", "Settings", "check_cluster"]

OF_ALL_KINDS = frozenset(("trust", "site"))
"""Settings of a cluster that are the gateway's own business, whatever its kind."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gateway runs by. Times in seconds (0 = never, where a timeout ends something), sizes in bytes."""

    clusters: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"local": {"kind": "local"}})
    local_python: str = sys.executable
    idle_timeout: int = 3600
    unattended_timeout: int = 86400
    journal_limit: int = 1 << 30
    environment: tuple[str, ...] = ()
    attach_grace: int = 60
    start_timeout: int = 60
    data_folder: Path = field(default_factory=lambda: Path(jupyter_data_dir()) / "remote-gpu")
    own_clusters: bool = True
    clusters_file: Path = field(default_factory=lambda: _clusters_file(""))
    carbon_source: str = ""

    @property
    def trusted(self) -> frozenset[str]:
        """The clusters whose nodes may run code in the user's notebook: their configuration says ``trust``."""
        return frozenset(name for name, cluster in self.clusters.items() if cluster.get("trust") is True)


class RemoteGpu(Configurable):
    """Settings of jupyter-remote-gpu."""

    clusters = Dict(
        default_value={"local": {"kind": "local"}},
        help="The clusters by name, each with its `kind`, perhaps `trust` and `site`, and that kind's own settings.",
    ).tag(config=True)
    local_python = Unicode(
        sys.executable,
        help="The Python that sessions on this machine run in; it needs ipykernel.",
    ).tag(config=True)
    idle_timeout = Integer(
        3600,
        min=0,
        help="Seconds after which a session ends that nobody is attached to and that runs nothing; 0 = never.",
    ).tag(config=True)
    unattended_timeout = Integer(
        86400,
        min=0,
        help="Seconds after which a session ends that nobody is attached to although it still runs a cell; 0 = never.",
    ).tag(config=True)
    journal_limit = Integer(
        1 << 30,
        min=1 << 20,
        help="The most bytes of output that a session keeps on its node for clients that attach again.",
    ).tag(config=True)
    environment = List(
        Unicode(),
        help="Names of further environment variables that may cross to a node; a trailing * stands for any ending.",
    ).tag(config=True)
    attach_grace = Integer(
        60,
        min=1,
        help="Seconds that the gateway keeps a client's side of a session after the client has vanished.",
    ).tag(config=True)
    start_timeout = Integer(
        60,
        min=1,
        help="Seconds that the command which starts a session may take before it is ended.",
    ).tag(config=True)
    data_folder = Unicode(
        "",
        help="Where the registry of sessions lies; empty: the folder remote-gpu in Jupyter's data folder.",
    ).tag(config=True)
    own_clusters = Bool(
        default_value=True,
        help="Whether there may be clusters beside those of `clusters`: the user's own, which he adds while the gateway runs.",
    ).tag(config=True)
    clusters_file = Unicode(
        "",
        help="The file of the user's own clusters; empty: remote-gpu-clusters.json in Jupyter's configuration folder.",
    ).tag(config=True)
    carbon_source = Unicode(
        "",
        help="Where the carbon intensity of Great Britain's grid is asked, as the UK's Carbon Intensity API answers; empty: nowhere.",
    ).tag(config=True)

    def freeze(self) -> Settings:
        """The settings as they are now; raises `UsageProblem` for a cluster that cannot be."""
        for name, cluster in self.clusters.items():
            check_cluster("The setting RemoteGpu.clusters", name, cluster)
        return Settings(
            clusters={name: dict(cluster) for name, cluster in self.clusters.items()},
            local_python=self.local_python,
            idle_timeout=self.idle_timeout,
            unattended_timeout=self.unattended_timeout,
            journal_limit=self.journal_limit,
            environment=tuple(self.environment),
            attach_grace=self.attach_grace,
            start_timeout=self.start_timeout,
            data_folder=Path(self.data_folder or Path(jupyter_data_dir()) / "remote-gpu"),
            own_clusters=self.own_clusters,
            clusters_file=_clusters_file(self.clusters_file),
            carbon_source=check_source(self.carbon_source),
        )


def check_cluster(where: str, name: object, cluster: object) -> None:
    """Raise `UsageProblem`, whose message begins with `where`, for what no cluster can be called or be configured as, of whatever kind."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "auto":
        message = f"{where} has a cluster named {name!r}."
        raise UsageProblem(message, hint="A name has letters, digits, '.', '_' and '-', at most 32, and is not 'auto'.")
    if not isinstance(cluster, Mapping) or not isinstance(cluster.get("kind", "local"), str):
        message = f"{where} has for the cluster {name!r} something that is not a mapping with a `kind`."
        raise UsageProblem(message, hint="For example: {'local': {'kind': 'local'}}.")
    if not isinstance(cluster.get("trust", False), bool):
        message = f"{where} has for the cluster {name!r} a `trust` that is neither true nor false."
        raise UsageProblem(message, hint="Leave it out, unless code that its nodes send may run in your notebook.")
    read_site(f"{where}, cluster {name!r}", cluster.get("site"))


def _clusters_file(configured: str) -> Path:
    return Path(configured).expanduser() if configured else Path(jupyter_config_dir()) / "remote-gpu-clusters.json"
