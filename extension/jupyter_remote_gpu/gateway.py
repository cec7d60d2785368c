"""The gateway's objects, built once when the extension loads, and what all handlers are given."""

from __future__ import annotations

import getpass
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jupyter_remote_gpu.choices import Choices, Lookup
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Cluster
from jupyter_remote_gpu.data_door import DataDoor, door_of
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.sessions import Sessions
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.snapshots import Snapshots
from remote_gpu.discovery import process_start_time
from remote_gpu.folders import node_folder

__all__ = ["GatewayParts", "build"]


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What a gateway consists of. `secret` opens its Unix socket `socket`; `kind` is "server" or "headless"."""

    settings: Settings
    registry: Registry
    clusters: Clusters
    snapshots: Snapshots
    choices: Choices
    sessions: Sessions
    data: DataDoor
    secret: str
    socket: Path
    kind: str
    user: str

    async def aclose(self) -> None:
        """Detach from every session and close what is open; no session ends."""
        await self.data.aclose()
        await self.sessions.aclose()
        await self.snapshots.aclose()
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
    registry = Registry(settings.data_folder, trusted=settings.trusted)
    clusters = Clusters(settings, ready)
    snapshots = Snapshots(clusters, log=log)
    choices = Choices(registry, node_folder() / "choices", notebook_of)
    sessions = Sessions(registry, clusters, snapshots, choices, settings, log=log, me=me)
    path = node_folder("g") / f"{os.getpid()}.sock"
    return GatewayParts(
        settings=settings,
        registry=registry,
        clusters=clusters,
        snapshots=snapshots,
        choices=choices,
        sessions=sessions,
        data=DataDoor(door_of(path), sessions, clusters, log),
        secret=secrets.token_urlsafe(32),
        socket=path,
        kind=kind,
        user=_user(),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
