"""Which clusters are configured, and how: those of the setting ``RemoteGpu.clusters``, and under them the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_remote_gpu.cluster_file import ClusterFile
from jupyter_remote_gpu.settings import Settings, check_cluster
from remote_gpu.errors import NameTaken, NotAllowed, RemoteGpuError, UnknownCluster, UsageProblem

__all__ = ["Configurations", "Configured"]

_NONE: Mapping[str, Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Configured:
    """A cluster's configuration. `own`: it stands in the user's own file, and can be changed while the gateway runs."""

    config: Mapping[str, Any]
    own: bool = False


class Configurations(Mapping[str, Configured]):
    """By the clusters' names, in the order of the setting and then of the file; of two with one name, the setting's counts."""

    def __init__(self, settings: Settings) -> None:
        self._set = settings.clusters
        self._file = ClusterFile(settings.clusters_file) if settings.own_clusters else None

    @property
    def own(self) -> Mapping[str, Mapping[str, Any]]:
        """What the user's own file says, as of a second ago; the same object as long as nothing changed."""
        return self._file.clusters if self._file is not None else _NONE

    @property
    def problem(self) -> RemoteGpuError | None:
        """Why that file is not as it should be; what was read of it before counts until it is."""
        return self._file.problem if self._file is not None else None

    @property
    def trusted(self) -> Container[str]:
        """The clusters whose configuration says ``trust``, at the time of the question."""
        return _Trusted(self)

    def __getitem__(self, name: str) -> Configured:
        if name in self._set:
            return Configured(self._set[name])
        return Configured(self.own[name], own=True)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._set, *self.own]))

    def __len__(self) -> int:
        return len({*self._set, *self.own})

    def __contains__(self, name: object) -> bool:
        return name in self._set or name in self.own

    def write(self, name: str, config: Mapping[str, Any] | None) -> None:
        """Give the user's own cluster `name` this configuration, or None: take it out of his file. Raises `UsageProblem` for a damaged file, `NotWritable`."""
        self._changeable().change(name, config)

    def check_new(self, name: str, config: Mapping[str, Any]) -> None:
        """Raise why the user cannot have such a cluster, whatever its kind: `NotAllowed`, `NameTaken`, `UsageProblem`."""
        self._changeable()
        check_cluster("The request", name, config)
        if "trust" in config:
            hint = "It stands in the Jupyter server's configuration; or write it, by hand, into the file of your clusters."
            raise UsageProblem("`trust` cannot be set from here: it lets code of a cluster's nodes run in your notebook.", hint=hint)
        same = next((known for known in self if known.lower() == name.lower()), None)  # as the names of kernelspecs are compared
        if same in self._set:
            message = f"The Jupyter server's configuration has a cluster {same!r} already, and counts before your own."
            raise NameTaken(message, hint="Choose another name.", cluster=same)
        if same is not None:
            hint = f"Choose another name, or remove it first: `jupyter remote-gpu clusters remove {same}`."
            raise NameTaken(f"There is a cluster {same!r} already.", hint=hint, cluster=same)

    def own_config(self, name: str) -> Mapping[str, Any]:
        """The configuration of one of the user's own. Raises `UnknownCluster`, and `NotAllowed` when it is not his to change."""
        self._changeable()
        if name in self._set:
            message = f"The cluster {name} stands in the Jupyter server's configuration, not in the file of your own clusters."
            raise NotAllowed(message, hint="Change it there (RemoteGpu.clusters), and start the server again.", cluster=name)
        if name not in self.own:
            near = difflib.get_close_matches(name, self.own, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"You have: {', '.join(self.own) or 'none'}."
            raise UnknownCluster(f"You have no cluster {name!r} of your own.", hint=hint, suggestion=near[0] if near else None)
        return self.own[name]

    def _changeable(self) -> ClusterFile:
        if self._file is None:
            hint = "It is RemoteGpu.own_clusters in the Jupyter server's configuration."
            raise NotAllowed("A setting of this Jupyter server forbids clusters of your own.", hint=hint)
        return self._file


class _Trusted(Container[str]):
    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations

    def __contains__(self, name: object) -> bool:
        return name in self._configurations and self._configurations[str(name)].config.get("trust") is True
