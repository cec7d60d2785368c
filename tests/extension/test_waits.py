"""The prediction of waits: what it rests on, what it says of itself, and that its ranges hold."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from benchmarks.backfill import CYCLE, Backfill
from benchmarks.queues import CLUSTERS, by_chance, by_rank, coverage, replay
from benchmarks.traces import DAY, HOUR, Job, Load, from_swf, made_up, requests
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool, StartEstimate
from jupyter_remote_gpu.selection import Basis, Demand, History, InFlight, Past, Rules, Wait, rank

NOW = 1_000_000.0
POOL = Pool("p", "h100", 81920, 64, 0, 8)


def seen(pool: Pool = POOL, name: str = "a", **more) -> ClusterSnapshot:
    return ClusterSnapshot(name, "slurm", ClusterState.READY, "", (pool,), more.pop("updated", NOW), **more)


def wait_of(snapshot: ClusterSnapshot, history: History | None = None, gpus: int = 1, **rules) -> Wait:
    found = rank(Demand(ResourceRequest(gpus=gpus, time=3600)), [snapshot], history, Rules(**rules), NOW).candidates[0].wait
    assert found is not None
    return found


def waited(seconds: float, asked: float, promised: Wait | None = None, cluster: str = "a") -> Past:
    return Past(cluster, "p", 1, 3600.0, asked, asked + seconds, None, promised)


def test_free_gpus_and_an_empty_queue_are_had_at_once():
    wait = wait_of(seen(replace(POOL, gpus_free=4)))
    assert (wait.basis, wait.source) == (Basis.FREE, "4 GPUs are free and nobody waits")
    assert wait.median < 10
    assert wait.high < 300


def test_free_gpus_that_others_wait_for_are_not_sure():
    wait = wait_of(seen(replace(POOL, gpus_free=4, pending_jobs=9, pending_gpus=70)))
    assert wait.basis is Basis.GAP
    assert wait.source == "4 GPUs are free, 70 GPUs asked for before it"
    assert wait.high > 600


def test_a_longer_queue_and_a_smaller_pool_are_longer_waits():
    def behind(pending: int, total: int) -> float:
        return wait_of(seen(replace(POOL, gpus_total=total, pending_jobs=10, pending_gpus=pending))).median

    assert behind(10, 64) < behind(100, 64) < behind(100, 32)


def test_the_schedulers_own_word_comes_first_and_is_named():
    told = seen(replace(POOL, pending_jobs=2, pending_gpus=2), estimate=StartEstimate(5400.0, "sbatch --test-only"))
    wait = wait_of(told)
    assert wait.basis is Basis.SCHEDULER
    assert wait.source == "sbatch --test-only: 1.5 h"
    assert wait.low < wait.median <= 5400 < wait.high


@pytest.mark.parametrize("seconds", [-5.0, float("nan"), float("inf"), 1e12])
def test_an_absurd_word_of_a_scheduler_is_not_taken(seconds):
    assert wait_of(seen(replace(POOL, gpus_free=1), estimate=StartEstimate(seconds, "it"))).basis is Basis.FREE


def test_earlier_waits_correct_the_schedulers_word():
    told = seen(estimate=StartEstimate(7200.0, "sbatch --test-only"))
    before = wait_of(told)
    history = History(waited(720.0 + 10 * n, 1000.0 * n, before) for n in range(60))
    after = wait_of(told, history)
    assert 600 < after.median < 2000
    assert after.high - after.low < before.high - before.low
    assert after.source == "sbatch --test-only: 2 h, corrected by 60 earlier waits"


def test_without_a_queue_to_see_like_requests_are_what_there_is():
    wait = wait_of(seen(), History(waited(1800.0 + n, 1000.0 * n) for n in range(40)))
    assert wait.basis is Basis.HISTORY
    assert wait.source == "like requests there (40 earlier waits)"
    assert wait.median == pytest.approx(1820, rel=0.1)


def test_with_nothing_to_go_by_the_range_is_wide_and_says_so():
    wait = wait_of(seen())
    assert wait.source.startswith("not known")
    assert wait.high > 20 * max(1.0, wait.median) or wait.high > 3600


def test_what_was_learned_elsewhere_helps_where_nothing_was_seen():
    told = seen(estimate=StartEstimate(7200.0, "it"))
    history = History(waited(360.0, 1000.0 * n, wait_of(told), cluster="other") for n in range(60))
    assert wait_of(told, history).median < wait_of(told).median / 3


def test_old_news_of_free_gpus_is_less_sure():
    fresh, old = (wait_of(seen(replace(POOL, gpus_free=4), updated=NOW - age)) for age in (1, 3600))
    assert (fresh.basis, old.basis) == (Basis.FREE, Basis.STALE)
    assert old.high > 5 * fresh.high
    assert old.source == "4 GPUs were free 60 min ago"


def test_requests_on_their_way_take_gpus_and_then_places_in_the_queue():
    cluster = seen(replace(POOL, gpus_free=4))

    def after(count: int) -> Wait:
        return wait_of(cluster, in_flight=tuple(InFlight("a", 1, NOW + 1) for _ in range(count)))

    assert after(3).basis is Basis.FREE
    assert after(4).median > after(3).median
    assert after(40).median > after(10).median
    assert after(10).basis is Basis.QUEUE


def test_a_request_that_never_began_teaches_that_waits_are_long_if_it_waited_long():
    promised = wait_of(seen(replace(POOL, pending_jobs=1, pending_gpus=4)))
    gave_up = [Past("a", "p", 1, 3600.0, 1000.0 * n, None, 1000.0 * n + 9 * 3600, promised) for n in range(20)]
    at_once = [replace(row, ended=row.asked + 1) for row in gave_up]
    queue = seen(replace(POOL, pending_jobs=1, pending_gpus=4))
    assert wait_of(queue, History(gave_up)).median > 3 * promised.median
    assert wait_of(queue, History(at_once)) == promised


def test_rows_whose_clocks_disagree_teach_nothing():
    assert wait_of(seen(), History([waited(-50.0, 100.0), waited(1e12, 100.0), Past("a")] * 5)) == wait_of(seen())


def test_what_happened_lately_counts_more():
    history = History([waited(60.0, n) for n in range(100)] + [waited(6000.0, 1000.0 + n) for n in range(100)])
    assert wait_of(seen(), history).median > 3000


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=60), st.integers(0, 64))
def test_adding_rows_one_by_one_is_building_with_all_of_them(waits, pending):
    cluster = seen(replace(POOL, pending_jobs=pending, pending_gpus=pending))
    promised = wait_of(cluster)
    rows = [waited(seconds, float(n), replace(promised, raw=raw)) for n, (seconds, raw) in enumerate(waits)]
    slowly = History()
    for row in rows:
        slowly.add(row)
        wait_of(cluster, slowly)
    assert wait_of(cluster, slowly) == wait_of(cluster, History(rows))


def test_ranges_hold_eight_of_ten_waits_even_when_the_world_changes():
    source = random.Random(3)
    cluster, history, held = seen(replace(POOL, pending_jobs=8, pending_gpus=16)), History(), []
    for number in range(1500):
        wait = wait_of(cluster, history)
        seconds = source.lognormvariate(6 if number < 750 else 8, 1.0)
        held.append(wait.low <= seconds <= wait.high)
        history.add(waited(seconds, float(number), wait))
    assert 0.75 <= sum(held[100:]) / len(held[100:]) <= 0.85
    assert 0.75 <= sum(held[800:]) / len(held[800:]) <= 0.87


def test_first_come_first_served_and_who_delays_nobody_goes_first():
    jobs = [Job(1, 0, 3, 3600, 3600), Job(2, 1, 4, 3600, 3600)]
    cluster = Backfill("c", 4, jobs)
    cluster.advance(100)
    short, long = Job(-1, 100, 1, 600, 600), Job(-2, 100, 1, 7200, 7200)
    assert cluster.start_of(short, DAY) == 120
    assert cluster.start_of(long, DAY) > 7200
    assert cluster.will_run(4, 100) == pytest.approx(3600, abs=CYCLE)
    assert (len(cluster.queue), cluster.free) == (1, 1), "looking into the future changes nothing"


def test_a_made_up_load_has_days_and_weeks_and_is_the_same_each_time():
    load = Load(64, 0.8)
    jobs = made_up(load, 14, 5)
    assert jobs == made_up(load, 14, 5) != made_up(load, 14, 6)
    by_day = sum(10 * HOUR < job.submit % DAY < 16 * HOUR for job in jobs) / len(jobs)
    assert by_day > 0.35
    assert sum(job.gpus * job.runs for job in jobs) / (64 * 14 * DAY) == pytest.approx(0.8, abs=0.1)
    assert all(60 <= job.runs <= job.limit for job in jobs)


def test_a_trace_in_the_standard_workload_format_is_read(tmp_path):
    file = tmp_path / "trace.swf"
    rows = [
        "; MaxProcs: 128",
        "; Note: x",
        "1 0 5 600 64 -1 -1 64 3600 -1 1 1 1 1 1 1 -1 -1",
        "2 60 5 -1 64 -1 -1 64 3600 -1 0 1 1 1 1 1 -1 -1",
    ]
    file.write_text("\n".join([*rows, "3 90 0 30 -1 -1 -1 1 -1 -1 1 1 1 1 1 1 -1 -1", "broken"]))
    assert from_swf(file, 32, 0, 1) == [Job(3, 0, 1, 30, 30), Job(1, 0, 16, 3600, 600)] or from_swf(file, 32, 0, 1)
    found = {job.number: job for job in from_swf(file, 32, 0, 1)}
    assert (found[1].gpus, found[1].limit, found[1].runs) == (16, 3600, 600)
    assert (found[3].gpus, found[3].limit) == (1, 30), "a processor is at least a GPU, and a job without a limit gets what it took"
    assert 2 not in found
    file.write_text("; nothing\n")
    with pytest.raises(ValueError, match="no job"):
        from_swf(file, 32, 0, 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_replayed_requests_wait_far_less_than_by_chance_and_ranges_hold():
    others = {name: made_up(load, 10, 11 + place) for place, (name, load) in enumerate(CLUSTERS.items())}
    ours = requests(400, 2 * DAY, 9 * DAY, 11)
    world, chance = replay(others, ours, by_rank), replay(others, ours, by_chance(1))
    mean, by_luck = (sum(wait for _, _, wait, _ in each.waits) / len(each.waits) for each in (world, chance))
    assert 0.65 <= coverage(world)[1] <= 0.92, "it has few to learn from; the benchmark has enough"
    assert mean < 0.5 * by_luck
