"""How good the selection's waits are: requests replayed against clusters with queues, chosen for by several ways in worlds that are otherwise the same.

Others' jobs are made up (days, weeks and bursts; seeded), or read from a file of the Parallel Workloads Archive: ``BENCH_SWF=FILE``, or
``python -m benchmarks.queues --swf FILE``. The first fifth of the requests is for learning, for every way, and is not counted.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.backfill import Backfill
from benchmarks.report import Row, table
from benchmarks.traces import DAY, Job, Load, from_swf, made_up, requests
from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool, StartEstimate
from jupyter_remote_gpu.selection import Demand, History, InFlight, Past, Rules, Wait, rank

CLUSTERS = {
    "bristol": Load(96, 0.90, 13),
    "cambridge": Load(48, 0.95, 13, bursts=0.8),
    "edinburgh": Load(128, 0.93, 13),
    "montreal": Load(64, 0.92, 18),
    "toronto": Load(192, 0.96, 18),
    "edmonton": Load(32, 0.85, 20, bursts=0.8),
}
TELLING = ("bristol", "edinburgh", "montreal")
"""The clusters whose scheduler says when a request would start."""
_LEARNING = 0.2
_SEED = 20261127


@dataclass(slots=True)
class World:
    """The clusters as one way of choosing has them, with what became of its requests."""

    clusters: dict[str, Backfill]
    telling: Sequence[str] = ()
    history: History = field(default_factory=History)
    waiting: dict[int, tuple[Job, str, Wait | None]] = field(default_factory=dict)
    running: list[tuple[float, str, float]] = field(default_factory=list)
    waits: list[tuple[Job, str, float, Wait | None]] = field(default_factory=list)

    def advance(self, now: float) -> None:
        """Let time go on until `now`, and learn from what began and ended."""
        for cluster in self.clusters.values():
            cluster.advance(now)
        for number, (job, name, promised) in list(self.waiting.items()):
            began = self.clusters[name].started.get(number)
            if began is None:
                continue
            del self.waiting[number]
            self.waits.append((job, name, began - job.submit, promised))
            self.running.append((began + job.runs, name, job.runs))
            self.history.add(Past(name, "", job.gpus, job.limit, job.submit, began, None, promised))
        for each in [each for each in self.running if each[0] <= now]:
            self.running.remove(each)
            self.history.add_run(each[1], each[2])

    def snapshots(self, job: Job, now: float) -> list[ClusterSnapshot]:
        """What a gateway sees."""
        found = []
        for name, cluster in self.clusters.items():
            pending = sum(each.gpus for each in cluster.queue)
            pool = Pool("gpu", "A100", 40960, cluster.gpus, cluster.free, 4, pending_jobs=len(cluster.queue), pending_gpus=pending)
            estimate = None
            if name in self.telling:
                estimate = StartEstimate(cluster.will_run(job.gpus, now) - now, "its scheduler says")
            found.append(ClusterSnapshot(name, "slurm", ClusterState.READY, "", (pool,), now, estimate=estimate))
        return found

    def in_flight(self) -> tuple[InFlight, ...]:
        """What was sent and waits."""
        return tuple(InFlight(name, job.gpus, job.submit) for job, name, _ in self.waiting.values())


Way = Callable[[World, Job], tuple[str, Wait | None]]


def by_rank(world: World, job: Job) -> tuple[str, Wait | None]:
    """What this package does."""
    demand = Demand(ResourceRequest(gpus=job.gpus, time=int(job.limit)))
    best = rank(demand, world.snapshots(job, job.submit), world.history, Rules(in_flight=world.in_flight()), job.submit).candidates[0]
    return best.cluster, best.wait


def always_first(world: World, _job: Job) -> tuple[str, None]:
    """The cluster that one is used to."""
    return next(iter(world.clusters)), None


def by_chance(seed: int) -> Way:
    """Any."""
    source = random.Random(seed)
    return lambda world, _job: (source.choice(list(world.clusters)), None)


def most_free(world: World, _job: Job) -> tuple[str, None]:
    """Where most GPUs are free."""
    return max(world.clusters.values(), key=lambda cluster: cluster.free).name, None


def oracle(world: World, job: Job) -> tuple[str, None]:
    """Where it starts first, as if one knew what others will ask for and when their jobs end."""
    best, name = float("inf"), ""
    for cluster in sorted(world.clusters.values(), key=lambda cluster: (-cluster.free, len(cluster.queue))):
        start = cluster.start_of(job, min(best, job.submit + 60 * DAY))
        if start < best:
            best, name = start, cluster.name
    return name, None


def replay(others: dict[str, list[Job]], ours: Sequence[Job], way: Way, telling: Sequence[str] = TELLING) -> World:
    """All of `ours`, one after the other, in a world of their own."""
    clusters = {name: Backfill(name, CLUSTERS[name].gpus, jobs, 5.0 * place) for place, (name, jobs) in enumerate(others.items())}
    world = World(clusters, telling)
    for job in ours:
        world.advance(job.submit)
        name, promised = way(world, job)
        world.waiting[job.number] = (job, name, promised)
        world.clusters[name].submit(job)
    world.advance(ours[-1].submit + 60 * DAY)
    world.waits = sorted(world.waits, key=lambda wait: wait[0].submit)[int(_LEARNING * len(ours)) :]
    return world


def coverage(world: World, cluster: str = "") -> tuple[float, float, float]:
    """The shares of the waits that were below, in and above their range."""
    told = [(wait, promised) for _, name, wait, promised in world.waits if promised and cluster in ("", name)]
    below = sum(wait < promised.low for wait, promised in told) / max(1, len(told))
    above = sum(wait > promised.high for wait, promised in told) / max(1, len(told))
    return below, 1 - below - above, above


def worlds(quick: bool, swf: Path | None = None, seed: int = _SEED) -> dict[str, World]:
    """The same requests by each way."""
    days, count = (10, 300) if quick else (42, 2000)
    if swf is None:
        others = {name: made_up(load, days, seed + place) for place, (name, load) in enumerate(CLUSTERS.items())}
    else:
        others = {name: from_swf(swf, load.gpus, place * 30 * DAY, days) for place, (name, load) in enumerate(CLUSTERS.items())}
    ours = requests(count, 2 * DAY, (days - 1) * DAY, seed)
    ways: dict[str, Way] = {"always the first": always_first, "random": by_chance(seed), "most free": most_free, "oracle": oracle}
    found = {who: replay(others, ours, way) for who, way in ways.items()}
    found["remote_gpu"] = replay(others, ours, by_rank)
    found["remote_gpu, no scheduler's word"] = replay(others, ours, by_rank, ())
    return found


def rows_of(found: dict[str, World], trace: str) -> list[Row]:
    """What the issue asks for."""
    rows = []
    for who, world in found.items():
        waits = [wait for _, _, wait, _ in world.waits]
        goal = "≤ 1.25 × oracle, ≤ 0.5 × random" if who == "remote_gpu" else ""
        above = statistics.mean(waits) / statistics.mean(wait for _, _, wait, _ in found["random"].waits)
        note = f"{trace}; {above:.2f} × random; median {statistics.median(waits):.0f} s, p95 {sorted(waits)[int(0.95 * len(waits))]:.0f} s"
        rows.append(Row("mean wait of a request", who, "s", (statistics.mean(waits),), "oracle", goal, f"{len(waits)} requests, {note}"))
    for who in ("remote_gpu", "remote_gpu, no scheduler's word"):
        below, within, above = coverage(found[who])
        each = ", ".join(f"{name} {coverage(found[who], name)[1]:.0%}" for name in found[who].clusters)
        note = f"{below:.1%} below, {above:.1%} above; {each}"
        rows.append(Row("waits within their 10–90 % range", who, "%", (100 * within,), goal="75–85 %", note=note))
    return rows


def measure(quick: bool = False) -> list[Row]:
    """All ways; `quick` has few requests, which is too few to learn from."""
    swf = Path(os.environ["BENCH_SWF"]) if os.environ.get("BENCH_SWF") else None
    return rows_of(worlds(quick, swf), swf.name if swf else "made up")


def main() -> None:
    """Print the table alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=__doc__)
    parser.add_argument("--swf", type=Path, help="a trace of the Parallel Workloads Archive")
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    began = time.monotonic()
    print(table(rows_of(worlds(chosen.quick, chosen.swf, chosen.seed), chosen.swf.name if chosen.swf else "made up")))
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
