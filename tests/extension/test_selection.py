from __future__ import annotations

from dataclasses import replace

from jupyter_remote_gpu.models import ClusterSnapshot, ClusterState, Pool, ResourceRequest
from jupyter_remote_gpu.naming import default_name, free_name
from jupyter_remote_gpu.selection import Rules, rank


def a_cluster(name: str, total: int = 0, free: int = 0, *, state=ClusterState.READY, model="A100", memory=40000) -> ClusterSnapshot:
    pool = Pool("p", model if total else "", memory if total else 0, total, free, total)
    return ClusterSnapshot(name, "fake", state, "it sleeps" if state is ClusterState.UNREACHABLE else "", (pool,), 1000.0)


def order(*snapshots, request=ResourceRequest(), **rest) -> list[str]:  # noqa: B008  a value that nothing changes
    return [each.cluster for each in rank(request, snapshots, now=1000.0, **rest).candidates]


def test_free_gpus_come_before_busy_ones_and_the_users_choice_before_both():
    clusters = a_cluster("none"), a_cluster("busy", 4, 0), a_cluster("free", 4, 1), a_cluster("freer", 8, 5)
    assert order(*clusters)[:2] == ["freer", "free"]
    assert order(*clusters, rules=Rules(chosen="busy"))[0] == "busy"


def test_among_busy_clusters_the_shorter_wait_comes_first():
    assert order(a_cluster("a", 4, 0), a_cluster("b", 4, 0), history=[("a", 900.0), ("b", 20.0)]) == ["b", "a"]


def test_each_candidate_says_why_not():
    request = ResourceRequest(gpus=2, gpu_model="h100")
    selection = rank(request, [a_cluster("a", 4, 4), a_cluster("b", state=ClusterState.UNREACHABLE)], now=1000.0)
    assert selection.chosen == ""
    assert selection.sentence == "No cluster can run this: a: it has no h100; b: it cannot be reached: it sleeps."


def test_memory_counts():
    assert rank(ResourceRequest(gpus=1, memory_mb=80000), [a_cluster("a", 1, 1)]).candidates[0].reasons == ("no GPU of it has 80000 MiB",)


def test_the_same_inputs_give_the_same_answer_and_old_news_is_called_old():
    clusters = [a_cluster("a", 1, 1), a_cluster("b", 1, 1)]
    assert rank(ResourceRequest(), clusters, now=2000.0) == rank(ResourceRequest(), clusters, now=2000.0)
    assert rank(ResourceRequest(), clusters, now=2000.0).sentence == "a: 1 of 1 GPUs free, last seen 16 min ago."


def test_news_of_this_machine_is_never_old():
    here = replace(a_cluster("local"), kind="local")
    assert rank(ResourceRequest(), [here], now=9000.0).sentence == "local: the only cluster, CPU only."


def test_a_notebook_names_its_session_and_odd_characters_do_not_survive():
    assert default_name("work/My analysis (2).ipynb") == "My-analysis-2"
    assert default_name("RTC:a/b.ipynb") == "b"
    assert default_name("") == "default"
    assert default_name("....ipynb") == "default"
    assert free_name("a", {"a", "a-2"}) == "a-3"
