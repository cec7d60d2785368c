"""The kinds of cluster, found by entry point, and the table of the clusters that there are.

A cluster is made when it is first asked for, and anew when its configuration is another one: the user's own may come, change and go while the gateway
runs, here or through another gateway of his.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from jupyter_remote_gpu.clusters.base import GROUP, Cluster, ClusterFactory, HoldsConnections, Surroundings
from jupyter_remote_gpu.clusters.bundle import Bundle
from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.configurations import Configurations, Configured
from jupyter_remote_gpu.models import ClusterKind
from jupyter_remote_gpu.offers import Site
from jupyter_remote_gpu.settings import OF_ALL_KINDS, Settings
from jupyter_remote_gpu.sites import read_site
from remote_gpu.errors import UnknownCluster, UsageProblem

__all__ = ["Clusters"]

_BUILT_IN = {"local": "local:LocalCluster", "ssh": "ssh:SshCluster", "slurm": "slurm:SlurmCluster"}


class Clusters(Mapping[str, Cluster]):
    """The clusters by name, in the order of their configurations. All calls come from the gateway's event loop. `ready` has some that are made already."""

    def __init__(self, settings: Settings, ready: Mapping[str, Cluster] | None = None, logins: Logins | None = None) -> None:
        self.configurations = Configurations(settings)
        self.changed: Callable[[str], None] = lambda _: None
        """Called with the name of a cluster that came, went, or is configured otherwise now."""
        self._surroundings = Surroundings(settings, logins or Logins(), Bundle())
        self._ready: dict[str, Cluster] = dict(ready or {})
        self._made: dict[str, Cluster] = {}
        self._trials: dict[str, Cluster] = {}
        self._own = self.configurations.own
        self._closing: set[asyncio.Task[None]] = set()

    def __getitem__(self, name: str) -> Cluster:
        """The cluster `name`; raises `UnknownCluster`, with the nearest name, when there is none."""
        self.look()
        if (made := self.made(name)) is not None:
            return made
        if name not in self.configurations:
            raise self._unknown(name)
        self._made[name] = self._make(name, self.configurations[name].config)
        return self._made[name]

    def made(self, name: str) -> Cluster | None:
        """The cluster `name`, if somebody asked for it already."""
        return self._trials.get(name) or self._ready.get(name) or self._made.get(name)

    def __iter__(self) -> Iterator[str]:
        self.look()
        return iter(dict.fromkeys([*self.configurations, *self._ready]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        self.look()
        return name in self.configurations or name in self._ready or name in self._trials

    def kind(self, name: str) -> str:
        """The kind of the cluster `name`, without making it."""
        made = self.made(name)
        if made is not None:
            return made.kind
        return str(self.configurations[name].config.get("kind", "local")) if name in self.configurations else "local"

    def place(self, name: str) -> tuple[str, str]:
        """What is the same for clusters that are one place under several names: kind and host."""
        config = self.configurations[name].config if name in self.configurations else {"host": name}
        return self.kind(name), str(config.get("host", ""))

    def site(self, name: str) -> Site:
        """Where the cluster `name` is, as its configuration says."""
        return read_site(name, self.configurations[name].config.get("site")) if name in self.configurations else Site()

    def look(self) -> None:
        """Notice what changed in the file of the user's own clusters; looks at it at most once a second."""
        before, self._own = self._own, self.configurations.own
        if before is not self._own:
            for name in {**before, **self._own}:
                if before.get(name) != self._own.get(name):
                    self._retire(name)
                    self.changed(name)

    def check(self, name: str, config: Mapping[str, Any]) -> None:
        """Raise why the user cannot have such a new cluster of his own: `UsageProblem`, `NameTaken`, `NotAllowed`."""
        self.configurations.check_new(name, config)
        if self._make(name, config).kind == ClusterKind.SLURM:
            from jupyter_remote_gpu.clusters import slurm_trial

            slurm_trial.check(name, config)

    def configured(self, name: str) -> Configured:
        """How the cluster `name` is configured; raises `UnknownCluster`."""
        if name not in self.configurations:
            raise self._unknown(name)
        return self.configurations[name]

    def add(self, name: str, config: Mapping[str, Any]) -> None:
        """A new cluster of the user's own, from now on and for all of his gateways. Raises as `check` does, and `NotWritable`."""
        self.check(name, config)
        self.configurations.write(name, config)
        self.look()

    def change(self, name: str, change: Mapping[str, Any]) -> None:
        """Set some keys of one of the user's own. Raises as `Configurations.own_config` and `add` do."""
        config = {**self.configurations.own_config(name), **change}
        self._make(name, config)
        self.configurations.write(name, config)
        self.look()

    def remove(self, name: str) -> None:
        """One of the user's own is not there any more. Raises as `Configurations.own_config` does, and `NotWritable`."""
        self.configurations.own_config(name)
        self.configurations.write(name, None)
        self.look()

    @contextlib.asynccontextmanager
    async def trial(self, name: str, config: Mapping[str, Any]) -> AsyncIterator[None]:
        """While this is open, there is a cluster `name` for whoever asks for it by its name; it is not listed, and written nowhere.

        Raises as `check` does.
        """
        self.check(name, config)
        made = self._trials[name] = self._make(name, config)
        try:
            yield
        finally:
            del self._trials[name]
            await _closed(made)

    async def aclose(self) -> None:
        """Let go of connections; what runs on the clusters goes on."""
        await asyncio.gather(*self._closing, *(_closed(cluster) for cluster in (*self._ready.values(), *self._made.values())))

    def _retire(self, name: str) -> None:
        old = self._made.pop(name, None)
        if old is not None:
            task = asyncio.create_task(_closed(old), name=f"closing {name}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _make(self, name: str, config: Mapping[str, Any]) -> Cluster:
        read_site(f"The cluster {name!r}", config.get("site"))
        options = {key: value for key, value in config.items() if key not in OF_ALL_KINDS}
        return _factory(str(config.get("kind", "local")))(name, options, self._surroundings)

    def _unknown(self, name: str) -> UnknownCluster:
        names = list(self)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known clusters: {', '.join(names) or 'none is configured'}."
        if self.configurations.problem is not None:
            hint = f"{hint} {self.configurations.problem}"
        return UnknownCluster(f"There is no cluster {name!r}.", hint=hint, suggestion=near[0] if near else None)


async def _closed(cluster: Cluster) -> None:
    if isinstance(cluster, HoldsConnections):
        await cluster.aclose()


def _factory(kind: str) -> ClusterFactory:
    if kind in _BUILT_IN:  # also in a source tree that is not installed
        module, _, kind_class = _BUILT_IN[kind].partition(":")
        own: ClusterFactory = getattr(import_module(f"jupyter_remote_gpu.clusters.{module}"), kind_class).of
        return own
    found = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in found:
        known = ", ".join(sorted({*_BUILT_IN, *found}))
        message = f"There is no kind of cluster {kind!r}."
        raise UsageProblem(message, hint=f"Kinds that are installed: {known}.")
    factory: ClusterFactory = found[kind].load()
    return factory
