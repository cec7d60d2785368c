"""A session that several clusters may serve: asked one after the other, or at once. One of them gets it, and all others are given back.

The registry knows of each before it is asked (see `contenders`). In turn, the one before is given back before the next one is asked, so that no two are
paid; at once, the first that runs takes the session, in one transaction, and the others are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Scheduled
from jupyter_remote_gpu.contenders import Contenders
from jupyter_remote_gpu.models import Allocation, AllocationState, SessionId
from jupyter_remote_gpu.selection import Candidate
from remote_gpu.errors import RemoteGpuError, SessionEnded, StartFailed

__all__ = ["Contest", "patience_of"]

_LEAST, _MOST = 60.0, 12 * 3600.0
_AGAIN = 10.0  # seconds until what could not be given back is tried again
Launch = Callable[[str], AsyncIterator[Allocation]]


def patience_of(candidate: Candidate) -> float:
    """Seconds within which nine of ten requests run there; it is waited for so long."""
    return min(max(candidate.wait.high if candidate.wait is not None else _MOST, _LEAST), _MOST)


@dataclass(slots=True)
class _Step:
    """A step of one launch, which goes on once it is `known`; or why that launch is over."""

    cluster: str
    allocation: Allocation | None
    known: asyncio.Event
    problem: RemoteGpuError | None = None


class Contest:
    """The contest for one session. `launch` begins the launch on the cluster of that name."""

    def __init__(self, session: SessionId, contenders: Contenders, clusters: Clusters, launch: Launch, log: logging.Logger) -> None:
        self._session = session
        self._contenders = contenders
        self._clusters = clusters
        self._launch = launch
        self._log = log

    async def in_turn(self, asked: Sequence[tuple[str, float]]) -> AsyncIterator[Allocation]:
        """Ask the clusters, each for at most so many seconds (the last one for as long as it takes); yields the session's allocation as it becomes.

        The next one is asked once the one before has been given back, however long that takes. Raises the last one's problem.
        """
        for place, (name, patience) in enumerate(asked):
            following = asked[place + 1][0] if place + 1 < len(asked) else ""
            deadline = asyncio.get_running_loop().time() + patience if following else None
            try:
                async with aclosing(self._launch(name)) as steps:  # type: ignore[type-var]
                    while (allocation := await _next(steps, deadline)) is not None:
                        yield allocation
                        if allocation.state is AllocationState.RUNNING:
                            deadline = None
            except RemoteGpuError as problem:
                if not following:
                    raise
                why = f"{name} did not start it: {problem.message}"
            except TimeoutError:
                why = f"{name} did not start it within {patience / 60:.0f} min, as nine of ten times it does."
            else:
                return
            self._log.info("The session %s goes to %s: %s", self._session, following, why)
            moved = Allocation(following, self._session, detail=f"{why} Asking {following}.")
            if not self._contenders.move(moved, f"{following}: {why}", asked=time.time()):
                raise SessionEnded("The session was stopped while it started.")
            yield moved
            while not await self.give_back():
                yield replace(moved, detail=f"{why} It is to be given back there before {following} is asked, and does not answer.")
                await asyncio.sleep(_AGAIN)

    async def at_once(self, own: str, launches: Mapping[str, AsyncIterator[Allocation]]) -> AsyncIterator[Allocation]:
        """Drive all launches; yields the allocation of `own`, in whose name the session stands, and then that of the first which runs.

        Raises the problem of `own` when none of them starts.
        """
        steps: asyncio.Queue[_Step] = asyncio.Queue()
        tasks = {name: asyncio.create_task(_drive(name, each, steps), name=f"{self._session} on {name}") for name, each in launches.items()}
        problems: dict[str, RemoteGpuError] = {}
        try:
            while len(problems) < len(tasks):
                step = await steps.get()
                if step.allocation is None:
                    problems[step.cluster] = step.problem or StartFailed(f"{step.cluster} granted nothing.")
                    self._log.info("%s does not start %s: %s", step.cluster, self._session, problems[step.cluster])
                    continue
                if step.allocation.state is AllocationState.RUNNING:
                    await _end([task for name, task in tasks.items() if name != step.cluster])
                    taken = replace(step.allocation, state=AllocationState.PENDING)  # a crash here, and it is found running
                    if not self._contenders.move(taken, f"{step.cluster}: of {', '.join(launches)}, it started first."):
                        raise SessionEnded("The session was stopped while it started.")
                    yield step.allocation
                    step.known.set()
                    await asyncio.wait([tasks[step.cluster]])
                    await self.give_back()
                    return
                if step.cluster == own:
                    yield step.allocation
                else:
                    self._contenders.put(step.allocation)
                step.known.set()
        finally:
            await _end(list(tasks.values()))
        raise problems[own]

    def resumed(self, own: Allocation) -> dict[str, AsyncIterator[Allocation]]:
        """The launches of an earlier gateway's contest, gone on with, as far as their clusters can."""
        found: dict[str, AsyncIterator[Allocation]] = {}
        for allocation in (own, *self._contenders.of(self._session)):
            if allocation.cluster not in self._clusters:
                continue
            cluster: object = self._clusters[allocation.cluster]
            if isinstance(cluster, Scheduled):
                found[allocation.cluster] = cluster.resume(allocation)
        return found

    async def give_back(self) -> bool:
        """Give back what the session was asked for elsewhere; False when something of it cannot be now."""
        return all(await asyncio.gather(*(self._give_back(each) for each in self._contenders.of(self._session))))

    async def _give_back(self, allocation: Allocation) -> bool:
        if allocation.cluster not in self._clusters:
            return False
        try:
            await self._clusters[allocation.cluster].release(allocation)
        except RemoteGpuError as error:
            self._log.warning("What %s was asked for %s is not given back yet: %s", allocation.cluster, self._session, error)
            return False
        self._contenders.drop(allocation)
        return True


async def _next(steps: AsyncIterator[Allocation], deadline: float | None) -> Allocation | None:
    """The next step, None after the last one. Raises `TimeoutError` at the deadline."""
    async with asyncio.timeout_at(deadline):
        return await anext(steps, None)


async def _drive(name: str, launch: AsyncIterator[Allocation], steps: asyncio.Queue[_Step]) -> None:
    """Take the steps of one launch, each once the one before is known."""
    try:
        async with aclosing(launch) as allocations:  # type: ignore[type-var]
            async for allocation in allocations:
                step = _Step(name, replace(allocation), asyncio.Event())
                steps.put_nowait(step)
                await step.known.wait()
        problem = None
    except RemoteGpuError as error:
        problem = error
    except Exception as error:  # noqa: BLE001  a mistake of ours, or of somebody's cluster kind: the others go on
        problem = StartFailed(f"The start met something unexpected: {type(error).__name__}: {error}.")
    steps.put_nowait(_Step(name, None, asyncio.Event(), problem))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
