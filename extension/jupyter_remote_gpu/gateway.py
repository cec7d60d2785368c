"""The gateway's objects, built once when the extension loads, and what all handlers are given."""

from __future__ import annotations

import getpass
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jupyter_remote_gpu.carbon_live import LiveCarbon
from jupyter_remote_gpu.choices import Choices, Lookup
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Cluster
from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.data_door import DataDoor, door_of
from jupyter_remote_gpu.kernelspecs import write_kernelspecs
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.selecting import Selecting
from jupyter_remote_gpu.sessions import Sessions
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.snapshots import Snapshots
from jupyter_remote_gpu.tasks import Tasks
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import NotWritable
from remote_gpu.folders import node_folder

__all__ = ["GatewayParts", "build"]


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What a gateway consists of. `secret` opens its Unix socket `socket`; `kind` is "server" or "headless"."""

    settings: Settings
    registry: Registry
    logins: Logins
    clusters: Clusters
    snapshots: Snapshots
    choices: Choices
    sessions: Sessions
    tasks: Tasks
    data: DataDoor
    carbon: LiveCarbon
    selecting: Selecting
    secret: str
    socket: Path
    kind: str
    user: str

    async def aclose(self) -> None:
        """Detach from every session and close what is open; no session ends."""
        await self.data.aclose()
        await self.tasks.aclose()
        await self.carbon.aclose()
        await self.sessions.aclose()
        await self.snapshots.aclose()
        await self.clusters.aclose()
        await self.logins.aclose()
        self.registry.close()


def build(
    settings: Settings,
    *,
    kind: str,
    log: logging.Logger,
    notebook_of: Lookup,
    ready: Mapping[str, Cluster] | None = None,
    me: tuple[int, int] | None = None,
) -> GatewayParts:
    """Build everything. Raises `NotWritable` when a folder refuses.

    `ready` has clusters that are made already, `me` is (pid, start time) of this process.
    """
    me = me or (os.getpid(), process_start_time(os.getpid()) or 0)
    logins = Logins()
    clusters = Clusters(settings, ready, logins)
    registry = Registry(settings.data_folder, trusted=clusters.configurations.trusted)
    snapshots = Snapshots(clusters, log=log)
    clusters.changed = lambda name: _on_cluster(name, clusters, snapshots, log)
    if clusters.configurations.problem is not None:
        log.warning("%s", clusters.configurations.problem)
    choices = Choices(registry, node_folder() / "choices", notebook_of)
    carbon = LiveCarbon(settings.carbon_source, log=log)
    selecting = Selecting(registry, clusters, snapshots, clock=time.time, grid=carbon.now)
    sessions = Sessions(registry, clusters, selecting, choices, settings, logins=logins, log=log, me=me)
    path = node_folder("g") / f"{os.getpid()}.sock"
    return GatewayParts(
        settings=settings,
        registry=registry,
        logins=logins,
        clusters=clusters,
        snapshots=snapshots,
        choices=choices,
        sessions=sessions,
        tasks=Tasks(logins, log=log),
        data=DataDoor(door_of(path), sessions, clusters, log),
        carbon=carbon,
        selecting=selecting,
        secret=secrets.token_urlsafe(32),
        socket=path,
        kind=kind,
        user=_user(),
    )


def _on_cluster(name: str, clusters: Clusters, snapshots: Snapshots, log: logging.Logger) -> None:
    """A cluster came or went, or is another one: whatever is kept of clusters follows."""
    log.info("The cluster %s is %s.", name, "configured anew" if name in clusters else "gone")
    snapshots.forget(name)
    try:
        write_kernelspecs(clusters)
    except NotWritable as error:
        log.warning("%s", error)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
