"""From a job in the queue to a session that answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jupyter_remote_gpu.clusters.slurm_ends import ending_of
from jupyter_remote_gpu.clusters.slurm_jobs import Jobs
from jupyter_remote_gpu.clusters.slurm_log import ending_in, last_words, problem_in
from jupyter_remote_gpu.clusters.slurm_queue import Queue
from jupyter_remote_gpu.clusters.slurm_streams import primed
from jupyter_remote_gpu.clusters.slurm_values import SlurmJob
from jupyter_remote_gpu.clusters.slurm_words import JobState
from jupyter_remote_gpu.models import Allocation, AllocationState, Gpu
from remote_gpu.errors import AccessRefused, LinkProblem, RemoteGpuError, SessionEnded, StartFailed
from remote_gpu.streams import CommandStream

if TYPE_CHECKING:
    from remote_gpu.streams import FrameStream

__all__ = ["Waiting", "explained", "granted_by", "said_before"]

_FIRST, _FACTOR, _LONGEST = 0.3, 1.5, 30.0
"""Seconds between looks at a job that waits: soon at first, then later and later."""

_AGAIN = 1.0  # seconds between attempts to reach a supervisor, and looks at whether its job still runs
_SURE = 3  # how often the same refusal of srun must come until it is believed

Attach = Callable[[Allocation], Awaitable[CommandStream]]


class Waiting:
    """Follows one job after the other to its start. `attach` opens a stream to a supervisor, waiting some seconds for it."""

    def __init__(self, queue: Queue, jobs: Jobs, attach: Attach) -> None:
        self._queue = queue
        self._jobs = jobs
        self._attach = attach

    async def until_it_runs(self, allocation: Allocation) -> AsyncIterator[Allocation]:
        """What is known of a submitted job, whenever that changes; the last one has a node.

        The controller is asked seldom, and at once when the job has begun its log, which costs it nothing. Raises `StartFailed` when the job ended in
        the queue, or can never start.
        """
        delay, begun = _FIRST, False
        while True:
            job, trouble = await self._look(allocation, 0 if begun else delay / 2)
            if job is not None and job.allocation_state is AllocationState.RUNNING and not job.ending:
                yield granted_by(
                    job, replace(allocation, detail=f"Slurm job {job.id} runs on {job.batch_host or job.nodes}; its kernel starts.")
                )
                return
            detail = trouble or await self._words(job, allocation)
            if detail != allocation.detail:
                allocation = replace(allocation, detail=detail)
                yield allocation
            if begun:  # one that was taken from its node keeps its log
                await asyncio.sleep(delay)
            else:
                begun = await self._begins(allocation, delay)
            delay = min(delay * _FACTOR, _LONGEST)

    async def first_stream(self, allocation: Allocation, say: Callable[[str], None]) -> tuple[FrameStream, dict[str, Any]]:
        """(a stream to the supervisor, what it says of itself) as soon as it answers; raises `StartFailed` when its job ends before.

        What is in the way for longer, `say` is told.
        """
        reached = asyncio.create_task(self._reach(allocation, say))
        ended = asyncio.create_task(self._until_over(allocation))
        try:
            await asyncio.wait([reached, ended], return_when=asyncio.FIRST_COMPLETED)
            if reached.done() and reached.exception() is None:
                return reached.result()
            raise await explained(self._queue, self._jobs, allocation) if ended.done() else reached.exception() or LinkProblem("")
        finally:
            for task in (reached, ended):
                task.cancel()
            await asyncio.gather(reached, ended, return_exceptions=True)

    async def _look(self, allocation: Allocation, within: float) -> tuple[SlurmJob | None, str]:
        """(the job, "") or (None, why nobody knows now); raises `StartFailed` when it is over."""
        try:
            job = await self._queue.job(allocation.job_id, within=within)
        except LinkProblem as problem:  # a controller, or a login, that is away: the job waits all the same
            return None, f"Slurm job {allocation.job_id} was submitted. {problem}"
        if job is None or job.over:
            raise await explained(self._queue, self._jobs, allocation)
        return job, ""

    async def _begins(self, allocation: Allocation, limit: float) -> bool:
        """Whether the job begins within `limit` seconds; False after them, also when nobody knows."""
        clock = asyncio.get_running_loop().time
        until = clock() + limit
        try:
            return await self._jobs.begun(allocation.session, limit)
        except RemoteGpuError:
            await asyncio.sleep(max(0.0, until - clock()))
            return False

    async def _words(self, job: SlurmJob | None, allocation: Allocation) -> str:
        if job is None or job.ending:
            return allocation.detail
        text, reason = await self._queue.words(job)
        if reason.hopeless:
            raise StartFailed(f"Slurm job {job.id} can never start: {reason.sentence}", hint=reason.hint, step="queue")
        return text

    async def _reach(self, allocation: Allocation, say: Callable[[str], None]) -> tuple[FrameStream, dict[str, Any]]:
        refusals: list[str] = []
        while True:
            try:
                return await primed(await self._attach(allocation))
            except SessionEnded:  # it is not there yet: a prologue takes its time
                refusals.clear()
            except AccessRefused as problem:
                say(str(problem))
                await asyncio.sleep(_AGAIN)
            except LinkProblem as problem:
                refusals.append(str(problem))
                if len(refusals) >= _SURE:
                    say(f"{allocation.detail} It is not reached yet: {problem}")
                if refusals[-_SURE:] == [str(problem)] * _SURE and "unrecognized option" in str(problem):
                    message = f"The job runs, and the way into it does not work: {problem}"
                    raise StartFailed(
                        message, hint="Set the cluster's `stream` to ssh, if its nodes can be reached from the login node."
                    ) from problem
                await asyncio.sleep(_AGAIN)

    async def _until_over(self, allocation: Allocation) -> None:
        while True:
            with contextlib.suppress(LinkProblem):
                job = await self._queue.job(allocation.job_id, within=_AGAIN)
                if job is None or job.over or job.ending or job.allocation_state is AllocationState.PENDING:
                    return
            await asyncio.sleep(_AGAIN)


async def said_before(work: asyncio.Task[Any], texts: asyncio.Queue[str]) -> str | None:
    """The next text, or None once `work` is over."""
    text = asyncio.create_task(texts.get())
    try:
        await asyncio.wait([work, text], return_when=asyncio.FIRST_COMPLETED)
        return text.result() if text.done() else None
    finally:
        text.cancel()


def granted_by(job: SlurmJob, allocation: Allocation) -> Allocation:
    """`allocation` with what Slurm gave to its job."""
    models = [Gpu(model) for model, count in job.gpus for _ in range(count)]
    return replace(allocation, node=job.batch_host or job.nodes, gpus=tuple(models), ends=job.end)


async def explained(queue: Queue, jobs: Jobs, allocation: Allocation) -> RemoteGpuError:
    """Why the job of a session is over, in words: as the session itself said it, if it ended by itself, else as Slurm has it."""
    log = await jobs.log(allocation.session)
    if (problem := problem_in(log, allocation.node or allocation.cluster)) is not None:
        return problem
    job = await queue.ended(allocation.job_id)
    if job is None:
        return StartFailed(ending_in(log) or f"Slurm does not know job {allocation.job_id} any more.", job=allocation.job_id)
    own = ending_in(log) if job.state is JobState.COMPLETED else ""
    ending = ending_of(job, log=log)
    words = "" if own else last_words(log)
    return StartFailed(
        (own or ending.sentence) + (f"\nThe end of its log: {words}" if words else ""), hint=ending.hint, job=allocation.job_id
    )
