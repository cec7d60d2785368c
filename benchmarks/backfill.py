"""A cluster with a queue: first come, first served, with EASY backfill, which lets a later job go first where it delays not the first of those that wait.

It counts GPUs and not nodes, and looks at its queue each `CYCLE` seconds if something changed, as schedulers do.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from copy import copy

from benchmarks.traces import Job

CYCLE = 30.0
_DEPTH = 100
"""How many waiting jobs are looked at for backfill."""


class Backfill:
    """One cluster with the jobs of others, in the order of their submission. `started` has when ours began."""

    def __init__(self, name: str, gpus: int, others: Sequence[Job], phase: float = 0.0) -> None:
        self.name, self.gpus, self.phase = name, gpus, phase
        self.free = gpus
        self.queue: list[Job] = []
        self.started: dict[int, float] = {}
        self._others = others
        self._next = 0
        self._running: list[tuple[float, int, int, float]] = []  # ends, number, GPUs, ends at the latest
        self._look_at = math.inf

    def twin(self) -> Backfill:
        """The same cluster at the same moment, to see what would happen."""
        new = copy(self)
        new.queue, new.started, new._running = [*self.queue], {}, [*self._running]  # noqa: SLF001  its own class
        return new

    def submit(self, job: Job) -> None:
        """A job comes now, at the time until which the cluster was advanced."""
        self.queue.append(job)
        self._soon(job.submit)

    def advance(self, until: float) -> None:
        """Let all happen that happens until then."""
        while self.step(until):
            pass

    def step(self, until: float) -> bool:
        """Let the next thing happen; False when there is none until then."""
        comes = self._others[self._next].submit if self._next < len(self._others) else math.inf
        ends = self._running[0][0] if self._running else math.inf
        at = min(comes, ends, self._look_at)
        if at > until or at == math.inf:
            return False
        if at == ends:
            self.free += heapq.heappop(self._running)[2]
            self._soon(at)
        elif at == comes:
            self.queue.append(self._others[self._next])
            self._next += 1
            self._soon(at)
        else:
            self._look_at = math.inf
            self._schedule(at)
        return True

    def start_of(self, job: Job, limit: float) -> float:
        """When `job` would start if it came now and nothing else of ours did; `limit` when that is not before it. Knows the future."""
        world = self.twin()
        world.submit(job)
        while job.number not in world.started:
            if not world.step(limit):
                return limit
        return world.started[job.number]

    def will_run(self, gpus: int, now: float) -> float:
        """When so many GPUs are free at the latest, by the limits of what runs: what ``sbatch --test-only`` looks at. The queue is not looked at."""
        free = self.free
        for latest, count in sorted((job[3], job[2]) for job in self._running):
            if free >= gpus:
                break
            now, free = max(now, latest), free + count
        return now

    def _soon(self, at: float) -> None:
        if self._look_at == math.inf:
            self._look_at = self.phase + CYCLE * math.ceil((at - self.phase) / CYCLE + 1e-9)

    def _schedule(self, now: float) -> None:
        place = 0
        while place < len(self.queue) and self.queue[place].gpus <= self.free:
            self._start(self.queue[place], now)
            place += 1
        del self.queue[:place]
        if self.queue and self.free:
            self._backfill(now)

    def _backfill(self, now: float) -> None:
        shadow, spare = self._reservation(self.queue[0].gpus)
        begun = set()
        for job in self.queue[1:_DEPTH]:
            short = now + job.limit <= shadow
            if job.gpus > self.free or not (short or job.gpus <= spare):
                continue
            spare -= 0 if short else job.gpus
            self._start(job, now)
            begun.add(job.number)
            if not self.free:
                break
        if begun:
            self.queue = [job for job in self.queue if job.number not in begun]

    def _reservation(self, gpus: int) -> tuple[float, int]:
        """When the first of the queue starts at the latest, and the GPUs that it leaves then."""
        free = self.free
        for latest, count in sorted((job[3], job[2]) for job in self._running):
            free += count
            if free >= gpus:
                return latest, free - gpus
        return math.inf, 0

    def _start(self, job: Job, now: float) -> None:
        self.free -= job.gpus
        heapq.heappush(self._running, (now + job.runs, job.number, job.gpus, now + job.limit))
        if job.number < 0:
            self.started[job.number] = now
