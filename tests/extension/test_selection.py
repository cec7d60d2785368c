from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.naming import default_name, free_name
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool, Site
from jupyter_remote_gpu.selection import Demand, Figure, History, InFlight, Past, Preference, Rules, Selection, rank

NOW = 1000.0


def a_cluster(name: str, total: int = 0, free: int = 0, *, state=ClusterState.READY, model="A100", memory=40000) -> ClusterSnapshot:
    pool = Pool("p", model if total else "", memory if total else 0, total, free, total)
    return ClusterSnapshot(name, "fake", state, "it sleeps" if state is ClusterState.UNREACHABLE else "", (pool,), NOW)


def with_pools(*pools: Pool, name: str = "a", **site) -> ClusterSnapshot:
    return ClusterSnapshot(name, "slurm", ClusterState.READY, "", pools, NOW, site=Site(**site))


def asking(gpus: int | None = 1, **more) -> Demand:
    resources = {key: more.pop(key) for key in list(more) if key in ResourceRequest.__slots__}
    return Demand(ResourceRequest(gpus=gpus, **resources), **more)


def order(*snapshots, demand=Demand(), **rest) -> list[str]:  # noqa: B008  a value that nothing changes
    return [each.cluster for each in rank(demand, snapshots, now=NOW, **rest).candidates]


def against(demand: Demand, *snapshots: ClusterSnapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    candidate = rank(demand, snapshots, now=NOW).candidates[0]
    assert not candidate.eligible
    assert candidate.wait is None
    return candidate.reasons, candidate.remedies


HX = Pool("hx", "h100", 81920, 16, 5, 8, "x86_64", "cuda", nodes=2, cpus_per_node=96, memory_mb_per_node=500_000, time_limit=86400)
GH = Pool("gh", "gh200", 98304, 8, 2, 4, "aarch64", "cuda", nodes=2, cpus_per_node=288, memory_mb_per_node=800_000, time_limit=43200)
MI = Pool("amd", "mi300x", 196608, 8, 8, 8, "x86_64", "rocm")


def test_free_gpus_come_before_busy_ones_and_the_users_choice_before_both():
    clusters = a_cluster("none"), a_cluster("busy", 4, 0), a_cluster("free", 4, 1), a_cluster("freer", 8, 5)
    assert order(*clusters)[:2] == ["freer", "free"]
    assert order(*clusters, rules=Rules(chosen="busy"))[0] == "busy"


def test_among_busy_clusters_the_shorter_wait_comes_first():
    waits = [Past("a", asked=n, started=n + 900.0) for n in range(5)] + [Past("b", asked=n, started=n + 20.0) for n in range(5)]
    assert order(a_cluster("a", 4, 0), a_cluster("b", 4, 0), history=History(waits)) == ["b", "a"]


def test_each_candidate_says_why_not():
    selection = rank(asking(2, gpu_model="h100"), [a_cluster("a", 4, 4), a_cluster("b", state=ClusterState.UNREACHABLE)], now=NOW)
    assert selection.chosen == ""
    assert selection.sentence == "No cluster can run this: a: it has no h100; b: it cannot be reached: it sleeps."


def test_memory_counts():
    candidate = rank(asking(gpu_memory_mb=80000), [a_cluster("a", 1, 1)]).candidates[0]
    assert candidate.reasons == ("no GPU of it has 80000 MiB",)
    assert candidate.remedies == ("ask for at most 40000 MiB",)


def test_the_same_inputs_give_the_same_answer_and_old_news_is_called_old():
    clusters = [a_cluster("a", 1, 1), a_cluster("b", 1, 1)]
    assert rank(Demand(), clusters, now=2000.0) == rank(Demand(), clusters, now=2000.0)
    assert "1 of 1 GPUs free" in (sentence := rank(Demand(), clusters, now=2000.0).sentence)
    assert sentence.endswith("last seen 16 min ago.")


def test_news_of_this_machine_is_never_old():
    here = replace(a_cluster("local"), kind="local")
    assert rank(Demand(), [here], now=9000.0).sentence == "local: the only cluster, CPU only."


def test_without_a_cluster_the_sentence_says_so():
    assert rank(asking(2), []) == Selection((), "", "No cluster is configured.")


@pytest.mark.parametrize(
    ("demand", "reason", "remedy"),
    {
        "more than there are": (asking(64), "it has 16 GPUs, 64 asked for", "ask for at most 16"),
        "more than a node has": (asking(16), "16 GPUs on one node; the largest has 8", "ask for at most 8, or for 2 nodes with 8 each"),
        "on more nodes": (asking(8, nodes=3), "it has 16 GPUs, 24 asked for", "ask for at most 16"),
        "more nodes": (asking(1, nodes=9), "it has at most 2 nodes, 9 asked for", "ask for at most 2"),
        "a letter": (asking(gpu_model="h100x"), "it has no h100x", "it has h100 and gh200"),
        "a part": (asking(gpu_model="1g.10gb"), "it has no 1g.10gb", "it has h100 and gh200"),
        "memory": (asking(gpu_memory_mb=160_000), "no GPU of it has 160000 MiB", "ask for at most 98304 MiB"),
        "architecture": (asking(gpu_model="h100", cpu_arch="aarch64"), "its CPUs are x86_64; the environment is built for aarch64", "use an environment for x86_64"),
        "API": (asking(accelerator="rocm"), "it has cuda; the environment needs rocm", "use an environment for cuda"),
        "CPUs": (asking(cpus=512), "it has at most 288 CPUs on a node, 512 asked for", "ask for at most 288"),
        "main memory": (asking(memory_mb=900_000), "it has at most 800000 MiB on a node, 900000 asked for", "ask for at most 800000"),
        "time": (asking(time=7 * 86400), "it grants at most 24 h, 7 days asked for", "ask for at most 24 h"),
        "partition": (asking(partition="cpu"), "it has no partition cpu", "it has hx and gh"),
        "GPUs of a partition": (asking(6, partition="gh"), "6 GPUs on one node; the largest has 4", "ask for at most 4, or for 2 nodes with 3 each"),
    }.values(),
)  # fmt: skip
def test_a_hard_rule_says_what_is_wrong_and_what_would_do(demand, reason, remedy):
    assert against(demand, with_pools(HX, GH)) == ((reason,), (remedy,))


@pytest.mark.parametrize(
    ("demand", "site", "reason"),
    [
        (asking(countries=("GB",)), {"country": "CA"}, "it is in CA; only GB is allowed"),
        (asking(countries=("GB",)), {}, "nobody has said in which country it is"),
        (asking(data_class="personal"), {"data_classes": ("public",)}, "only public data may be there, not personal"),
        (asking(data_class="personal"), {}, "nobody has said which data may be there, not personal"),
        (asking(project="b"), {"projects": ("a",)}, "the project b is not there, only a"),
        (asking(internet=True), {"internet": False}, "its nodes do not reach the internet"),
        (asking(exclude=("a",)), {}, "you excluded it"),
    ],
)
def test_what_holds_at_a_site_is_a_hard_rule_too(demand, site, reason):
    reasons, remedies = against(demand, with_pools(HX, **site))
    assert reasons == (reason,)
    assert len(remedies) == 1


def test_all_that_speaks_against_a_cluster_is_said_at_once():
    reasons, remedies = against(asking(64, countries=("GB",), internet=True), with_pools(HX, country="ca", internet=False))
    assert len(reasons) == len(remedies) == 3


def test_what_nobody_has_said_excludes_only_where_it_must_be_sure():
    chosen = rank(asking(internet=True, project="p", cpus=8, time=60), [with_pools(Pool("q", "h100", 0, 4, 4, 4))], now=NOW)
    assert chosen.chosen == "a"
    assert "nobody has said whether its nodes reach the internet" in chosen.sentence


def test_pinned_clusters_are_the_only_ones():
    clusters = with_pools(HX, name="a"), with_pools(GH, name="b"), with_pools(MI, name="c")
    selection = rank(asking(only=("b",)), clusters, now=NOW)
    assert [each.cluster for each in selection.candidates if each.eligible] == ["b"]
    assert selection.candidates[-1].reasons == ("only b may be taken",)


def test_a_cluster_that_does_not_answer_says_how_old_what_is_known_of_it_is():
    away = replace(with_pools(HX), state=ClusterState.UNREACHABLE, detail="No route to host.", updated=NOW - 600)
    assert against(asking(), away)[0] == ("it cannot be reached: No route to host; what is known of it is 10 min old",)


def test_gpus_that_are_out_of_order_do_not_count():
    assert against(asking(), with_pools(replace(HX, gpus_free=0, gpus_down=16)))[0] == ("all its 16 GPUs are out of order",)
    assert against(asking(4), with_pools(replace(HX, gpus_free=0, gpus_down=14)))[0] == ("only 2 of its 16 GPUs are in order, 4 asked for",)
    assert rank(asking(2), [with_pools(replace(HX, gpus_free=2, gpus_down=14))], now=NOW).chosen == "a"


def test_a_part_of_a_gpu_is_taken_only_when_it_is_asked_for():
    parts = with_pools(Pool("mig", "a100_1g.5gb", 5120, 28, 28, 14, fraction=True))
    assert against(asking(), parts)[0] == ("it has only parts of GPUs (a100_1g.5gb), 1 asked for",)
    assert rank(asking(gpu_model="1g.5gb"), [parts], now=NOW).chosen == "a"


def test_the_best_pool_of_a_cluster_counts_and_is_named():
    busy = replace(HX, gpus_free=0, pending_jobs=40, pending_gpus=80)
    assert rank(asking(), [with_pools(busy, GH)], now=NOW).candidates[0].pool == "gh"
    assert rank(asking(gpu_model="h100"), [with_pools(busy, GH)], now=NOW).candidates[0].pool == "hx"


@pytest.mark.parametrize(
    ("demand", "wrong"),
    [
        (asking(0, gpu_model="h100"), "no GPU is asked for, but h100 is"),
        (asking(0, accelerator="cuda"), "no GPU is asked for, but cuda is"),
        (asking(only=("a",), exclude=("a",)), "a is both asked for and excluded"),
        (asking(only=("aa",)), "there is no cluster 'aa' (is a meant?)"),
        (asking(countries=("UK",)), "'UK' is no country code of ISO 3166-1, such as GB or CA (GB is meant?)"),
        (asking(-1), "a negative amount is asked for"),
        (asking(run_seconds=float("nan")), "a run of nan s cannot be"),
        (asking(run_seconds=7200, time=3600), "the work takes 2 h, but only 1 h are asked for"),
        (asking(prefer={"speed": 1.0}), "'speed' has no weight; time, cost, carbon and distance have"),
        (asking(prefer={"time": -1.0}), "the weight of 'time' cannot be -1"),
        (asking(prefer={}), "all weights are 0"),
    ],
)
def test_a_demand_that_contradicts_itself_is_told_so(demand, wrong):
    selection = rank(demand, [with_pools(HX)], now=NOW)
    assert selection.chosen == ""
    assert selection.sentence == f"Nothing can run this: {wrong}."
    assert selection.candidates[0].reasons == (wrong,)


def test_figures_that_cannot_be_are_not_believed_and_that_is_said():
    odd = with_pools(replace(HX, gpus_free=-3, gpus_down=-1, pending_jobs=-5))
    many = with_pools(replace(HX, gpus_free=900), name="b")
    for candidate in rank(asking(), [odd, many], now=NOW).candidates:
        assert "it says what cannot be" in candidate.reasons[-1]
    assert order(odd, many, demand=asking()) == ["b", "a"]


def test_a_clock_that_jumped_is_said_and_does_no_harm():
    ahead = replace(with_pools(HX), updated=NOW + 7200)
    assert "2 h in the future" in rank(asking(), [ahead], now=NOW).sentence
    assert rank(asking(), [ahead], History([Past("a", asked=500.0, started=100.0)]), now=-5.0).chosen == "a"


def test_names_with_odd_characters_come_through():
    odd = with_pools(HX, name="a b;$(x)\n'é")
    assert rank(asking(only=(odd.name,)), [odd], now=NOW).chosen == odd.name


def test_the_preference_decides_and_time_breaks_ties():
    near = replace(with_pools(HX, name="near", cost=3.0, currency="GBP", carbon=240.0), round_trip=0.01)
    cheap = replace(with_pools(HX, name="cheap", cost=1.0, currency="GBP", carbon=600.0), round_trip=0.1)
    green = replace(with_pools(HX, name="green", cost=2.0, currency="GBP", carbon=1.0), round_trip=0.2)
    silent = with_pools(HX, name="silent")
    clusters = silent, near, cheap, green
    for preference, first in ((Preference.NEAREST, "near"), (Preference.CHEAPEST, "cheap"), (Preference.GREENEST, "green")):
        assert order(*clusters, demand=asking(prefer=preference))[0] == first
        assert order(*clusters, demand=asking(prefer=preference))[-1] != first
    assert order(*clusters, demand=asking(prefer={"carbon": 1.0, "distance": 0.1}))[0] == "green"
    assert order(*clusters, demand=asking())[0] == "silent"


def test_money_in_other_currencies_is_not_compared():
    pounds = [with_pools(HX, name=name, cost=cost, currency="GBP") for name, cost in (("a", 2.0), ("b", 1.0))]
    dollars = with_pools(HX, name="c", cost=0.1, currency="CAD")
    assert order(dollars, *pounds, demand=asking(prefer=Preference.CHEAPEST))[0] == "b"


def test_the_time_to_the_result_has_start_data_and_run():
    demand = asking(run_seconds=3600, run_on="A100", data_mb={"a": 1000.0})
    candidate = rank(demand, [with_pools(HX)], rules=Rules(starts={"a": 30.0}, rates={"a": 50.0}), now=NOW).candidates[0]
    assert candidate.start == Figure(30.0, "s", "measured by this gateway")
    assert candidate.moving == Figure(20.0, "s", "1,000 MB at 50 MB/s, measured by this gateway")
    assert 900 < candidate.run.value < 2000
    assert candidate.total.low < candidate.total.median < candidate.total.high
    assert candidate.total.median == pytest.approx(candidate.wait.median + 50 + candidate.run.value)


def test_a_faster_gpu_is_worth_a_wait_when_the_work_is_long():
    slow, fast = (
        with_pools(Pool("t", "t4", 16384, 8, 8, 8), name="slow"),
        with_pools(replace(HX, gpus_free=0, pending_gpus=1, pending_jobs=1), name="fast"),
    )
    assert order(slow, fast, demand=asking())[0] == "slow"
    assert order(slow, fast, demand=asking(run_seconds=8 * 3600, run_on="t4"))[0] == "fast"


def test_an_estimate_for_any_gpu_changes_no_order():
    clusters = a_cluster("a", 4, 1), a_cluster("b", 4, 3)
    assert order(*clusters, demand=asking(run_seconds=9999)) == order(*clusters, demand=asking())


def test_what_is_on_its_way_counts():
    clusters = a_cluster("a", 8, 4), a_cluster("b", 8, 3)
    assert order(*clusters, demand=asking()) == ["a", "b"]
    selection = rank(asking(), clusters, rules=Rules(in_flight=tuple(InFlight("a", 2, NOW) for _ in range(2))), now=NOW)
    assert selection.chosen == "b"
    assert "4 GPUs asked for just now" in selection.candidates[1].reasons


def test_the_answer_as_json_has_a_unit_and_a_source_for_each_number():
    answer = rank(asking(run_seconds=60), [with_pools(HX, cost=1.5, currency="GBP")], now=NOW).json()
    (candidate,) = answer["candidates"]
    for name in ("start", "moving", "run", "cost", "carbon", "distance"):
        assert candidate[name]["unit"]
        assert candidate[name]["source"]
    assert candidate["wait"]["source"] == "5 GPUs are free and nobody waits"
    assert candidate["total"]["low"] <= candidate["total"]["expected"] <= candidate["total"]["high"]


def test_a_notebook_names_its_session_and_odd_characters_do_not_survive():
    assert default_name("work/My analysis (2).ipynb") == "My-analysis-2"
    assert default_name("RTC:a/b.ipynb") == "b"
    assert default_name("") == "default"
    assert default_name("....ipynb") == "default"
    assert free_name("a", {"a", "a-2"}) == "a-3"
