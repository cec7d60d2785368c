"""Clusters: ``/remote-gpu/clusters``, ``/remote-gpu/selections`` and ``/remote-gpu/prewarm``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from jupyter_remote_gpu.clusters.base import Prewarms
from jupyter_remote_gpu.handlers.base import Handler, authorized
from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.selection import rank
from remote_gpu.errors import RemoteGpuError, UsageProblem

__all__ = ["ClustersHandler", "PrewarmHandler", "SelectionsHandler", "request_of"]


class ClustersHandler(Handler):
    """What the clusters look like."""

    _track_activity = False

    @authorized
    async def get(self) -> None:
        """Every cluster as it was last seen; ``?wait=SECONDS`` waits for those that were never seen."""
        wait = self.seconds(self.get_query_argument("wait", None))
        snapshots = await self.parts.snapshots.known(wait)
        self.answer({"clusters": [snapshot.json() for snapshot in snapshots]})


class SelectionsHandler(Handler):
    """Where a request would run."""

    @authorized
    async def post(self) -> None:
        """Rank the clusters for ``request``; nothing is started."""
        body = self.body()
        self.only(body, {"request"})
        snapshots = await self.parts.snapshots.known(5)
        self.answer(rank(request_of(self, body), snapshots, now=time.time()).json())


class PrewarmHandler(Handler):
    """Preparation for a quick start."""

    @authorized
    async def post(self) -> None:
        """Have ``cluster`` prepare itself; answers at once, and failing is harmless."""
        body = self.body()
        self.only(body, {"cluster"})
        parts = self.parts
        cluster = parts.clusters[self.typed(body, "cluster", str) or next(iter(parts.clusters))]
        if isinstance(cluster, Prewarms):
            parts.sessions.spawn(_prewarm(self, cluster))
        self.answer({}, 202)


async def _prewarm(handler: Handler, cluster: Prewarms) -> None:
    try:
        async with asyncio.timeout(60):
            await cluster.prewarm()
    except (RemoteGpuError, TimeoutError) as error:
        handler.log.info("Preparing a quick start did not work: %s", error)


def request_of(handler: Handler, body: dict[str, Any]) -> ResourceRequest:
    """The ``request`` of a body; raises `UsageProblem` for a name or value that cannot be."""
    value = handler.typed(body, "request", dict) or {}
    handler.only(value, ResourceRequest)
    numbers = {name: handler.typed(value, name, int) for name in ("gpus", "memory_mb", "time")}
    negative = [name for name, number in numbers.items() if number is not None and number < 0]
    if negative:
        raise UsageProblem(f"{negative[0]!r} cannot be negative.")
    return ResourceRequest(
        gpus=numbers["gpus"],
        gpu_model=handler.typed(value, "gpu_model", str) or "",
        memory_mb=numbers["memory_mb"] or 0,
        time=numbers["time"] or 0,
    )
