"""Clusters: ``/remote-gpu/clusters`` and ``/remote-gpu/prewarm``."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_remote_gpu.clusters.base import Prewarms
from jupyter_remote_gpu.clusters.options import request_from
from jupyter_remote_gpu.handlers.base import Handler, authorized
from jupyter_remote_gpu.models import ResourceRequest
from remote_gpu.errors import RemoteGpuError, UsageProblem

__all__ = [
    "ClusterConfigHandler",
    "ClusterHandler",
    "ClustersHandler",
    "PrewarmHandler",
    "request_of",
]


class ClustersHandler(Handler):
    """What the clusters look like."""

    _track_activity = False

    @authorized
    async def get(self) -> None:
        """Every cluster as it was last seen; ``?wait=SECONDS`` waits for those that were never seen."""
        wait = self.seconds(self.get_query_argument("wait", None))
        snapshots = await self.parts.snapshots.known(wait)
        problem = self.parts.clusters.configurations.problem
        self.answer({"clusters": [snapshot.json() for snapshot in snapshots], "problem": problem.problem() if problem else None})

    @authorized
    async def post(self) -> None:
        """Add one of the user's own; nothing is looked at and nobody is asked."""
        body = self.body()
        self.only(body, {"name", "config"})
        name, config = self.typed(body, "name", str), self.typed(body, "config", dict)
        if not name or config is None:
            raise UsageProblem(
                "'name' or 'config' is missing.", hint='For example {"name": "box", "config": {"kind": "ssh", "host": "box"}}.'
            )
        self.parts.clusters.add(name, config)
        self.answer(configured(self, name), 201)


class ClusterHandler(Handler):
    """One cluster."""

    @authorized
    async def delete(self, cluster: str) -> None:
        """Take one of the user's own out of his file; refused while a session is there."""
        self.parts.clusters.configurations.own_config(cluster)
        for session in await self.parts.sessions.list():
            if session.cluster == cluster and not session.state.over:
                message = f"The remote session {session.name!r} is on {cluster} still ({session.state})."
                raise UsageProblem(message, hint=f"Stop it first: `jupyter remote-gpu stop {session.name}`.", session=session.name)
        self.parts.clusters.remove(cluster)
        self.answer(None)


class ClusterConfigHandler(Handler):
    """How one cluster is configured."""

    _track_activity = False

    @authorized
    async def get(self, cluster: str) -> None:
        """Its configuration, and whether it is one of the user's own."""
        self.answer(configured(self, cluster))


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


def configured(handler: Handler, name: str) -> dict[str, Any]:
    """The configuration of the cluster `name`, as the API has it. Raises `UnknownCluster`."""
    found = handler.parts.clusters.configured(name)
    return {"name": name, "config": dict(found.config), "own": found.own}


def request_of(handler: Handler, body: dict[str, Any]) -> ResourceRequest:
    """The ``request`` of a body; raises `UsageProblem` for a name or value that cannot be."""
    return request_from(handler.typed(body, "request", dict) or {}, "The request")
