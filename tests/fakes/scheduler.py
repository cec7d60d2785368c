"""A cluster in memory with a queue: launches can be gone on with, sessions found and extended, and a grant be taken away again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from tests.fakes.clusters import FakeCluster

from jupyter_remote_gpu.models import Allocation, AllocationState, Found, KernelLaunch, ResourceRequest
from remote_gpu.errors import NotAllowed, StartFailed

__all__ = ["FakeScheduler"]


class FakeScheduler(FakeCluster):
    """Grants what waits when `grant` is called. What stands there is in `held`, whoever started it."""

    def __init__(self, name: str = "queue") -> None:
        super().__init__(name)
        self.names: dict[str, str] = {}
        self.moved = asyncio.Event()
        self.generous = True

    async def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        self.launches += 1
        job = Allocation(self.name, kernel.session, job_id=f"job-{self.launches}", detail="It waits.")
        self.held[kernel.session], self.names[kernel.session] = job, kernel.name
        yield job
        async for each in self.resume(job):
            yield each

    async def resume(self, allocation: Allocation) -> AsyncIterator[Allocation]:
        while (known := self.held.get(allocation.session)) is not None:
            if known.state is AllocationState.RUNNING:
                yield known
                return
            moved = self.moved
            await moved.wait()
        raise StartFailed("The scheduler does not know it.")

    async def poll(self, allocation: Allocation) -> Allocation:
        if allocation.state.over:
            return allocation
        known = self.held.get(allocation.session)
        return known or replace(allocation, state=AllocationState.ENDED, detail="The scheduler does not know it.")

    async def sessions(self) -> Sequence[Found]:
        return [Found(allocation, self.names[session]) for session, allocation in self.held.items()]

    async def extend(self, allocation: Allocation, seconds: int) -> Allocation:
        if not self.generous:
            raise NotAllowed("The scheduler says: Access denied.")
        return replace(allocation, ends=allocation.ends + seconds)

    async def log(self, allocation: Allocation, lines: int) -> str:
        return f"what {allocation.job_id} wrote"

    def move(self, session: str, state: AllocationState, **change) -> None:
        """Let the scheduler grant, or take back."""
        self.held[session] = replace(self.held[session], state=state, **change)
        self.moved.set()
        self.moved = asyncio.Event()
