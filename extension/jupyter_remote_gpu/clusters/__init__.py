"""The kinds of cluster, found by entry point, and the table of those that are configured."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from jupyter_remote_gpu.clusters.base import GROUP, Cluster, ClusterFactory
from jupyter_remote_gpu.settings import Settings
from remote_gpu.errors import UnknownCluster, UsageProblem

__all__ = ["Clusters"]

_OF_ALL_KINDS = {"trust"}
"""Settings of a cluster that are the gateway's own business, whatever its kind."""


class Clusters(Mapping[str, Cluster]):
    """The configured clusters by name, in the order of the configuration; made when they are first asked for."""

    def __init__(self, settings: Settings, ready: Mapping[str, Cluster] | None = None) -> None:
        self._settings = settings
        self._ready: dict[str, Cluster] = dict(ready or {})
        self._names = list(dict.fromkeys([*settings.clusters, *self._ready]))

    def __getitem__(self, name: str) -> Cluster:
        """The cluster `name`; raises `UnknownCluster`, with the nearest name, when there is none."""
        if name not in self._ready:
            if name not in self._settings.clusters:
                raise self._unknown(name)
            self._ready[name] = self._make(name)
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def kind(self, name: str) -> str:
        """The kind of the cluster `name`, without making it."""
        if name in self._ready:
            return self._ready[name].kind
        return str(self._settings.clusters.get(name, {}).get("kind", "local"))

    def _make(self, name: str) -> Cluster:
        options = {key: value for key, value in self._settings.clusters[name].items() if key not in _OF_ALL_KINDS}
        return _factory(self.kind(name))(name, options, self._settings)

    def _unknown(self, name: str) -> UnknownCluster:
        near = difflib.get_close_matches(name, self._names, n=1, cutoff=0.5)
        known = ", ".join(self._names) or "none is configured"
        hint = f"Did you mean {near[0]!r}?" if near else f"Known clusters: {known}."
        return UnknownCluster(f"There is no cluster {name!r}.", hint=hint, suggestion=near[0] if near else None)


def _factory(kind: str) -> ClusterFactory:
    if kind == "local":  # also in a source tree that is not installed
        from jupyter_remote_gpu.clusters.local import LocalCluster

        return LocalCluster
    found = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in found:
        known = ", ".join(sorted({"local", *found}))
        message = f"There is no kind of cluster {kind!r}."
        raise UsageProblem(message, hint=f"Kinds that are installed: {known}.")
    factory: ClusterFactory = found[kind].load()
    return factory
