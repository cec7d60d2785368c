"""What one ranking costs at the size that no gateway has yet: 100 clusters, 1,000 pools, 100,000 earlier requests."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from benchmarks.report import Row
from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool
from jupyter_remote_gpu.selection import Basis, Demand, History, InFlight, Past, Rules, Wait, rank

CLUSTERS, POOLS, ROWS = 100, 10, 100_000
_MODELS = ("h100", "a100", "l40s", "gh200", "mi300x")
_DEMANDS = [
    Demand(ResourceRequest(gpus=gpus, gpu_model=model, time=hours * 3600))
    for gpus in (1, 2, 4)
    for model in ("", "h100")
    for hours in (1, 8)
]


def measure(quick: bool = False) -> list[Row]:
    """Ranking again and again, after each new row, and for the very first time."""
    source = random.Random(1)
    snapshots = [_snapshot(number, source) for number in range(CLUSTERS)]
    rules = Rules(in_flight=tuple(InFlight(f"c{source.randrange(CLUSTERS)}", 1, 1e6) for _ in range(50)))
    rows, count = list(_rows(source)), 5 if quick else 40
    began = time.thread_time()
    history = History(rows)
    built = time.thread_time() - began
    known = "100 clusters, 1,000 pools, 100,000 rows"
    first = [_timed(demand, snapshots, History(rows), rules) for demand in _DEMANDS[: 2 if quick else 6]]
    rows = rows[:count]  # a gateway does not keep them
    for demand in _DEMANDS:
        _timed(demand, snapshots, history, rules)
    again = [_timed(_DEMANDS[turn % len(_DEMANDS)], snapshots, history, rules) for turn in range(count)]
    after = []
    for turn in range(count):
        history.add(rows[turn])
        after.append(_timed(_DEMANDS[turn % len(_DEMANDS)], snapshots, history, rules))
    return [
        Row("ranking", "remote_gpu", "ms", tuple(again), goal="< 20 ms", note=known),
        Row("ranking after a new row", "remote_gpu", "ms", tuple(after), goal="< 20 ms", note=known),
        Row("the first ranking of its kind", "remote_gpu", "ms", tuple(first), note=f"nothing is worked out yet; {known}"),
        Row("reading the history", "remote_gpu", "ms", (built * 1000,), note="once, when the gateway starts"),
    ]


def _timed(demand: Demand, snapshots: list[ClusterSnapshot], history: History, rules: Rules) -> float:
    began = time.thread_time()  # ranking waits for nothing, so what others do meanwhile need not count
    rank(demand, snapshots, history, rules, 1e6)
    return (time.thread_time() - began) * 1000


def _snapshot(number: int, source: random.Random) -> ClusterSnapshot:
    pools = []
    for place in range(POOLS):
        total = source.choice((16, 64, 256))
        free = source.choice((0, 0, source.randint(0, total)))
        jobs = source.choice((0, 5, 80))
        pools.append(
            Pool(f"p{place}", source.choice(_MODELS), 81920, total, free, 8, "x86_64", "cuda", pending_jobs=jobs, pending_gpus=2 * jobs)
        )
    return ClusterSnapshot(f"c{number}", "slurm", ClusterState.READY, "", tuple(pools), 1e6)


def _rows(source: random.Random) -> Iterator[Past]:
    for number in range(ROWS):
        cluster, pool = f"c{source.randrange(CLUSTERS)}", f"p{source.randrange(POOLS)}"
        basis, raw, wait = source.choice((Basis.FREE, Basis.GAP, Basis.QUEUE)), source.expovariate(1 / 3600), source.expovariate(1 / 3600)
        promised = Wait(raw / 3, raw, raw * 3, "", 0, basis, raw)
        yield Past(cluster, pool, source.choice((1, 2, 4)), 3600.0, number, number + wait, number + wait + 3600, promised)
