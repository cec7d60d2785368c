"""When a session would start, in the scheduler's own opinion: ``sbatch --test-only`` with all that the session's job would be told.

It answers on stderr with a time, which SLURM_TIME_FORMAT makes seconds since the epoch. A version that does not heed that says the login node's local
time; so the command tells, too, what the clock is over there, and how far it is from UTC. (A start beyond a change of summer time may be an hour off.)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from jupyter_remote_gpu.clusters.machines import Machine
from jupyter_remote_gpu.clusters.slurm_commands import estimating
from jupyter_remote_gpu.clusters.slurm_jobs import Jobs
from jupyter_remote_gpu.clusters.slurm_refusals import refusal_of
from jupyter_remote_gpu.clusters.slurm_submit import parse_estimate, submit_command
from jupyter_remote_gpu.models import KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.offers import StartEstimate
from remote_gpu.errors import RemoteGpuError, UsageProblem

__all__ = ["StartEstimates", "estimate_command", "read_estimate"]

_LIMIT = 5.0
_FRESH = 30.0
_SESSION = SessionId("estimate00")
_ASK = 'date +%s%z >&2; exec "$@"'
_CLOCK = re.compile(r"^(\d{9,11})([+-])(\d\d)(\d\d)$\n?", re.MULTILINE)


class StartEstimates:
    """Those of one cluster. One answer serves all who ask the same within half a minute."""

    def __init__(self, machine: Machine, jobs: Jobs, where: str) -> None:
        self._machine = machine
        self._jobs = jobs
        self._where = where
        self._asked: dict[ResourceRequest, tuple[float, asyncio.Task[StartEstimate | UsageProblem | None]]] = {}

    async def of(self, request: ResourceRequest) -> StartEstimate | None:
        """See `Estimates.estimate`."""
        now = asyncio.get_running_loop().time()
        self._asked = {key: known for key, known in self._asked.items() if now - known[0] < _FRESH or not known[1].done()}
        if request not in self._asked:
            self._asked[request] = (now, asyncio.create_task(self._ask(request), name=f"estimate of {self._where}"))
        answer = await asyncio.shield(self._asked[request][1])
        if isinstance(answer, UsageProblem):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = [task for _, task in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, request: ResourceRequest) -> StartEstimate | UsageProblem | None:
        try:
            async with asyncio.timeout(_LIMIT):
                told, script = await self._jobs.told(request, KernelLaunch(_SESSION), await self._machine.hello())
                done = await self._machine.run(estimate_command(told), given=script, limit=_LIMIT)
            return read_estimate(done.err, self._where, done.status)
        except UsageProblem as problem:
            return problem
        except (RemoteGpuError, TimeoutError):
            return None


def estimate_command(told: Sequence[str]) -> list[str]:
    """The command that asks, with the options `told`; the job's script goes to its stdin."""
    return estimating(["sh", "-c", _ASK, "sh", *submit_command(told, test_only=True)])


def read_estimate(stderr: str, where: str, status: int | None = 0) -> StartEstimate | None:
    """What it said. None when it gave no time and no reason; raises what `refusal_of` makes of its words."""
    clock = _CLOCK.search(stderr)
    said = _CLOCK.sub("", stderr, count=1)
    ahead = (1 if clock[2] == "+" else -1) * (int(clock[3]) * 3600 + int(clock[4]) * 60) if clock else None
    found = parse_estimate(said, ahead)
    if found is None:
        if status != 0 and said.strip():
            raise refusal_of(said, where, status=status)
        return None
    if not found.start or clock is None:
        return None
    place = f"on {found.nodes} in {found.partition}"
    others = f", in place of job {', '.join(found.preempts)}" if found.preempts else ""
    return StartEstimate(max(0.0, found.start - int(clock[1])), f"Slurm's own estimate (sbatch --test-only): {place}{others}")
