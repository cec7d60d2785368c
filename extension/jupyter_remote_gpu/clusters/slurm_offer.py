"""What a Slurm cluster offers, each part of it asked at its own pace and within its own time: only nodes that cannot be had are a failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from jupyter_remote_gpu.clusters.machines import Machine
from jupyter_remote_gpu.clusters.slurm_commands import asking
from jupyter_remote_gpu.clusters.slurm_nodes import once, pools
from jupyter_remote_gpu.clusters.slurm_pending import Pending, hides_jobs, parse_pending, pending_command, with_queue
from jupyter_remote_gpu.clusters.slurm_site import config_command, parse_partitions, partitions_command
from jupyter_remote_gpu.clusters.slurm_values import NodeGroup
from jupyter_remote_gpu.offers import Pool
from remote_gpu.errors import RemoteGpuError

__all__ = ["OWN_JOBS_ONLY", "Offer"]

OWN_JOBS_ONLY = "its queue shows only your own jobs"

_T = TypeVar("_T")
_LIMIT = 10.0  # seconds that each of the further questions may take
_QUEUE_EVERY = 60.0  # seconds that a look at the whole queue is believed: sites ask users not to look more often
_RULES_EVERY = 600.0
_FORGET_AFTER = 900.0  # seconds after which an answer that was had once counts no more


class Offer:
    """That of one cluster, through `machine`; `nodes` has its nodes, and raises when they cannot be had."""

    def __init__(self, machine: Machine, nodes: Callable[[], Awaitable[Sequence[NodeGroup]]]) -> None:
        self._machine = machine
        self._nodes = nodes
        self._queue = _Seldom(self._pending, _QUEUE_EVERY)
        self._limits = _Seldom(self._time_limits, _RULES_EVERY)
        self._hidden = _Seldom(self._hides_jobs, _RULES_EVERY)

    async def look(self) -> tuple[tuple[Pool, ...], tuple[Pool, ...], str]:
        """(the pools, the same with each node once, what is to be said of them)."""
        beside = asyncio.gather(*(each.renew() for each in (self._queue, self._limits, self._hidden) if each.due))
        try:
            groups = await self._nodes()
            await beside
        except BaseException:
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside
            raise
        hidden = self._hidden.answer
        seen = with_queue(pools(groups), () if hidden else self._queue.answer or (), self._limits.answer or {})
        return seen, pools(once(groups)), OWN_JOBS_ONLY if hidden else ""

    async def _pending(self) -> tuple[Pending, ...] | None:
        done = await self._machine.run(asking(pending_command()), limit=_LIMIT)
        failed = done.status != 0 or (done.err.strip() and not done.out.strip())  # the status is the last command's of the pipe
        return None if failed else parse_pending(done.out)

    async def _time_limits(self) -> dict[str, int | None] | None:
        done = await self._machine.run(asking(partitions_command()), limit=_LIMIT)
        return {each.name: each.max_time for each in parse_partitions(done.out)} if done.status == 0 else None

    async def _hides_jobs(self) -> bool | None:
        done = await self._machine.run(asking(config_command()), limit=_LIMIT)
        return hides_jobs(done.out) if done.status == 0 else None


class _Seldom(Generic[_T]):
    """An answer that is asked for at most `every` seconds, whether it could be had or not."""

    def __init__(self, ask: Callable[[], Awaitable[_T | None]], every: float) -> None:
        self._ask = ask
        self._every = every
        self._asked = self._had = float("-inf")
        self._answer: _T | None = None

    @property
    def due(self) -> bool:
        """Whether it is time to ask."""
        return asyncio.get_running_loop().time() - self._asked >= self._every

    @property
    def answer(self) -> _T | None:
        """As it was had last; None when it was not, or too long ago."""
        return self._answer if asyncio.get_running_loop().time() - self._had < _FORGET_AFTER else None

    async def renew(self) -> None:
        """Ask; where that fails, the last answer stands."""
        clock = asyncio.get_running_loop().time
        self._asked = clock()
        with contextlib.suppress(RemoteGpuError, TimeoutError):
            async with asyncio.timeout(_LIMIT):
                if (answer := await self._ask()) is not None:
                    self._answer, self._had = answer, clock()
