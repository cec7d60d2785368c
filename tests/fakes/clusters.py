"""A cluster in memory that fails at a named step, or waits there until it is told to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from jupyter_remote_gpu.models import Allocation, AllocationState, Gpu, KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool
from remote_gpu.errors import LinkProblem, RemoteGpuError, StartFailed
from remote_gpu.streams import FrameStream

STEPS = ("before the request", "in the queue", "after the grant")
"""Where a launch can fail or wait."""


class FakeCluster:
    """Grants one GPU after a queue. What it has granted and not been given back is in `held`."""

    kind = "fake"

    def __init__(self, name: str = "fake", *, fails_at: str = "", waits_at: str = "", gpus: int = 2) -> None:
        assert not {fails_at, waits_at} - {"", "snapshot", *STEPS}
        self.name = name
        self.fails_at = fails_at
        self.waits_at = waits_at
        self.go = asyncio.Event()
        self.held: dict[str, Allocation] = {}
        self.launches = 0
        self.released: list[str] = []
        self.gpus = gpus

    async def snapshot(self) -> ClusterSnapshot:
        await self._step("snapshot")
        pool = Pool("fake", "Fake GPU", 1000, self.gpus, self.gpus - len(self.held), self.gpus, "x86_64", "cuda")
        return ClusterSnapshot(self.name, self.kind, ClusterState.READY, "", (pool,), 1.0)

    async def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        self.launches += 1
        await self._step("before the request")
        granted = Allocation(self.name, kernel.session, job_id=f"job-{self.launches}", detail="Place 1 in the queue.")
        self.held[kernel.session] = granted
        yield granted
        await self._step("in the queue")
        granted = replace(granted, state=AllocationState.RUNNING, node="node-1", pid=1, gpus=(Gpu("Fake GPU", 1000),), detail="")
        self.held[kernel.session] = granted
        yield granted
        await self._step("after the grant")

    async def poll(self, allocation: Allocation) -> Allocation:
        if allocation.state.over:
            return allocation
        known = self.held.get(allocation.session)
        return known or replace(allocation, state=AllocationState.ENDED, detail="The cluster does not know it any more.")

    async def open_stream(self, allocation: Allocation, session: SessionId) -> FrameStream:
        raise LinkProblem(f"Nothing of {session} answers on {allocation.node}.")

    async def release(self, allocation: Allocation) -> None:
        self.released.append(allocation.session)
        self.held.pop(allocation.session, None)

    async def _step(self, name: str) -> None:
        if name == self.waits_at:
            await self.go.wait()
        if name == self.fails_at:
            raise self.error(name)

    def error(self, name: str) -> RemoteGpuError:
        return StartFailed(f"The scheduler said no {name}.", step=name)
