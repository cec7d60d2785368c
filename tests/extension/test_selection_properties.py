"""What holds for every ranking, whatever the clusters look like."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool, Site, StartEstimate
from jupyter_remote_gpu.selection import Demand, History, InFlight, Past, Preference, Rules, rank

NOW = 1_000_000.0
MODELS = ("", "h100", "NVIDIA H100 80GB HBM3", "a100", "l40s", "a100_1g.5gb", "mi300x", "é|;")
figures = st.one_of(st.integers(0, 40), st.integers(-(10**12), 10**12))
pools = st.builds(
    Pool,
    name=st.sampled_from(("p", "q", "q:h100", "")),
    gpu_model=st.sampled_from(MODELS),
    gpu_memory_mb=st.integers(0, 200_000),
    gpus_total=figures,
    gpus_free=figures,
    gpus_per_node=figures,
    gpus_down=figures,
    pending_jobs=figures,
    pending_gpus=figures,
    fraction=st.booleans(),
    time_limit=figures,
)
snapshots = st.builds(
    ClusterSnapshot,
    name=st.just(""),
    kind=st.sampled_from(("local", "ssh", "slurm", "site", "fake")),
    state=st.sampled_from(ClusterState),
    detail=st.text(max_size=10),
    pools=st.lists(pools, max_size=3).map(tuple),
    updated=st.floats(0, 3e6),
    round_trip=st.floats(allow_nan=True),
    site=st.builds(
        Site, country=st.sampled_from(("", "GB", "CA")), cost=st.one_of(st.none(), st.floats()), carbon=st.one_of(st.none(), st.floats())
    ),
    estimate=st.one_of(st.none(), st.builds(StartEstimate, st.floats(), st.just("its scheduler"))),
)
clusters = st.lists(snapshots, max_size=6).map(lambda found: [replace(each, name=f"c{n}") for n, each in enumerate(found)])
demands = st.builds(
    Demand,
    resources=st.builds(ResourceRequest, gpus=st.one_of(st.none(), st.integers(0, 9)), gpu_model=st.sampled_from(("", "h100", "l40", "1g.5gb")), nodes=st.integers(0, 3)),
    countries=st.sampled_from(((), ("GB",), ("XX",))),
    prefer=st.one_of(st.sampled_from(Preference), st.dictionaries(st.sampled_from(("time", "cost", "carbon", "distance")), st.floats(0, 5))),
    run_seconds=st.floats(0, 1e6),
    run_on=st.sampled_from(("", "a100", "?")),
)  # fmt: skip
pasts = st.builds(
    Past,
    cluster=st.sampled_from(("c0", "c1")),
    gpus=figures.map(abs),
    time=st.floats(0, 1e6),
    asked=st.floats(-1e6, 1e6),
    started=st.one_of(st.none(), st.floats(-1e6, 2e6)),
    ended=st.one_of(st.none(), st.floats(-1e6, 2e6)),
)
histories = st.lists(pasts, max_size=20)


@settings(deadline=None)
@given(clusters, demands, histories)
def test_ranking_takes_anything_and_the_same_inputs_give_the_same_answer(found, demand, rows):
    history = History(rows)
    first = rank(demand, found, history, now=NOW)
    assert first == rank(demand, found, history, now=NOW) == rank(demand, found, History(rows), now=NOW)
    assert sorted(each.cluster for each in first.candidates) == [each.name for each in found]
    for candidate in first.candidates:
        if candidate.wait is not None:
            assert 0 <= candidate.wait.low <= candidate.wait.median <= candidate.wait.high < math.inf
            assert all(
                math.isfinite(part.value)
                for part in (candidate.start, candidate.moving, candidate.cost, candidate.carbon, candidate.distance)
                if part.value is not None
            )
    json.dumps(first.json(), allow_nan=False)


@settings(deadline=None)
@given(clusters, demands, histories)
def test_what_cannot_run_it_never_comes_before_what_can_and_says_why(found, demand, rows):
    selection = rank(demand, found, History(rows), now=NOW)
    eligible = [each.eligible for each in selection.candidates]
    assert eligible == sorted(eligible, reverse=True)
    assert bool(selection.chosen) == any(eligible)
    assert all(each.reasons for each in selection.candidates if not each.eligible)


@settings(deadline=None)
@given(clusters, demands, st.randoms())
def test_the_order_of_the_clusters_changes_no_figure_and_decides_only_between_equals(found, demand, chance):
    other = [*found]
    chance.shuffle(other)
    first, second = rank(demand, found, now=NOW), rank(demand, other, now=NOW)
    assert sorted(map(repr, first.candidates)) == sorted(map(repr, second.candidates))
    if [each.cluster for each in first.candidates] != [each.cluster for each in second.candidates]:
        again = rank(demand, [next(each for each in found if each.name == one.cluster) for one in first.candidates], now=NOW)
        assert again.candidates == first.candidates


@settings(deadline=None)
@given(
    st.integers(1, 8),
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=2, max_size=6),
)
def test_more_free_gpus_never_make_a_cluster_worse(gpus, more, sizes):
    found = [
        ClusterSnapshot(f"c{n}", "slurm", ClusterState.READY, "", (Pool("p", "h100", 81920, 48, min(free, 40), 48, pending_jobs=jobs, pending_gpus=2 * jobs),), NOW)
        for n, (free, jobs) in enumerate(sizes)
    ]  # fmt: skip
    demand = Demand(ResourceRequest(gpus=gpus))
    before = [each.cluster for each in rank(demand, found, now=NOW).candidates]
    for n, each in enumerate(found):
        pool = each.pools[0]
        freer = [*found[:n], replace(each, pools=(replace(pool, gpus_free=min(48, pool.gpus_free + more)),)), *found[n + 1 :]]
        after = [candidate.cluster for candidate in rank(demand, freer, now=NOW).candidates]
        assert after.index(each.name) <= before.index(each.name)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=8), st.sampled_from((1, 2, 4)))
def test_two_hundred_requests_at_once_do_not_all_go_to_one_place(free, gpus):
    found = [
        ClusterSnapshot(f"c{n}", "slurm", ClusterState.READY, "", (Pool("p", "h100", 81920, 64, each, 8),), NOW)
        for n, each in enumerate(free)
    ]
    sent: list[InFlight] = []
    for _ in range(200):
        chosen = rank(Demand(ResourceRequest(gpus=gpus)), found, rules=Rules(in_flight=tuple(sent)), now=NOW).chosen
        sent.append(InFlight(chosen, gpus, NOW))
    room = {f"c{n}": each // gpus for n, each in enumerate(free)}
    first = Counter(each.cluster for each in sent[: sum(room.values())])
    assert all(count <= room[name] for name, count in first.items()), "a cluster was sent more than it has room for, while another had some"
    waiting = [
        max(0, count - room[name]) for name, count in Counter({**dict.fromkeys(room, 0), **Counter(each.cluster for each in sent)}).items()
    ]
    if sum(waiting):
        assert max(waiting) <= 1.5 * sum(waiting) / len(free) + 8, "what must wait is not shared out"


def test_a_slow_start_does_not_gather_all_requests_where_the_first_went():
    found = [
        ClusterSnapshot(name, "slurm", ClusterState.READY, "", (Pool("p", "h100", 81920, 64, 0, 8, pending_jobs=4, pending_gpus=8),), NOW)
        for name in "abc"
    ]
    sent: list[InFlight] = []
    for second in range(60):
        fresh = [replace(each, updated=NOW + second - 5) for each in found]
        chosen = rank(Demand(ResourceRequest(gpus=1)), fresh, rules=Rules(in_flight=tuple(sent)), now=NOW + second).chosen
        sent.append(InFlight(chosen, 1, NOW + second))
    assert len({each.cluster for each in sent[:12]}) > 1
