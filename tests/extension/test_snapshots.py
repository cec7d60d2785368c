"""What is known of the clusters: fresh, of each its own age, and never waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.fakes.clusters import FakeCluster

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.models import ResourceRequest
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, StartEstimate
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.snapshots import Snapshots
from remote_gpu.errors import LinkProblem, RemoteGpuError, UsageProblem

EVERY = 0.01
LOG = logging.getLogger("snapshots")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Estimating(FakeCluster):
    """Its scheduler says something of a request."""

    def __init__(self, name: str, answer: StartEstimate | RemoteGpuError | None) -> None:
        super().__init__(name)
        self.answer = answer
        self.requests: list[ResourceRequest] = []

    async def estimate(self, request: ResourceRequest) -> StartEstimate | None:
        self.requests.append(request)
        if isinstance(self.answer, RemoteGpuError):
            raise self.answer
        if self.answer is not None and self.answer.source == "never":
            await asyncio.Event().wait()
        return self.answer


@asynccontextmanager
async def watched(*made: FakeCluster, sites: Mapping[str, Any] | None = None, **options: Any) -> AsyncIterator[Snapshots]:
    configured = {name: {"kind": "local", "site": site} for name, site in (sites or {}).items()}
    clusters = Clusters(Settings(clusters=configured, own_clusters=False), {each.name: each for each in made})
    snapshots = Snapshots(clusters, log=LOG, every=options.pop("every", EVERY), **options)
    try:
        yield snapshots
    finally:
        await snapshots.aclose()
        await clusters.aclose()


async def until(snapshots: Snapshots, name: str, what: Any) -> ClusterSnapshot:
    async with asyncio.timeout(5):
        while not what(found := next(each for each in snapshots.all() if each.name == name)):
            await asyncio.sleep(EVERY)
    return found


def is_ready(seen: ClusterSnapshot) -> bool:
    return seen.state is ClusterState.READY


def is_away(seen: ClusterSnapshot) -> bool:
    return seen.state is ClusterState.UNREACHABLE


async def test_the_time_of_a_look_is_that_of_the_last_good_one():
    clock, steady, cluster = Clock(), Clock(50.0), FakeCluster()
    async with watched(cluster, clock=clock, steady=steady, pause_after=1e9) as snapshots:
        good = await until(snapshots, "fake", is_ready)
        assert good.updated == clock.now
        cluster.fails_at = "snapshot"
        await until(snapshots, "fake", is_away)
        clock.now += 720
        steady.now += 720
        away = await until(snapshots, "fake", is_away)
        assert (away.updated, away.pools) == (good.updated, good.pools)
        assert away.detail == "The scheduler said no snapshot. What is shown is from 12 min ago."


async def test_a_cluster_that_was_never_seen_says_so():
    async with watched(FakeCluster(fails_at="snapshot")) as snapshots:
        (away,) = await snapshots.known(5)
        assert (away.state, away.updated, away.pools) == (ClusterState.UNREACHABLE, 0.0, ())
        assert away.detail == "The scheduler said no snapshot. It was never seen."


async def test_a_cluster_that_comes_back_is_ready_again():
    cluster = FakeCluster(fails_at="snapshot")
    async with watched(cluster) as snapshots:
        await until(snapshots, "fake", is_away)
        cluster.fails_at = ""
        assert (await until(snapshots, "fake", is_ready)).detail == ""


async def test_one_that_hangs_does_not_hold_up_the_others():
    async with watched(FakeCluster("hangs", waits_at="snapshot"), FakeCluster("quick")) as snapshots:
        assert (await until(snapshots, "quick", is_ready)).gpus_total == 2
        hangs = next(each for each in snapshots.all() if each.name == "hangs")
        assert (hangs.state, hangs.detail) == (ClusterState.CHECKING, "Looking at it for the first time.")


async def test_a_look_has_a_time_limit():
    async with watched(FakeCluster(waits_at="snapshot"), limit=0.05) as snapshots:
        assert "It did not answer within 0.05 s." in (await until(snapshots, "fake", is_away)).detail


@pytest.mark.parametrize("jump", [-86400.0, 86400.0 * 400])
async def test_a_clock_that_jumps_changes_no_age(jump):
    clock, steady, cluster = Clock(), Clock(50.0), FakeCluster()
    async with watched(cluster, clock=clock, steady=steady, pause_after=1e9) as snapshots:
        await until(snapshots, "fake", is_ready)
        cluster.waits_at = "snapshot"
        clock.now += jump
        (seen,) = snapshots.all()
        assert clock.now - seen.updated == pytest.approx(0, abs=1)
        steady.now += 30
        clock.now += 30
        (seen,) = snapshots.all()
        assert clock.now - seen.updated == pytest.approx(30, abs=1)


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
async def test_a_clock_that_jumps_stops_no_looking(jump):
    clock, cluster = Clock(), FakeCluster()
    async with watched(cluster, clock=clock) as snapshots:
        await until(snapshots, "fake", is_ready)
        clock.now += jump
        cluster.gpus = 7
        assert (await until(snapshots, "fake", lambda seen: seen.gpus_total == 7)).gpus_total == 7


async def test_nobody_looks_when_nobody_asks():
    steady, cluster = Clock(), FakeCluster()
    async with watched(cluster, steady=steady, pause_after=60) as snapshots:
        await until(snapshots, "fake", is_ready)
        steady.now += 61
        async with asyncio.timeout(5):
            while snapshots._tasks:
                await asyncio.sleep(EVERY)
        snapshots.all()
        assert snapshots._tasks


async def test_a_night_without_a_network_is_one_line(caplog):
    with caplog.at_level(logging.WARNING, "snapshots"):
        async with watched(FakeCluster(fails_at="snapshot")) as snapshots:
            await until(snapshots, "fake", is_away)
            for _ in range(10):
                snapshots.all()
                await asyncio.sleep(EVERY)
    assert [record.getMessage() for record in caplog.records] == ["The cluster fake cannot be reached: The scheduler said no snapshot."]


async def test_each_snapshot_has_what_is_configured_of_its_site():
    async with watched(FakeCluster("a"), sites={"a": {"country": "GB", "internet": False, "cost": 1.2, "currency": "GBP"}}) as snapshots:
        site = snapshots.all()[0].site
        assert (site.country, site.internet, site.cost) == ("GB", False, 1.2)
        assert (await until(snapshots, "a", is_ready)).site == site


async def test_estimates_are_asked_for_side_by_side_and_a_refusal_is_told():
    request = ResourceRequest(gpus=4)
    soon = StartEstimate(90.0, "its own")
    clusters = (
        Estimating("soon", soon),
        Estimating("silent", None),
        Estimating("hangs", StartEstimate(1.0, "never")),
        Estimating("refuses", UsageProblem("No such GPU.")),
        Estimating("gone", LinkProblem("It is away.")),
        FakeCluster("plain"),
    )
    async with watched(*clusters) as snapshots:
        for each in clusters:
            await until(snapshots, each.name, is_ready)
        found, refused = await snapshots.estimated(request, 0.1)
        assert {each.name: each.estimate for each in found if each.estimate} == {"soon": soon}
        assert {name: str(problem) for name, problem in refused.items()} == {"refuses": "No such GPU."}
        assert clusters[0].requests == [request]


async def test_a_cluster_that_is_away_is_not_asked_for_an_estimate():
    cluster = Estimating("a", StartEstimate(1.0, "its own"))
    cluster.fails_at = "snapshot"
    async with watched(cluster) as snapshots:
        await until(snapshots, "a", is_away)
        await snapshots.estimated(ResourceRequest())
        assert cluster.requests == []


async def test_a_cluster_that_is_another_one_now_is_looked_at_anew():
    cluster = FakeCluster()
    async with watched(cluster) as snapshots:
        await until(snapshots, "fake", is_ready)
        cluster.waits_at = "snapshot"
        snapshots.forget("fake")
        assert snapshots.all()[0].state is ClusterState.CHECKING
