"""Jobs of others, for a simulated cluster: made up with the rhythm of days and weeks and with bursts, or read from a file of the Parallel Workloads Archive."""

from __future__ import annotations

import gzip
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DAY = 86400.0
HOUR = 3600.0
_SIZES = ((1, 0.58), (2, 0.14), (4, 0.18), (8, 0.08), (16, 0.02))
_BURST = 8 * HOUR
"""How long a whole cluster works on the largest burst: nobody asks for more at once."""
_LIMITS = tuple(hours * HOUR for hours in (0.25, 0.5, 1, 2, 4, 8, 12, 24))


@dataclass(frozen=True, slots=True)
class Job:
    """`number` is negative for ours. Seconds; `limit` is what was asked for, `runs` what it takes."""

    number: int
    submit: float
    gpus: int
    limit: float
    runs: float


@dataclass(frozen=True, slots=True)
class Load:
    """What others ask of a cluster: `use` is the share of its GPUs that they would keep busy, `noon` when their days have their middle (UTC, hours)."""

    gpus: int
    use: float
    noon: float = 13.0
    bursts: float = 0.4
    """The share of the work that comes in bursts: sweeps of many like jobs at once."""


def made_up(load: Load, days: float, seed: int) -> list[Job]:
    """The jobs of `days` days, in the order of their submission; the same seed gives the same jobs."""
    source = random.Random(seed)
    goal = load.gpus * load.use * days * DAY
    jobs: list[tuple[float, int, float, float]] = []
    work = 0.0
    while work < goal:
        many = source.randint(8, 60) if source.random() < load.bursts / 12 else 1
        at, gpus = _moment(load, days, source), min(load.gpus // 2, _size(source))
        middle = source.lognormvariate(math.log(HOUR), 1.2)
        if many > 1:
            middle = min(middle, _BURST * load.gpus / (many * gpus))
        for number in range(many):
            runs = min(24 * HOUR, max(60.0, middle * (source.lognormvariate(0, 0.2) if many > 1 else 1)))
            jobs.append((at + 2 * number, gpus, _limit(runs, source), runs))
            work += gpus * runs
    return [Job(number, *job) for number, job in enumerate(sorted(jobs), 1)]


def requests(count: int, first: float, last: float, seed: int) -> list[Job]:
    """Ours: sessions of one to four GPUs and some hours, by the rhythm of a day."""
    source = random.Random(seed)
    asked = []
    while len(asked) < count:
        at = source.uniform(first, last)
        if source.random() < _rhythm(at, 13.0):
            asked.append(at)
    found = []
    for number, at in enumerate(sorted(asked), 1):
        limit = source.choice((HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR))
        found.append(Job(-number, at, source.choice((1, 1, 1, 1, 2, 2, 4)), limit, limit * source.uniform(0.2, 1)))
    return found


def from_swf(path: Path, gpus: int, shift: float, days: float) -> list[Job]:
    """The jobs of `days` days after `shift` seconds of a file in the Standard Workload Format (version 2.2; may end in .gz), on `gpus` GPUs.

    Its processors are scaled to GPUs. Jobs without a time or a size are left out; -1 is "not known". Raises `ValueError` when nothing is left.
    """
    most, rows = 0, []
    for line in _lines(path):
        if line.startswith(";"):
            key, _, value = line[1:].partition(":")
            most = int(value.split()[0]) if key.strip() in ("MaxProcs", "MaxNodes") and value.split()[0:1] and not most else most
            continue
        fields = line.split()
        if len(fields) < 18:
            continue
        number, submit, runs, taken, asked, limit = (float(fields[place]) for place in (0, 1, 3, 4, 7, 8))
        size = asked if asked > 0 else taken
        if runs > 0 and size > 0:
            rows.append((submit, size, max(limit, runs), runs, int(number)))
    most = max(most, *(int(row[1]) for row in rows)) if rows else most
    span = max((row[0] for row in rows), default=0.0) or 1.0
    jobs = []
    for submit, size, limit, runs, number in rows:
        at = (submit - shift) % span
        if at < days * DAY:
            jobs.append(Job(number, at, max(1, min(gpus, math.ceil(size * gpus / most))), limit, runs))
    if not jobs:
        raise ValueError(f"{path} has no job with a time and a size.")
    return sorted(jobs, key=lambda job: (job.submit, job.number))


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", errors="replace") if path.suffix == ".gz" else path.open(errors="replace") as file:
        yield from (line.strip() for line in file if line.strip())


def _moment(load: Load, days: float, source: random.Random) -> float:
    while True:
        at = source.uniform(0, days * DAY)
        if source.random() < _rhythm(at, load.noon):
            return at


def _rhythm(at: float, noon: float) -> float:
    """How busy people are, from 0 to 1: most at noon, least at midnight, and less on two days of seven."""
    day = 0.5 + 0.45 * math.cos(2 * math.pi * (at / HOUR - noon) / 24)
    return day * (0.4 if at % (7 * DAY) >= 5 * DAY else 1.0)


def _size(source: random.Random) -> int:
    return source.choices([size for size, _ in _SIZES], [share for _, share in _SIZES])[0]


def _limit(runs: float, source: random.Random) -> float:
    """What people ask for: far more than they need, and mostly a round number."""
    wish = runs * source.uniform(1.1, 6)
    return next((limit for limit in _LIMITS if limit >= wish), max(_LIMITS[-1], runs))
