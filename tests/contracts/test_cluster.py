"""What every `Cluster` must do, run against each of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.clusters import STEPS, FakeCluster

from jupyter_remote_gpu.clusters.base import CarriesData, Cluster
from jupyter_remote_gpu.clusters.local import LocalCluster
from jupyter_remote_gpu.launches import random_id
from jupyter_remote_gpu.models import Allocation, AllocationState, ClusterState, KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.settings import Settings
from remote_gpu.errors import LinkProblem, SessionEnded, StartFailed
from remote_gpu.folders import node_folder

pytestmark = pytest.mark.shared_places

KINDS: dict[str, Callable[[], Cluster]] = {
    "local": lambda: LocalCluster("local", {"kind": "local"}, Settings(local_python=sys.executable)),
    "fake": FakeCluster,
    **{f"fake, failing {step}": lambda step=step: FakeCluster(fails_at=step) for step in STEPS},
}
SOUND = ("local", "fake")


@pytest.fixture(params=SOUND)
def cluster(request, module_places) -> Cluster:
    return KINDS[request.param]()


@pytest.fixture
def session() -> SessionId:
    return SessionId(random_id(10))


async def launched(cluster: Cluster, session: SessionId) -> list[Allocation]:
    async with aclosing(cluster.launch(ResourceRequest(), KernelLaunch(session))) as steps:
        return [allocation async for allocation in steps]


def test_each_kind_is_a_cluster():
    assert all(isinstance(make(), Cluster) for make in KINDS.values())


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
        assert steps[0].session == session
        assert steps[0].job_id or steps[0].folder
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


async def test_releasing_what_never_started_is_no_error(cluster, session):
    await cluster.release(Allocation(cluster.name, session))


async def test_a_launch_that_is_given_up_half_way_can_be_released(cluster, session):
    async with aclosing(cluster.launch(ResourceRequest(), KernelLaunch(session))) as steps:
        first = await anext(steps)
    await cluster.release(first)
    assert (await cluster.poll(replace(first, pid=2**30))).state.over


async def test_there_is_no_stream_to_what_was_released(cluster, session):
    last = (await launched(cluster, session))[-1]
    await cluster.release(last)
    with pytest.raises((LinkProblem, SessionEnded)):
        await cluster.open_stream(last, session)


async def test_a_stream_reaches_the_supervisor(module_places, session):
    cluster = KINDS["local"]()
    last = (await launched(cluster, session))[-1]
    try:
        stream = await cluster.open_stream(last, session)
        frames = await stream.receive()
        assert frames[0].json()["event"] == "kernel"
        await stream.aclose()
    finally:
        await cluster.release(last)
    assert not Path(last.folder).exists()


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
