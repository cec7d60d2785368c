"""What the gateway gives to the ranking, and what becomes of its answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from tests.fakes.clusters import FakeCluster

from jupyter_remote_gpu.demands import demand_from
from jupyter_remote_gpu.gateway import build
from jupyter_remote_gpu.models import AllocationState, ResourceRequest
from jupyter_remote_gpu.offers import StartEstimate
from jupyter_remote_gpu.selection import Basis, Demand, Preference
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.errors import UsageProblem

ONE = Demand(ResourceRequest(gpus=1))


class Estimating(FakeCluster):
    """Its scheduler says what a request would have to wait; a text is a refusal."""

    says: float | str = 3600.0
    asked = 0

    async def estimate(self, request: ResourceRequest) -> StartEstimate | None:
        self.asked += 1
        if isinstance(self.says, str):
            raise UsageProblem(self.says)
        return StartEstimate(self.says, "its scheduler said so")


@pytest.fixture
async def parts(places):
    clusters = {"near": Estimating("near", waits_at="in the queue"), "far": Estimating("far", waits_at="in the queue")}

    async def notebook_of(_: str) -> None:
        return None

    settings = Settings(clusters={}, data_folder=places.base / "d", own_clusters=False)
    built = build(settings, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of, ready=clusters)
    yield built
    for session in built.registry.sessions():
        await built.sessions.stop(session.id)
    await built.aclose()


async def test_where_gpus_are_free_no_scheduler_is_asked(parts):
    decided = await parts.selecting.select(ONE)
    assert decided.best.cluster == "near"
    assert decided.best.wait.basis is Basis.FREE
    assert parts.clusters["near"].asked == 0
    assert (await parts.selecting.select(ONE, thorough=True)).best
    assert parts.clusters["near"].asked == 1


async def test_how_long_a_start_takes_is_learned_from_those_that_were_seen(parts):
    before = (await parts.selecting.select(ONE)).best.start
    for seconds in (3.0, 300.0, 4.0):
        parts.selecting.started("near", seconds)
    after = (await parts.selecting.select(ONE)).best.start
    assert (before.source, after.source) == ("a usual one", "measured by this gateway")
    assert after.value == 4.0


async def test_a_session_that_starts_teaches_how_long_that_took(parts, monkeypatch):
    learned = []
    monkeypatch.setattr(parts.selecting, "started", lambda cluster, seconds: learned.append((cluster, seconds)))
    parts.clusters["near"].waits_at = ""
    session, _ = await parts.sessions.start(Wish(name="x", cluster="near"))
    async with asyncio.timeout(20):
        while (await parts.sessions.get(session.id)).state is not AllocationState.RUNNING:
            await parts.sessions.wait(session.id, parts.sessions.peek(session.id).stamp, 1)
    assert [cluster for cluster, _ in learned] == ["near"]
    assert 0 <= learned[0][1] < 20


async def test_a_request_on_its_way_takes_its_gpus_before_a_snapshot_knows(parts):
    first, _ = await parts.sessions.start(Wish(name="first", request=ResourceRequest(gpus=2)))
    assert first.cluster == "near"
    second, _ = await parts.sessions.start(Wish(name="second", request=ResourceRequest(gpus=2)))
    assert second.cluster == "far"
    assert {each.cluster for each in parts.registry.sessions() if each.state is AllocationState.PENDING} == {"near", "far"}


async def test_a_session_that_runs_since_the_last_look_has_its_gpus(parts):
    await parts.snapshots.known(5)
    parts.clusters["near"].go.set()
    first, _ = await parts.sessions.start(Wish(name="first", cluster="near", request=ResourceRequest(gpus=2)))
    async with asyncio.timeout(20):
        while (await parts.sessions.get(first.id)).state is not AllocationState.RUNNING:
            await parts.sessions.wait(first.id, parts.sessions.peek(first.id).stamp, 1)
    near = next(each for each in parts.snapshots.all() if each.name == "near")
    assert near.pools[0].gpus_free == 2  # as it was seen before
    assert (await parts.selecting.select(Demand(ResourceRequest(gpus=2)))).best.cluster == "far"


async def test_what_a_scheduler_refuses_goes_elsewhere_in_its_own_words(parts):
    parts.clusters["near"].says = "Invalid account."
    decided = await parts.selecting.select(replace(ONE, resources=ResourceRequest(gpus=1, account="x")), thorough=True)
    assert decided.best.cluster == "far"
    (against,) = [each for each in decided.selection.candidates if not each.eligible]
    assert against.reasons == ("Invalid account",)


async def test_a_session_knows_the_decision_that_chose_its_cluster(parts):
    session, _ = await parts.sessions.start(Wish(name="first", request=ResourceRequest(gpus=1)))
    answer = parts.selecting.remembered.decision(session.decision)
    assert answer["id"] == session.decision == session.json()["decision"]
    assert answer["chosen"] == "near"
    assert session.why == answer["sentence"]
    assert answer["candidates"][0]["wait"]["source"]


async def test_a_named_cluster_that_cannot_run_it_says_why_alone(parts):
    with pytest.raises(UsageProblem) as caught:
        await parts.sessions.start(Wish(name="first", cluster="far", request=ResourceRequest(gpus=16)))
    assert caught.value.message.startswith("far cannot run this: ")
    assert "16" in caught.value.message
    assert "near" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"contries": ["GB"]}, "Did you mean 'countries'"),
        ({"prefer": "soonist"}, "Did you mean 'soonest'"),
        ({"prefer": {"time": -1}}, "at least 0"),
        ({"prefer": 7}, "an object"),
        ({"countries": "GB"}, "a list of texts"),
        ({"internet": "yes"}, "true or false"),
        ({"run_seconds": float("inf")}, "at least 0"),
        ({"data_mb": {"near": "much"}}, "at least 0"),
        ([], "an object"),
    ],
)
def test_a_demand_that_cannot_be_says_which_part_and_what_may_be_meant(value, words):
    with pytest.raises(UsageProblem) as caught:
        demand_from(value, ResourceRequest())
    assert words in f"{caught.value} {caught.value.hint}"


def test_a_demand_has_all_that_was_said():
    value = {"countries": ["GB"], "prefer": "greenest", "internet": True, "cpu_arch": "aarch64", "run_seconds": 60, "data_mb": {"near": 1}}
    demand = demand_from(value, ResourceRequest(gpus=1))
    assert demand == Demand(
        ResourceRequest(gpus=1),
        countries=("GB",),
        prefer=Preference.GREENEST,
        internet=True,
        cpu_arch="aarch64",
        run_seconds=60.0,
        data_mb={"near": 1.0},
    )
    assert demand_from({"prefer": {"time": 1, "cost": 2}}, ResourceRequest()).prefer == {"time": 1.0, "cost": 2.0}
    assert demand_from(None, ResourceRequest()) == Demand()


async def test_a_named_cluster_with_a_scheduler_of_its_own_is_left_to_that_and_not_asked_twice(parts):
    class Scheduled(Estimating):
        async def resume(self, allocation): ...
        async def extend(self, allocation, seconds): ...
        async def log(self, allocation, lines): ...

    parts.clusters._ready["far"] = scheduled = Scheduled("far", waits_at="in the queue")
    session, _ = await parts.sessions.start(Wish(name="first", cluster="far", request=ResourceRequest(gpus=16)))
    assert session.why == "far: you asked for it."
    assert scheduled.asked == 0
    abroad = Wish(name="second", cluster="far", request=ResourceRequest(gpus=1), beside=Demand(countries=("GB",)))
    with pytest.raises(UsageProblem, match="far cannot run this"):
        await parts.sessions.start(abroad)
