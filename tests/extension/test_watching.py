"""What an earlier gateway left is taken up; what a cluster knows beside is found; what is over is released."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

import pytest
from tests.fakes.clusters import FakeCluster
from tests.fakes.scheduler import FakeScheduler

from jupyter_remote_gpu.gateway import build
from jupyter_remote_gpu.models import Allocation, AllocationState, SessionId
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import NotAllowed, UsageProblem

PENDING, RUNNING, ENDED, FAILED = AllocationState
GONE = (2**22, 5)
"""A process that is not there."""


@contextlib.asynccontextmanager
async def gateway(folder, *clusters, me=None):
    async def notebook_of(_: str) -> None:
        return None

    ready = {cluster.name: cluster for cluster in clusters}
    settings = Settings(clusters={}, data_folder=Path(folder) / "d")
    parts = build(settings, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of, ready=ready, me=me)
    try:
        yield parts
    finally:
        await parts.aclose()


async def until(parts, key, state):
    async with asyncio.timeout(5):
        while (found := await parts.sessions.get(key)).state is not state:
            await parts.sessions.wait(key, found.stamp, 1)
    return found


async def queued(parts, name):
    """A session whose request waits in the queue, with its number written down."""
    session, _ = await parts.sessions.start(Wish(name=name))
    async with asyncio.timeout(5):
        while not parts.registry.session(session.id).allocation.job_id:
            await asyncio.sleep(0)
    return session


async def test_a_request_in_the_queue_outlives_its_gateway_and_the_next_one_drives_it_on(places):
    cluster = FakeScheduler()
    async with gateway(places.base, cluster, me=GONE) as first:
        session = await queued(first, "waits")
    assert cluster.held, "the gateway's end took nothing from the queue"
    async with gateway(places.base, cluster) as second:
        await second.sessions.take_up()
        assert second.registry.gateway_of(session.id)[0] == os.getpid()
        cluster.move(session.id, RUNNING, node="node-1")
        await until(second, "waits", RUNNING)
        await second.sessions.stop("waits")
        assert not cluster.held


async def test_of_two_gateways_one_takes_it_up(places):
    cluster = FakeScheduler()
    async with gateway(places.base, cluster, me=GONE) as first:
        await queued(first, "waits")
    me, other = os.getpid(), os.getppid()
    async with (
        gateway(places.base, cluster, me=(me, process_start_time(me))) as one,
        gateway(places.base, cluster, me=(other, process_start_time(other))) as two,
    ):
        await asyncio.gather(one.sessions.take_up(), two.sessions.take_up())
        driving = [bool(parts.sessions._launches.pending()) for parts in (one, two)]
        assert sorted(driving) == [False, True]
        await (one if driving[0] else two).sessions.stop("waits")


async def test_what_stands_although_it_is_over_is_released_and_what_nobody_here_knows_is_left_alone(places):
    cluster = FakeScheduler()
    async with gateway(places.base, cluster) as parts:
        session = await queued(parts, "mine")
        held = cluster.held[session.id]
        await parts.sessions.stop("mine")
        cluster.held[session.id] = held  # as if the gateway had been killed before it was released
        stranger = SessionId("ssssssssss")
        cluster.held[stranger], cluster.names[stranger] = Allocation("queue", stranger, job_id="job-9"), "hers"
        await parts.sessions.take_up()
        assert list(cluster.held) == [stranger]


async def test_what_was_started_elsewhere_is_found_under_a_free_name_and_can_be_stopped(places):
    cluster = FakeScheduler()
    for name in ("one", "two"):
        async with gateway(Path(places.base) / name, cluster, me=GONE) as elsewhere:
            session = await queued(elsewhere, "mine")
            cluster.move(session.id, RUNNING, node="node-1")
            await until(elsewhere, "mine", RUNNING)
    async with gateway(places.base, cluster) as parts:
        assert not await parts.sessions.list()
        assert await parts.sessions.discover() == ()
        assert sorted(session.name for session in await parts.sessions.list()) == ["mine", "mine-2"]
        await parts.sessions.discover()
        assert len(await parts.sessions.list()) == 2
        for name in ("mine", "mine-2"):
            await parts.sessions.stop(name)
        assert not cluster.held


async def test_a_cluster_that_cannot_be_asked_is_told_and_hides_nothing_of_the_others(places):
    good, bad = FakeScheduler("good"), FakeScheduler("bad")

    async def no() -> None:
        raise NotAllowed("It wants you to log in.")

    bad.sessions = no
    found = Allocation("good", SessionId("gggggggggg"), RUNNING, "node-1", job_id="job-1")
    good.held[found.session], good.names[found.session] = found, "found"
    async with gateway(places.base, good, bad) as parts:
        assert await parts.sessions.discover() == ("bad: It wants you to log in.",)
        assert [session.name for session in parts.registry.sessions()] == ["found"]


async def test_a_node_that_is_taken_away_puts_the_session_back_into_the_queue(places):
    cluster = FakeScheduler()
    async with gateway(places.base, cluster) as parts:
        session = await queued(parts, "again")
        cluster.move(session.id, RUNNING, node="node-1")
        await until(parts, "again", RUNNING)
        cluster.move(session.id, PENDING, node="", detail="Its node was taken away; it waits again.")
        assert "waits again" in (await until(parts, "again", PENDING)).detail
        cluster.move(session.id, RUNNING, node="node-2")
        assert (await until(parts, "again", RUNNING)).allocation.node == "node-2"
        await parts.sessions.stop("again")


async def test_an_end_can_be_moved_where_there_is_one_and_the_scheduler_lets_it(places):
    cluster = FakeScheduler()
    async with gateway(places.base, cluster) as parts:
        session = await queued(parts, "longer")
        assert (await parts.sessions.extend("longer", 600)).allocation.ends == 600
        cluster.generous = False
        with pytest.raises(NotAllowed, match="Access denied"):
            await parts.sessions.extend("longer", 600)
        assert await parts.sessions.logs("longer", 10) == "what job-1 wrote\nIt waits."
        await parts.sessions.stop(session.id)
    plain = FakeCluster()
    async with gateway(Path(places.base) / "p", plain) as parts:
        await parts.sessions.start(Wish(name="plain"))
        await until(parts, "plain", RUNNING)
        with pytest.raises(UsageProblem, match="no end"):
            await parts.sessions.extend("plain", 600)
        await parts.sessions.stop("plain")
