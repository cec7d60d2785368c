"""A cluster whose scheduler is Slurm, here or behind ssh: one session is one job, with the supervisor as its batch script.

A job bears its session's name, so that it is found again whatever happened to the gateway between asking for it and hearing its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from jupyter_remote_gpu.clusters.agent_machine import AgentMachine
from jupyter_remote_gpu.clusters.base import Surroundings
from jupyter_remote_gpu.clusters.channels import open_stream
from jupyter_remote_gpu.clusters.environment import refuse_others
from jupyter_remote_gpu.clusters.granted import described
from jupyter_remote_gpu.clusters.machines import Machine, round_trip
from jupyter_remote_gpu.clusters.node_commands import carried
from jupyter_remote_gpu.clusters.options import RemoteOptions, StreamWay, read_options
from jupyter_remote_gpu.clusters.slurm_data import DataWays
from jupyter_remote_gpu.clusters.slurm_estimates import StartEstimates
from jupyter_remote_gpu.clusters.slurm_jobs import Jobs
from jupyter_remote_gpu.clusters.slurm_offer import Offer
from jupyter_remote_gpu.clusters.slurm_queue import Queue
from jupyter_remote_gpu.clusters.slurm_start import Waiting, explained, granted_by, said_before
from jupyter_remote_gpu.clusters.slurm_streams import node_folder_of, within_job
from jupyter_remote_gpu.clusters.transports import Direct, OverSsh
from jupyter_remote_gpu.data_commands import DataCommand
from jupyter_remote_gpu.models import Allocation, AllocationState, ClusterKind, Found, KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, StartEstimate
from jupyter_remote_gpu.settings import Settings
from remote_gpu.errors import LinkProblem, SessionEnded, StartFailed
from remote_gpu.streams import CommandStream

if TYPE_CHECKING:
    from jupyter_remote_gpu.clusters.login import Login
    from remote_gpu.streams import FrameStream

__all__ = ["SlurmCluster"]

_FRESH = 1.0  # seconds that a look at the queue is believed by somebody who asks how a session is
_PATIENCE = 20.0  # seconds that one attach waits on the node for a supervisor that starts, and
_BRIEFLY = 6.0  # for one that was there before: it looks every 2 s whether somebody has cleaned its folder up, and makes its socket anew
_GONE_AFTER = 60.0  # seconds that a cancelled job may take to be gone; a site's KillWait is 30
_LOOK = 0.3
_MOVED = 60.0  # seconds by which a job's end must have moved to be worth telling


class SlurmCluster:
    """One cluster, through the machine that its commands run on: a login node behind `login`, or this one."""

    kind = ClusterKind.SLURM

    def __init__(self, name: str, machine: Machine, configured: RemoteOptions, settings: Settings, login: Login | None = None) -> None:
        self.name = name
        self.login = login
        self.queue = Queue(machine, name)
        self._machine = machine
        self._configured = configured
        self._settings = settings
        self.data = DataWays(machine, configured, name)
        self._jobs = Jobs(machine, configured, name)
        self._offer = Offer(machine, self._jobs.nodes)
        self._estimates = StartEstimates(machine, self._jobs, name)
        self._waiting = Waiting(self.queue, self._jobs, self._attach)
        self._first: dict[SessionId, FrameStream] = {}

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any], surroundings: Surroundings) -> Self:
        """See `ClusterFactory`."""
        read = read_options(name, ClusterKind.SLURM, options)
        login = surroundings.logins.of(read.host) if read.host else None
        transport = OverSsh(login) if login is not None else Direct(surroundings.settings.environment)
        machine = AgentMachine(transport, surroundings.bundle, python=read.python, prologue=read.prologue)
        return cls(name, machine, read, surroundings.settings, login)

    async def snapshot(self) -> ClusterSnapshot:
        """The cluster's pools."""
        seen, distinct, note = await self._offer.look()
        detail = f"{self._machine.name}; {note}" if note else self._machine.name
        trip = await round_trip(self._machine)
        return ClusterSnapshot(self.name, self.kind, ClusterState.READY, detail, seen, time.time(), distinct, trip)

    async def estimate(self, request: ResourceRequest) -> StartEstimate | None:
        """What Slurm thinks of it; it is asked the same at most once in half a minute."""
        return await self._estimates.of(request)

    async def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        """Log in, submit the job, wait in the queue and then for the supervisor."""
        kernel = replace(kernel, env=refuse_others(kernel.env, self._settings.environment))
        wanted = Allocation(self.name, kernel.session, detail=f"Logging in to {self._machine.name}.")
        yield wanted
        await self._machine.hello(ask=True)
        wanted = replace(wanted, folder=kernel.session, detail=f"Asking Slurm on {self._machine.name}.")
        yield wanted  # from here on there may be a job of that name
        job_id = await self._submitted(request, kernel)
        wanted = replace(wanted, job_id=job_id, detail=f"Submitted as Slurm job {job_id}.")
        yield wanted
        async with aclosing(self._started(wanted)) as steps:  # type: ignore[type-var]
            async for allocation in steps:
                yield allocation

    async def resume(self, allocation: Allocation) -> AsyncIterator[Allocation]:
        """Go on with a job that is known by its number, or else by its session's name."""
        if not allocation.job_id:
            job = await self.queue.of_session(allocation.session, within=0) if allocation.folder else None
            if job is None:
                raise StartFailed("Its gateway ended before Slurm had its job.", hint="Start it again.")
            allocation = replace(allocation, job_id=job.id, detail=f"Slurm job {job.id} was found again.")
            yield allocation
        async with aclosing(self._started(allocation)) as steps:  # type: ignore[type-var]
            async for each in steps:
                yield each

    async def poll(self, allocation: Allocation) -> Allocation:
        """What Slurm says of its job; looks are shared by all who ask within a second."""
        if allocation.state.over:
            return allocation
        if not allocation.job_id:
            return replace(allocation, state=AllocationState.FAILED, detail="It was never submitted.")
        job = await self.queue.job(allocation.job_id, within=_FRESH)
        if job is None or job.over:
            why = await explained(self.queue, self._jobs, allocation)
            over = AllocationState.ENDED if allocation.node else AllocationState.FAILED
            return replace(allocation, state=over, detail=str(why))
        if job.allocation_state is AllocationState.PENDING and allocation.state is AllocationState.RUNNING:
            text = f"Slurm took its node away and put job {job.id} into the queue again; the session starts anew there, with empty memory."
            return replace(allocation, state=AllocationState.PENDING, node="", pid=0, start_time=0, detail=text)
        if job.end and abs(job.end - allocation.ends) > _MOVED:
            return replace(allocation, ends=job.end)
        return allocation

    async def sessions(self) -> Sequence[Found]:
        """The jobs of this user that are sessions."""
        found, names = [], await self._jobs.names()
        for job in (await self.queue.jobs(within=_FRESH)).values():
            if job.session is not None and not job.over and not job.ending:
                state = job.allocation_state or AllocationState.RUNNING
                known = Allocation(self.name, job.session, state=state, job_id=job.id, folder=job.session)
                known = granted_by(job, known) if state is AllocationState.RUNNING else known
                found.append(Found(known, names.get(job.session, "")))
        return found

    async def open_stream(self, allocation: Allocation, session: SessionId) -> FrameStream:
        """The stdin and stdout of the node's ``attach``, as a step of the job or over ssh from the login node."""
        if (first := self._first.pop(session, None)) is not None:
            return first
        try:
            return await self._attach(allocation, _BRIEFLY)
        except SessionEnded:
            raise
        except LinkProblem as problem:
            if await self._is_over(allocation):
                raise SessionEnded((await self.poll(allocation)).detail) from problem
            raise

    async def open_data(self, allocation: Allocation, session: SessionId) -> DataCommand:
        """The stdin and stdout of the node's ``data``, by the widest way that works."""
        del session
        try:
            return await self.data.open(allocation)
        except LinkProblem as problem:
            if await self._is_over(allocation):
                raise SessionEnded((await self.poll(allocation)).detail) from problem
            raise

    async def release(self, allocation: Allocation) -> None:
        """Cancel the job, wait until it is gone, and remove the session's files."""
        if (first := self._first.pop(allocation.session, None)) is not None:
            await first.aclose()
        if not allocation.job_id and not allocation.folder:
            return
        if allocation.job_id:
            job = await self.queue.job(allocation.job_id, within=0)
        else:
            job = await self.queue.of_session(allocation.session, within=0)
        if job is not None and not job.over:
            await self._jobs.cancel(job.id)
            await self._gone(job.id)
        other = await self.queue.of_session(allocation.session, within=_FRESH)  # of another cluster, which is this Slurm, too
        if other is None or other.over or other.id == allocation.job_id:
            await self._jobs.forget(allocation.session)

    async def extend(self, allocation: Allocation, seconds: int) -> Allocation:
        """Move the job's end, if the site allows it."""
        await self._jobs.extend(allocation.job_id, seconds)
        job = await self.queue.job(allocation.job_id, within=0)
        return replace(allocation, ends=job.end) if job is not None and job.end else allocation

    async def log(self, allocation: Allocation, lines: int) -> str:
        """What the job wrote."""
        return "\n".join((await self._jobs.log(allocation.session)).splitlines()[-lines:])

    async def aclose(self) -> None:
        """Close what is open; jobs go on."""
        streams, self._first = list(self._first.values()), {}
        await asyncio.gather(*(stream.aclose() for stream in streams), self._estimates.aclose())
        await self._machine.aclose()

    async def _submitted(self, request: ResourceRequest, kernel: KernelLaunch) -> str:
        """Submit, to the end: a cancelled launch must not leave sbatch half way, where its job cannot be found yet."""
        submitting = asyncio.create_task(self._jobs.submit(request, kernel))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await submitting
            raise

    async def _started(self, allocation: Allocation) -> AsyncIterator[Allocation]:
        last = allocation
        async with aclosing(self._waiting.until_it_runs(allocation)) as steps:  # type: ignore[type-var]
            async for last in steps:
                yield last
        said: asyncio.Queue[str] = asyncio.Queue()
        reaching = asyncio.create_task(self._reach(last, said.put_nowait))
        try:
            while (detail := await said_before(reaching, said)) is not None:
                if detail != last.detail:
                    last = replace(last, detail=detail)
                    yield last
            about = reaching.result()
        finally:
            reaching.cancel()
            await asyncio.gather(reaching, return_exceptions=True)
        yield replace(described(last, about), state=AllocationState.RUNNING, detail="")

    async def _reach(self, allocation: Allocation, say: Callable[[str], None]) -> dict[str, Any]:
        """Keep the first stream for whoever opens one, or for `release` to close; returns what the supervisor says of itself."""
        self._first[allocation.session], about = await self._waiting.first_stream(allocation, say)
        return about

    async def _attach(self, allocation: Allocation, patience: float = _PATIENCE) -> CommandStream:
        stream = await open_stream(self._machine, await self._beside(allocation, "attach", allocation.session, f"{patience:g}"))
        stream.holds_back = self._configured.stream is StreamWay.SRUN
        return stream

    async def _beside(self, allocation: Allocation, *words: str) -> list[str]:
        hello = await self._machine.hello()
        return within_job(self._configured.stream, allocation, carried(hello, *words, folder=node_folder_of(hello.uid)))

    async def _is_over(self, allocation: Allocation) -> bool:
        try:
            job = await self.queue.job(allocation.job_id, within=_FRESH)
        except LinkProblem:
            return False
        return job is None or job.over

    async def _gone(self, job_id: str) -> None:
        deadline = time.monotonic() + _GONE_AFTER
        while (job := await self.queue.job(job_id, within=0)) is not None and not job.over:
            if time.monotonic() > deadline:
                raise LinkProblem(
                    f"Slurm job {job.id} does not end: it is {job.state} still.", hint="Slurm ends it; look again in a minute."
                )
            await asyncio.sleep(_LOOK)
