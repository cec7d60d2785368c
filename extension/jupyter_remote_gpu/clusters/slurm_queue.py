"""What a user's jobs on one cluster do, asked by one command for all who want to know, and seldom.

Whoever asks says how old the answer may be. Two that ask within that time share one look, however many sessions there are: with a hundred
sessions in the queue, each of which looks again after half a minute, the controller sees a command every fifteen seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jupyter_remote_gpu.clusters.machines import Done, Machine
from jupyter_remote_gpu.clusters.slurm_commands import asking
from jupyter_remote_gpu.clusters.slurm_ends import duration
from jupyter_remote_gpu.clusters.slurm_reasons import Reason, reason_of
from jupyter_remote_gpu.clusters.slurm_refusals import no_controller
from jupyter_remote_gpu.clusters.slurm_text import (
    accounting_command,
    ahead_command,
    job_command,
    jobs_ahead,
    parse_accounting,
    parse_jobs,
    queue_command,
)
from jupyter_remote_gpu.clusters.slurm_values import SlurmJob
from remote_gpu.errors import LinkProblem, StartFailed

__all__ = ["Queue"]

_LIMIT = 30.0  # seconds that a busy controller may take
_AHEAD_FOR = 60.0  # seconds that the list of all who wait is believed: on a busy site it is long


class Queue:
    """The jobs of one user on one cluster. `looks` counts the commands that were run."""

    def __init__(self, machine: Machine, where: str) -> None:
        self.looks = 0
        self._machine = machine
        self._where = where
        self._seen = float("-inf")
        self._jobs: dict[str, SlurmJob] = {}
        self._looking = asyncio.Lock()
        self._ahead: dict[str, tuple[float, str]] = {}
        self._no_accounting = False

    async def jobs(self, *, within: float) -> dict[str, SlurmJob]:
        """By id, as they were at most `within` seconds ago. Raises `LinkProblem` when nobody answers."""
        asked = self._clock()
        async with self._looking:
            if self._seen < asked - within:
                began = self._clock()
                output = await self._ask(queue_command())
                self._jobs = {job.id: job for job in parse_jobs(output)}
                self._seen = began
            return self._jobs

    async def job(self, job_id: str, *, within: float) -> SlurmJob | None:
        """One job; None when the controller does not know it (any more): a look from before its submission does not count for that."""
        found = (await self.jobs(within=within)).get(job_id)
        return found if found is not None or within <= 0 else (await self.jobs(within=0)).get(job_id)

    async def of_session(self, session: str, *, within: float) -> SlurmJob | None:
        """The job of a session, found by its name; the newest, if there are several."""
        found = [job for job in (await self.jobs(within=within)).values() if job.session == session]
        return max(found, key=lambda job: int(job.id), default=None)

    async def ended(self, job_id: str) -> SlurmJob | None:
        """A job that is over, with all that is known of its end; None when nobody remembers it.

        The accounting knows for good and knows who cancelled it, but is late, and not every site has it.
        """
        known = (await self.jobs(within=2.0)).get(job_id)
        if not self._no_accounting:
            done = await self._run(accounting_command([job_id]))
            self._no_accounting = done.status not in (0, None) and "disabled" in done.err
            kept = next((job for job in parse_accounting(done.out) if job.id == job_id and job.over), None)
            if kept is not None:
                return kept
        if known is None:
            known = next(iter(parse_jobs((await self._run(job_command(job_id))).out)), None)
        return known

    async def words(self, job: SlurmJob) -> tuple[str, Reason]:
        """(what a waiting job's user wants to know in one sentence, the reason that Slurm gives)."""
        reason = reason_of(job.reason)
        parts = [f"Slurm job {job.id} waits"]
        place = await self._place(job)
        if place is not None:
            parts[0] += f": place {place + 1} in {job.partition}"
        if reason.sentence:
            parts.append(reason.sentence.rstrip("."))
        if job.start:
            parts.append(f"expected to start {_when(job.start)} (Slurm's own estimate)")
        return "; ".join(parts) + ".", reason

    async def _place(self, job: SlurmJob) -> int | None:
        """How many jobs come before it, where Slurm tells."""
        seen, output = self._ahead.get(job.partition, (float("-inf"), ""))
        if self._clock() - seen > _AHEAD_FOR or jobs_ahead(output, job.id) is None:
            output = (await self._run(ahead_command(job.partition))).out
            self._ahead[job.partition] = (self._clock(), output)
        return jobs_ahead(output, job.id)

    async def _ask(self, argv: Sequence[str]) -> str:
        done = await self._run(argv)
        if done.status == 0:
            return done.out
        said = done.err.strip()[-600:]
        if done.status is None or no_controller(done.err):
            message = f"The Slurm controller of {self._where} does not answer" + (f": {said}" if said else ".")
            raise LinkProblem(message, hint="It may be restarting. Jobs that run go on.")
        if done.status == 127:  # noqa: PLR2004  a shell's word for it
            raise StartFailed(
                f"There is no Slurm on {self._machine.name}: {said}", hint="Does the prologue have to load it (`module load slurm`)?"
            )
        raise LinkProblem(f"{argv[0]} failed on {self._machine.name} with status {done.status}: {said or 'without a word'}.")

    async def _run(self, argv: Sequence[str]) -> Done:
        self.looks += 1
        return await self._machine.run(asking(argv), limit=_LIMIT)

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def _when(moment: float) -> str:
    import time

    left = moment - time.time()
    clock = time.strftime("%H:%M" if left < 72000 else "%a %H:%M", time.localtime(moment))  # noqa: PLR2004  not tomorrow at the same hour
    return f"at {clock}, in {duration(left)}" if left > 60 else "in a moment"  # noqa: PLR2004  a minute
