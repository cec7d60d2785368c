"""What every `Cluster` must do, run against each of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.clusters.ways import REMOTE, forget, opened, use_lab
from tests.fakes.clusters import STEPS, FakeCluster
from tests.fakes.slurm import simulated_cluster
from tests.lab.lab import Lab

from jupyter_remote_gpu.clusters.base import CarriesData, Cluster, FindsSessions, Scheduled
from jupyter_remote_gpu.launches import random_id
from jupyter_remote_gpu.models import Allocation, AllocationState, KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.offers import ClusterState
from remote_gpu.errors import LinkProblem, SessionEnded, StartFailed
from remote_gpu.folders import node_folder

pytestmark = [pytest.mark.shared_places, pytest.mark.timeout(180)]

KINDS = ("local", "fake", "slurm, simulated", *(pytest.param(way, marks=pytest.mark.slow) for way in REMOTE))


@pytest.fixture(scope="module")
def reached(request) -> Iterator[Lab]:
    """The lab, and this process as a client of it."""
    lab = request.getfixturevalue("lab")
    with pytest.MonkeyPatch.context() as patch:
        cache = use_lab(lab, patch)
        yield lab
    forget(cache)


@pytest.fixture(params=KINDS)
async def cluster(request, module_places) -> AsyncIterator[Cluster]:
    if request.param == "fake":
        yield FakeCluster()
        return
    if request.param == "slurm, simulated":
        simulated = simulated_cluster()
        yield simulated
        await simulated.aclose()
        return
    lab = None if request.param == "local" else request.getfixturevalue("reached")
    made, clusters, logins = opened(request.param, lab)
    yield made
    await clusters.aclose()
    for login in logins.all():
        await login.end()
    await logins.aclose()


@pytest.fixture
def session() -> SessionId:
    return SessionId(random_id(10))


async def launched(cluster: Cluster, session: SessionId) -> list[Allocation]:
    async with aclosing(cluster.launch(ResourceRequest(), KernelLaunch(session))) as steps:
        return [allocation async for allocation in steps]


async def test_each_kind_is_a_cluster(cluster):
    assert isinstance(cluster, Cluster)


async def test_a_snapshot_names_its_cluster_and_when_it_was_made(cluster):
    snapshot = await cluster.snapshot()
    assert (snapshot.name, snapshot.kind, snapshot.state) == (cluster.name, cluster.kind, ClusterState.READY)
    assert snapshot.updated > 0
    assert snapshot.pools
    for pool in snapshot.pools:
        assert 0 <= pool.gpus_free <= pool.gpus_total


async def test_a_launch_says_how_to_find_what_it_takes_before_it_takes_it(cluster, session):
    steps = await launched(cluster, session)
    try:
        assert steps[0].state is AllocationState.PENDING
        assert all(step.session == session for step in steps)
        assert steps[-1].state is AllocationState.RUNNING
        assert steps[-1].node
    finally:
        await cluster.release(steps[-1])


async def test_what_runs_is_polled_as_running_and_as_ended_after_its_release(cluster, session):
    last = (await launched(cluster, session))[-1]
    assert (await cluster.poll(last)).state is AllocationState.RUNNING
    assert await cluster.poll(last) == await cluster.poll(last)
    await cluster.release(last)
    ended = await cluster.poll(last)
    assert ended.state is AllocationState.ENDED
    assert ended.detail


async def test_a_release_is_idempotent_and_leaves_nothing(cluster, session):
    last = (await launched(cluster, session))[-1]
    for _ in range(2):
        await cluster.release(last)
    await cluster.release(replace(last, state=AllocationState.ENDED))
    assert not [path for path in Path(node_folder("s")).iterdir() if path.name == session]
    if isinstance(cluster, FindsSessions):
        assert session not in [found.allocation.session for found in await cluster.sessions()]


async def test_releasing_what_never_started_is_no_error(cluster, session):
    await cluster.release(Allocation(cluster.name, session))


async def test_a_launch_that_is_given_up_after_any_step_can_be_released_and_leaves_nothing(cluster):
    number = runs = 0
    while not runs:  # how many steps there are is the scheduler's business
        session, number = SessionId(random_id(10)), number + 1
        async with aclosing(cluster.launch(ResourceRequest(), KernelLaunch(session))) as launching:
            taken = []
            while len(taken) < number and (step := await anext(launching, None)) is not None:
                taken.append(step)
        runs = taken[-1].state is AllocationState.RUNNING
        await cluster.release(taken[-1])
        if isinstance(cluster, FindsSessions):
            assert session not in [found.allocation.session for found in await cluster.sessions()]
        else:
            assert (await cluster.poll(replace(taken[-1], pid=2**30))).state.over


async def test_a_launch_is_gone_on_with_after_any_step(cluster):
    if not isinstance(cluster, Scheduled):
        assert not hasattr(cluster, "resume")
        return
    for count in (2, 3):  # as soon as there may be a job; once its number is known
        session = SessionId(random_id(10))
        launching = cluster.launch(ResourceRequest(), KernelLaunch(session))
        taken = [await anext(launching) for _ in range(3)][:count]
        await launching.aclose()
        last = None
        async with aclosing(cluster.resume(taken[-1])) as steps:
            async for last in steps:
                assert last.job_id
        assert last.state is AllocationState.RUNNING
        await cluster.release(last)


async def test_there_is_no_stream_to_what_was_released(cluster, session):
    last = (await launched(cluster, session))[-1]
    await cluster.release(last)
    with pytest.raises((LinkProblem, SessionEnded)):
        await cluster.open_stream(last, session)


async def test_a_stream_reaches_the_supervisor_again_and_again(cluster, session):
    if isinstance(cluster, FakeCluster):
        with pytest.raises(LinkProblem):
            await cluster.open_stream(Allocation("fake", session), session)
        return
    last = (await launched(cluster, session))[-1]
    try:
        for _ in range(2):
            stream = await cluster.open_stream(last, session)
            frames = await stream.receive()
            assert frames[0].json()["event"] == "kernel"
            await stream.aclose()
    finally:
        await cluster.release(last)


async def test_what_runs_is_found_by_somebody_who_knows_nothing_of_it(cluster, session):
    if not isinstance(cluster, FindsSessions):
        assert not hasattr(cluster, "sessions")
        return
    async with aclosing(cluster.launch(ResourceRequest(), KernelLaunch(session, name="my session"))) as steps:
        last = [allocation async for allocation in steps][-1]
    found = next(each for each in await cluster.sessions() if each.allocation.session == session)
    assert (found.name, found.allocation.state) == ("my session", AllocationState.RUNNING)
    stream = await cluster.open_stream(found.allocation, session)
    assert (await stream.receive())[0].json()["event"] == "kernel"
    await stream.aclose()
    await cluster.release(found.allocation)
    assert (await cluster.poll(last)).state is AllocationState.ENDED


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_failed_step_a_release_of_the_last_allocation_gives_everything_back(module_places, session, step):
    cluster, last = FakeCluster(fails_at=step), Allocation("fake", session)
    async with aclosing(cluster.launch(ResourceRequest(), KernelLaunch(session))) as steps:
        with contextlib.suppress(StartFailed):
            async for allocation in steps:
                last = allocation
    await cluster.release(last)
    assert not cluster.held


async def test_a_cluster_that_carries_data_opens_a_stream_that_its_node_greets_on(cluster, session):
    last = (await launched(cluster, session))[-1]
    try:
        if not isinstance(cluster, CarriesData):
            assert not hasattr(cluster, "open_data")
            return
        command = await cluster.open_data(last, session)
        await command.spoken()
        with command.take() as taken:
            taken.settimeout(10)
            assert taken.recv(4) == b"\0JRD"
        assert await command.wait() == ""
        await command.aclose()
    finally:
        await cluster.release(last)
