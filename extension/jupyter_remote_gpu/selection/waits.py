"""How long a request will wait in a pool, as a range that eight of ten waits should be in, and what that rests on.

First a plain guess: the scheduler's own word, else GPUs that are free, else the GPUs that are asked for before this request over the rate at
which GPUs come free. Then what earlier guesses of that kind were off by, there and for like requests: that takes out what they are wrong by on the whole
(users ask for more time than they need, so schedulers are pessimistic), and it is the width of the range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jupyter_remote_gpu.models import ClusterKind
from jupyter_remote_gpu.offers import ClusterSnapshot, Pool
from jupyter_remote_gpu.selection.history import SOFT, History
from jupyter_remote_gpu.selection.obstacles import needed_gpus
from jupyter_remote_gpu.selection.values import Basis, Demand, InFlight, Rules, Spread, Wait
from jupyter_remote_gpu.selection.words import ago, duration

__all__ = ["Guess", "Queue", "guess", "predict", "queue_of", "told"]

_NOW = 5.0
"""Seconds that a scheduler takes to start what it can start."""
_SOON = 60.0
"""A scheduler that promises a start within these seconds sees free GPUs, as a snapshot does; who waits it does not look at."""
_DAY = 86400.0
_LONGEST = 30 * _DAY
_LIKE = 3

_PRIORS: Mapping[Basis, tuple[float, ...]] = {
    Basis.SCHEDULER: (-1.8, -0.7, 0.0, 0.4, 1.2),
    Basis.FREE: (-0.25, -0.1, 0.0, 0.4, 1.5),
    Basis.GAP: (-2.0, -0.8, 0.0, 0.8, 1.6),
    Basis.QUEUE: (-2.6, -1.6, -0.8, -0.1, 0.8),  # small requests pass large ones that wait for many GPUs
    Basis.HISTORY: (math.log(SOFT + 5), math.log(SOFT + 120), math.log(SOFT + 900), math.log(SOFT + 5400), math.log(SOFT + 6 * 3600)),
    Basis.STALE: (-0.2, 0.0, 1.0, 3.0, 5.0),
    Basis.UNKNOWN: (-3.0, -1.2, 0.0, 1.2, 3.0),
}
"""What is believed before anything was seen: by how much guesses are off, as logarithms, in five equal parts."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A pool as this request meets it: the GPUs that are free for it and those that are asked for before it, with what is on its way there."""

    free: int
    ahead: int
    jobs: int
    usable: int
    known: bool
    """Whether the pool tells of its queue."""


def _tells(pool: Pool) -> bool:
    return pool.pending_jobs > 0 or pool.pending_gpus > 0


@dataclass(frozen=True, slots=True)
class Guess:
    """A plain guess of the wait in a pool; `raw` in seconds."""

    pool: Pool
    queue: Queue
    needed: int
    basis: Basis
    raw: float


def queue_of(pool: Pool, snapshot: ClusterSnapshot, in_flight: Sequence[InFlight]) -> Queue:
    """What is before a request there. What was sent before the snapshot is in its queue already, if it tells of one."""
    if not in_flight:
        return Queue(pool.gpus_free, pool.pending_gpus, pool.pending_jobs, max(1, pool.gpus_total - pool.gpus_down), _tells(pool))
    mine = [each for each in in_flight if each.pool in ("", pool.name)]
    new = [each for each in mine if each.since > snapshot.updated or not pool.pending_jobs]
    sent = sum(each.gpus for each in mine)
    new_gpus = sum(each.gpus for each in new)
    short = max(0, new_gpus - pool.gpus_free) if not pool.pending_jobs else new_gpus
    return Queue(
        free=max(0, pool.gpus_free - sent),
        ahead=pool.pending_gpus + short,
        jobs=pool.pending_jobs + (len(new) if short else 0),
        usable=max(1, pool.gpus_total - pool.gpus_down),
        known=_tells(pool),
    )


def guess(demand: Demand, pool: Pool, snapshot: ClusterSnapshot, queue: Queue, history: History, rules: Rules, now: float) -> Guess:
    """What the wait would be if nothing had been learned."""
    needed = needed_gpus(demand) if pool.gpus_total else 0
    basis, raw = _guess(needed, snapshot, queue, history, rules, now)
    if basis is Basis.UNKNOWN and history.count(snapshot.name, Basis.HISTORY) >= _LIKE:
        basis, raw = Basis.HISTORY, 0.0
    return Guess(pool, queue, needed, basis, raw)


def predict(demand: Demand, snapshot: ClusterSnapshot, guess: Guess, history: History) -> tuple[Spread, int]:
    """The range of the wait, by `guess` and what such guesses were off by; and how many earlier waits say so."""
    basis, raw = guess.basis, guess.raw
    found = history.correction(snapshot.name, guess.pool.name, basis, (guess.needed, demand.resources.time, raw), _PRIORS[basis])
    factor = 1.0 if basis is Basis.HISTORY else raw + SOFT
    low, median, high = (min(_LONGEST, max(0.0, factor * math.exp(off) - SOFT)) for off in (found.low, found.median, found.high))
    return Spread(low, median, high), found.count


def told(snapshot: ClusterSnapshot, guess: Guess, spread: Spread, count: int, now: float) -> Wait:
    """The wait with its source in words."""
    source = _source(guess, snapshot, now) + _experience(guess.basis, count)
    return Wait(spread.low, spread.median, spread.high, source, count, guess.basis, guess.raw)


def _guess(needed: int, snapshot: ClusterSnapshot, queue: Queue, history: History, rules: Rules, now: float) -> tuple[Basis, float]:
    rate = queue.usable / history.held(snapshot.name)
    stale = snapshot.kind != ClusterKind.LOCAL and snapshot.updated > 0 and now - snapshot.updated > rules.believe_for
    told = snapshot.estimate.seconds if snapshot.estimate is not None and 0 <= snapshot.estimate.seconds < _LONGEST else 0.0
    missing = queue.ahead + max(0, needed - queue.free)
    if told > _SOON:
        return Basis.SCHEDULER, min(_LONGEST, max(told, queue.ahead / rate))
    if queue.free >= needed and not queue.jobs:
        return (Basis.STALE if stale else Basis.FREE), _NOW
    if queue.free >= needed:
        return Basis.GAP, min(_LONGEST, max(_NOW, queue.ahead / rate / 4))
    return (Basis.QUEUE if queue.known or queue.ahead else Basis.UNKNOWN), min(_LONGEST, max(_NOW, missing / rate))


def _source(guess: Guess, snapshot: ClusterSnapshot, now: float) -> str:
    basis, queue, raw, needed = guess.basis, guess.queue, guess.raw, guess.needed
    others = f"{queue.ahead} GPU{'' if queue.ahead == 1 else 's'} asked for before it"
    if basis is Basis.SCHEDULER and snapshot.estimate is not None:
        return f"{snapshot.estimate.source}: {duration(raw)}"
    if basis is Basis.FREE:
        return f"{queue.free} GPUs are free and nobody waits" if needed else "it needs no GPU"
    if basis is Basis.GAP:
        return f"{queue.free} GPUs are free, {others}"
    if basis is Basis.QUEUE:
        return f"its queue: {others}, {queue.free} free"
    if basis is Basis.STALE:
        return f"{queue.free} GPUs were free {ago(now - snapshot.updated)} ago"
    return "like requests there" if basis is Basis.HISTORY else "not known: its GPUs are in use, and nothing like it was seen there"


def _experience(basis: Basis, count: int) -> str:
    if basis is Basis.HISTORY:
        return f" ({count} earlier waits)"
    return f", corrected by {count} earlier waits" if count else ""
