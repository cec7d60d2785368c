"""Earlier waits, and what they teach: how far predictions of each kind were off on each cluster, and how long GPUs are held.

Only the newest count, and among them the later the more, by their order and not by the clock: a clock that jumps does no harm, and `rank` need not look at a
hundred thousand rows. What was worked out is kept until the next row of that cluster, so that ranking is quick; the answers do not depend on it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from jupyter_remote_gpu.selection.values import Basis, Wait

__all__ = ["SOFT", "Correction", "History", "Past", "log_wait"]

SOFT = 20.0
"""Seconds below which waits do not differ much: they are compared by the logarithm of the wait and this."""
_NEWEST = 120
_BLOCK = 20
"""What all clusters teach together changes with each so many rows."""
_HALF = 60.0
"""The weight of a wait halves with each so many later ones."""
_GUESS = 0.7
"""Guesses of which one is twice the other are alike to this step."""
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
_TAIL = 0.10
_STEP = 0.02
_TAILS = (0.015, 0.25)
_RUN = 7200.0
_WEIGHTS = tuple(0.5 ** (age / _HALF) for age in range(_NEWEST))
_ALIKE = tuple(0.6**steps for steps in range(400))
_MOST = 1e9
_LONGEST = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Past:
    """One earlier request. `started` None: it never ran, and waited until `ended`. `pool` may be a partition; "" is not known.

    `promised` is the wait that was predicted when it was asked for: without it the row counts as a wait of a like request only.
    """

    cluster: str
    pool: str = ""
    gpus: int = 0
    time: float = 0.0
    asked: float = 0.0
    started: float | None = None
    ended: float | None = None
    promised: Wait | None = None

    @property
    def waited(self) -> float | None:
        """How long it waited; of one that never ran, at least that long. None when nobody knows, or when the clocks disagree."""
        until = self.ended if self.started is None else self.started
        if until is None or not 0 <= until - self.asked < _LONGEST:
            return None
        return until - self.asked


@dataclass(frozen=True, slots=True)
class Correction:
    """What a guess is multiplied by, as logarithms: with a chance of 10, 50 and 90 % the wait is below. `count` is how many waits say so."""

    low: float
    median: float
    high: float
    count: int


_Row = tuple[int, int, int, float]
"""GPUs, time and the plain guess, in steps by which they are alike, and what the guess was off by."""
_Steps = tuple[int, int, int]
_Key = tuple[str, str, Basis]


class History:
    """The earlier requests, for `rank`. `add` is cheap; whoever ranks must not add meanwhile."""

    def __init__(self, rows: Iterable[Past] = ()) -> None:
        """Take `rows`, in the order in which they were asked for."""
        self._rows: dict[_Key, deque[_Row]] = {}
        self._runs: dict[str, deque[float]] = {}
        self._tails: dict[str, tuple[float, float]] = {}
        self._held: dict[str, float] = {}
        self._known: dict[str, dict[tuple[object, ...], Correction]] = {}
        self._shared: dict[tuple[Basis, _Steps], tuple[float, ...]] = {}
        self._to_share: dict[Basis, list[_Row]] = {}
        for row in sorted(rows, key=lambda row: row.asked):
            self.add(row)

    def add(self, row: Past) -> None:
        """Learn from a request that began, ended or was given up. Whoever adds it when it begins says its end by `add_run`."""
        if row.started is not None and row.ended is not None:
            self.add_run(row.cluster, row.ended - row.started)
        waited, promised = row.waited, row.promised
        if waited is None or (row.started is None and (promised is None or waited < promised.median)):
            return  # of those that were given up early nothing is learned
        self._known.pop(row.cluster, None)
        like = (_bucket(row.gpus), _bucket(row.time / 600))
        self._take(row.cluster, row.pool, Basis.HISTORY, (*like, 0, log_wait(waited)))
        if promised is not None and promised.basis is not Basis.HISTORY and 0 <= promised.raw < _LONGEST:
            guess = log_wait(promised.raw)
            self._take(row.cluster, row.pool, promised.basis, (*like, round(guess / _GUESS), log_wait(waited) - guess))
        if promised is not None:
            self._tails[row.cluster] = _corrected(self.tails(row.cluster), promised, waited)

    def add_run(self, cluster: str, seconds: float) -> None:
        """Learn how long GPUs were held there."""
        if 0 < seconds < _LONGEST:
            self._runs.setdefault(cluster, deque(maxlen=_NEWEST)).append(seconds)
            self._held.pop(cluster, None)

    def _take(self, cluster: str, pool: str, basis: Basis, row: _Row) -> None:
        for place in {pool, ""}:
            self._rows.setdefault((cluster, place, basis), deque(maxlen=_NEWEST)).append(row)
        together = self._rows.setdefault(("", "", basis), deque(maxlen=_NEWEST))
        waiting = self._to_share.setdefault(basis, [])
        waiting.append(row)
        if len(waiting) >= (_BLOCK if len(together) > _BLOCK else 1):
            together.extend(waiting)
            waiting.clear()
            self._shared.clear()

    def tails(self, cluster: str) -> tuple[float, float]:
        """The levels at which a range there must end for a tenth of the waits to be below it, and a tenth above, as it was of late."""
        return self._tails.get(cluster, (_TAIL, _TAIL))

    def count(self, cluster: str, basis: Basis) -> int:
        """How many waits there are known."""
        return len(self._rows.get((cluster, "", basis), ()))

    def held(self, cluster: str) -> float:
        """How many seconds a request holds its GPUs there in the mean, of late; two hours where that is not known."""
        if cluster not in self._held:
            runs = self._runs.get(cluster, ())
            self._held[cluster] = (sum(runs) + 5 * _RUN) / (len(runs) + 5)
        return self._held[cluster]

    def correction(self, cluster: str, pool: str, basis: Basis, like: tuple[int, float, float], prior: Sequence[float]) -> Correction:
        """What guesses of that kind were off by for requests like this one (GPUs, time, guess): the more alike and the later, the more they count.

        What is not known of the cluster is taken from all clusters, and what is not known at all from `prior`.
        """
        steps = (_bucket(like[0]), _bucket(like[1] / 600), 0 if basis is Basis.HISTORY else round(log_wait(like[2]) / _GUESS))
        if len(self._rows.get((cluster, pool, basis), ())) < _ENOUGH:
            pool = ""
        prior = self._elsewhere(basis, steps, prior)
        known, key = self._known.setdefault(cluster, {}), (pool, basis, steps, prior)
        if key not in known:
            rows, (low, high) = self._rows.get((cluster, pool, basis), ()), self.tails(cluster)
            ends = _quantiles(rows, steps, prior, (low, 0.5, 1 - high))
            known[key] = Correction(ends[0], ends[1], ends[2], len(rows))
        return known[key]

    def _elsewhere(self, basis: Basis, steps: _Steps, prior: Sequence[float]) -> tuple[float, ...]:
        """What is believed of a cluster of which nothing is known: rounded, for what was worked out to stay true when a row comes."""
        if (basis, steps) not in self._shared:
            quantiles = _quantiles(self._rows.get(("", "", basis), ()), steps, prior, _LEVELS)
            self._shared[basis, steps] = tuple(round(value, 1) for value in quantiles)
        return self._shared[basis, steps]


_ENOUGH = 30
_PRIOR_WEIGHT = 3.0


def log_wait(seconds: float) -> float:
    """The measure in which waits are compared."""
    return math.log(seconds + SOFT)


def _bucket(number: float) -> int:
    return round(2 * math.log2(1 + min(max(0.0, number), _MOST)))


def _quantiles(rows: Sequence[_Row] | deque[_Row], steps: _Steps, prior: Sequence[float], levels: Sequence[float]) -> list[float]:
    """Weighted quantiles of what guesses were off by, interpolated; `levels` are in order."""
    gpus, time, guess = steps
    weighed = [(value, _PRIOR_WEIGHT / len(prior)) for value in prior]
    weighed += [
        (row[3], weight * _ALIKE[abs(row[0] - gpus) + abs(row[1] - time) + abs(row[2] - guess)])
        for row, weight in zip(reversed(rows), _WEIGHTS, strict=False)
    ]
    weighed.sort()
    weights = [weight for _, weight in weighed]
    ends = list(accumulate(weights))
    shares = [(end - weight / 2) / ends[-1] for end, weight in zip(ends, weights, strict=True)]
    return [_at(level, shares, weighed) for level in levels]


def _at(level: float, shares: Sequence[float], weighed: Sequence[tuple[float, float]]) -> float:
    place = bisect_left(shares, level)
    if place in (0, len(shares)):
        return weighed[min(place, len(shares) - 1)][0]
    (before, _), (after, _) = weighed[place - 1 : place + 1]
    return before + (level - shares[place - 1]) / (shares[place] - shares[place - 1]) * (after - before)


def _corrected(tails: tuple[float, float], promised: Wait, waited: float) -> tuple[float, float]:
    """The levels after one more wait: adaptive conformal inference (Gibbs and Candès, 2021), for each end of the range."""
    low, high = tails
    low += _STEP * (_TAIL - (waited < promised.low))
    high += _STEP * (_TAIL - (waited > promised.high))
    return min(max(low, _TAILS[0]), _TAILS[1]), min(max(high, _TAILS[0]), _TAILS[1])
