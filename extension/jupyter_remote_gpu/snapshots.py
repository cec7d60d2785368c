"""Keeps what is known of each cluster fresh, in the background, and only while somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.models import ClusterSnapshot, ClusterState
from remote_gpu.errors import RemoteGpuError

__all__ = ["Snapshots"]

_LIMIT = 60.0


class Snapshots:
    """The last known snapshot of each cluster. Asking never waits for a cluster, unless it is told to."""

    def __init__(
        self,
        clusters: Clusters,
        *,
        log: logging.Logger,
        every: float = 15.0,
        pause_after: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clusters = clusters
        self._log = log
        self._every = every
        self._pause_after = pause_after
        self._clock = clock
        self._asked = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, asyncio.Event] = {}
        self._known: dict[str, ClusterSnapshot] = {
            name: ClusterSnapshot(name, clusters.kind(name), detail="Looking at it for the first time.") for name in clusters
        }

    def all(self) -> list[ClusterSnapshot]:
        """What is known now, in the order of the configuration; whatever is old is looked at again in the background."""
        self._asked = self._clock()
        for name in self._clusters:
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._watch(name), name=f"snapshots of {name}")
        return list(self._known.values())

    async def known(self, timeout: float) -> list[ClusterSnapshot]:  # noqa: ASYNC109  the caller's patience, not a failure
        """As `all`, after waiting at most `timeout` seconds for clusters that were never seen."""
        unseen = [self._event(each.name) for each in self.all() if each.state is ClusterState.CHECKING]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for event in unseen:
                    await event.wait()
        return self.all()

    async def aclose(self) -> None:
        """Stop looking."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, name: str) -> None:
        try:
            while self._clock() - self._asked < self._pause_after:
                self._known[name] = await self._look(name)
                self._event(name).set()
                await asyncio.sleep(self._every)
        finally:
            self._tasks.pop(name, None)

    async def _look(self, name: str) -> ClusterSnapshot:
        try:
            async with asyncio.timeout(_LIMIT):
                return await self._clusters[name].snapshot()
        except RemoteGpuError as error:
            detail = str(error)
        except TimeoutError:
            detail = f"It did not answer within {_LIMIT:g} s."
        self._log.warning("The cluster %s cannot be reached: %s", name, detail)
        return replace(self._known[name], state=ClusterState.UNREACHABLE, detail=detail, updated=self._clock())

    def _event(self, name: str) -> asyncio.Event:
        return self._seen.setdefault(name, asyncio.Event())
