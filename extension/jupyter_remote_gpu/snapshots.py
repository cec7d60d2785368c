"""Keeps what is known of each cluster fresh, in the background, and only while somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Estimates
from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, StartEstimate
from remote_gpu.errors import RemoteGpuError, UsageProblem

__all__ = ["Snapshots"]

_LIMIT = 60.0
_ESTIMATE_LIMIT = 5.0
_MOVED = 1.0  # seconds by which the time of a look must be off to be put right
_STEPS = ((86400, "d"), (3600, "h"), (60, "min"))
_LITTLE = 2  # of a unit: less is said in the next smaller one

_T = TypeVar("_T")
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _steady() -> float:
    """Seconds that go on evenly, whatever is done to the clock, and while the machine sleeps, too."""
    return time.clock_gettime(_STEADY)


@dataclass(slots=True)
class _Known:
    """The last good look at a cluster, when that was by the steady clock, and why the look after it failed, if it did."""

    seen: ClusterSnapshot
    at: float = 0.0
    problem: str = ""


class Snapshots:
    """The last known snapshot of each cluster. Asking never waits for a cluster, unless it is told to.

    `clock` has the time of day, which may jump; how long ago something was, and when to look again, is counted by `steady`.
    """

    def __init__(
        self,
        clusters: Clusters,
        *,
        log: logging.Logger,
        every: float = 15.0,
        pause_after: float = 60.0,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = _steady,
        limit: float = _LIMIT,
    ) -> None:
        self._clusters = clusters
        self._log = log
        self._every = every
        self._pause_after = pause_after
        self._clock = clock
        self._steady = steady
        self._limit = limit
        self._asked = float("-inf")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._seen: dict[str, asyncio.Event] = {}
        self._known: dict[str, _Known] = {}

    def all(self) -> list[ClusterSnapshot]:
        """What is known now, in the order of the configuration; whatever is old is looked at again in the background.

        `updated` is when the cluster last answered; of one that does not answer now, the `detail` says why, and how old the rest is.
        """
        self._asked = self._steady()
        names = list(self._clusters)
        for name in names:
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._watch(name), name=f"snapshots of {name}")
        return [self._now(name) for name in names]

    async def known(self, timeout: float) -> list[ClusterSnapshot]:  # noqa: ASYNC109  the caller's patience, not a failure
        """As `all`, after waiting at most `timeout` seconds for clusters that were never seen."""
        unseen = [self._event(each.name) for each in self.all() if each.state is ClusterState.CHECKING]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for event in unseen:
                    await event.wait()
        return self.all()

    async def estimated(
        self,
        request: ResourceRequest,
        timeout: float = _ESTIMATE_LIMIT,  # noqa: ASYNC109  the caller's patience, not a failure
    ) -> tuple[list[ClusterSnapshot], Mapping[str, UsageProblem]]:
        """(what is known, each with its scheduler's own estimate for `request`; the refusals of those that would not take it, by cluster).

        The clusters are asked side by side, for `timeout` seconds in all; one that does not answer by then has no estimate.
        """
        found = self.all()
        refused: dict[str, UsageProblem] = {}
        asking = [self._estimate(each, request, timeout, refused) for each in found]
        return [replace(each, estimate=said) for each, said in zip(found, await asyncio.gather(*asking), strict=True)], refused

    def forget(self, name: str) -> None:
        """A cluster is gone, or is another one under its name: what is known of it does not count any more."""
        self._known.pop(name, None)
        self._seen.pop(name, None)
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """Stop looking."""
        tasks = [*self._tasks.values(), *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, name: str) -> None:
        try:
            while self._steady() - self._asked < self._pause_after:
                await self._look(name)
                self._event(name).set()
                await asyncio.sleep(self._every)
        finally:
            if self._tasks.get(name) is asyncio.current_task():
                del self._tasks[name]

    async def _look(self, name: str) -> None:
        known = self._known.get(name)
        try:
            seen = await _within(self._limit, self._clusters[name].snapshot())
        except RemoteGpuError as error:
            problem = str(error)
        except TimeoutError:
            problem = f"It did not answer within {self._limit:g} s."
        else:
            self._known[name] = _Known(replace(seen, updated=self._clock(), site=self._clusters.site(name)), self._steady())
            return
        known = known or _Known(self._fresh(name))
        if known.problem != problem:  # a night without a network is one line
            self._log.warning("The cluster %s cannot be reached: %s", name, problem)
        self._known[name] = replace(known, problem=problem)

    async def _estimate(
        self,
        seen: ClusterSnapshot,
        request: ResourceRequest,
        limit: float,
        refused: dict[str, UsageProblem],
    ) -> StartEstimate | None:
        if seen.state is not ClusterState.READY:
            return None
        try:
            cluster = self._clusters[seen.name]
            return await _within(limit, cluster.estimate(request)) if isinstance(cluster, Estimates) else None
        except UsageProblem as problem:
            refused[seen.name] = problem
        except (RemoteGpuError, TimeoutError) as error:
            self._log.info("The cluster %s has no estimate: %s", seen.name, str(error) or f"no answer within {limit:g} s")
        return None

    def _now(self, name: str) -> ClusterSnapshot:
        known = self._known.get(name)
        if known is None:
            return self._fresh(name)
        age = max(0.0, self._steady() - known.at)
        seen = known.seen
        if seen.updated and abs(self._clock() - age - seen.updated) > _MOVED:  # the clock has been put right since
            seen = replace(seen, updated=self._clock() - age)
        if not known.problem:
            return seen
        detail = f"{known.problem} {f'What is shown is from {_ago(age)} ago.' if seen.updated else 'It was never seen.'}"
        return replace(seen, state=ClusterState.UNREACHABLE, detail=detail)

    def _fresh(self, name: str) -> ClusterSnapshot:
        return ClusterSnapshot(name, self._clusters.kind(name), detail="Looking at it for the first time.", site=self._clusters.site(name))

    def _event(self, name: str) -> asyncio.Event:
        return self._seen.setdefault(name, asyncio.Event())


async def _within(limit: float, asked: Awaitable[_T]) -> _T:
    async with asyncio.timeout(limit):
        return await asked


def _ago(seconds: float) -> str:
    for size, unit in _STEPS:
        if seconds >= _LITTLE * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
