from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.clusters import STEPS, FakeCluster

from jupyter_remote_gpu.gateway import build
from jupyter_remote_gpu.models import AllocationState, ResourceRequest
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import NameTaken, StartFailed, UnknownCluster, UnknownSession, UsageProblem, from_problem

PENDING, RUNNING, ENDED, FAILED = AllocationState


@contextlib.asynccontextmanager
async def gateway(places, *clusters: FakeCluster, pid: int = 0):
    settings = Settings(clusters={}, data_folder=Path(places.base) / "d")

    async def notebook_of(kernel_id: str) -> str | None:
        return {"k1": "one.ipynb"}.get(kernel_id)

    ready = {cluster.name: cluster for cluster in clusters}
    me = (pid, process_start_time(pid) or 0) if pid else None
    parts = build(settings, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of, ready=ready, me=me)
    try:
        yield parts
    finally:
        await parts.aclose()


async def until(parts, key: str, state: AllocationState):
    async with asyncio.timeout(5):
        while (found := await parts.sessions.get(key)).state is not state:
            await parts.sessions.wait(key, found.state, 1)
    return found


async def test_a_session_is_written_down_before_its_launch_takes_anything(places):
    cluster = FakeCluster(waits_at="before the request")
    async with gateway(places, cluster) as parts:
        session, is_new = await parts.sessions.start(Wish(name="digits"))
        assert is_new
        assert parts.registry.session("digits").id == session.id
        assert not cluster.held
        cluster.go.set()
        running = await until(parts, "digits", RUNNING)
        assert running.json()["label"] == "1 × Fake GPU"
        await parts.sessions.stop("digits")


async def test_each_step_of_a_launch_is_in_the_registry_before_the_next_begins(places):
    cluster = FakeCluster(waits_at="in the queue")
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        async with asyncio.timeout(5):
            while not cluster.held:
                await asyncio.sleep(0)
        assert parts.registry.session(session.id).allocation == cluster.held[session.id]
        assert parts.registry.session(session.id).detail == "Place 1 in the queue."
        await parts.sessions.stop(session.id)
        assert not cluster.held


async def test_however_many_ask_at_once_for_one_name_one_session_starts(places):
    cluster = FakeCluster()
    async with gateway(places, cluster) as parts:
        found = await asyncio.gather(*(parts.sessions.start(Wish(name="digits")) for _ in range(20)))
        assert len({session.id for session, _ in found}) == 1
        assert sum(is_new for _, is_new in found) == 1
        await until(parts, "digits", RUNNING)
        assert cluster.launches == 1
        await parts.sessions.stop("digits")


async def test_two_gateways_that_are_asked_at_once_start_one_session(places):
    cluster = FakeCluster()
    async with gateway(places, cluster) as one, gateway(places, cluster, pid=os.getppid()) as two:
        (first, _), (second, _) = await asyncio.gather(one.sessions.start(Wish()), two.sessions.start(Wish()))
        assert first.id == second.id
        await until(two, first.id, RUNNING)
        assert cluster.launches == 1
        await two.sessions.stop(first.id)
        assert (await one.sessions.get(first.id)).state is ENDED


@pytest.mark.parametrize("step", STEPS)
async def test_a_launch_that_fails_gives_everything_back_and_says_why_in_the_clusters_words(places, step):
    cluster = FakeCluster(fails_at=step)
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        failed = await until(parts, session.id, FAILED)
        assert step in failed.detail
        assert isinstance(from_problem(dict(failed.problem)), StartFailed)
        assert not cluster.held
        assert cluster.released == [session.id]


async def test_a_launch_that_meets_a_mistake_in_the_program_ends_with_its_words(places):
    cluster = FakeCluster(fails_at="in the queue")
    cluster.error = lambda step: FileNotFoundError(f"no file {step}")
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        failed = await until(parts, session.id, FAILED)
        assert "FileNotFoundError: no file in the queue" in failed.detail
        assert cluster.released == [session.id]


async def test_after_a_failure_the_next_wish_starts_anew(places):
    cluster = FakeCluster(fails_at="in the queue")
    async with gateway(places, cluster) as parts:
        first, _ = await parts.sessions.start(Wish())
        await until(parts, first.id, FAILED)
        cluster.fails_at = ""
        second, is_new = await parts.sessions.start(Wish())
        assert is_new
        assert second.id != first.id
        await until(parts, second.id, RUNNING)
        await parts.sessions.stop(second.id)


@pytest.mark.parametrize("step", STEPS[:2])
async def test_stopping_while_it_starts_gives_everything_back(places, step):
    cluster = FakeCluster(waits_at=step)
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        async with asyncio.timeout(5):
            while not cluster.launches:
                await asyncio.sleep(0)
        await parts.sessions.stop(session.id)
        assert (await parts.sessions.get(session.id)).state is ENDED
        assert not cluster.held
        await parts.sessions.stop(session.id)  # twice is no error


async def test_a_gateway_that_stops_leaves_no_launch_behind(places):
    cluster = FakeCluster(waits_at="in the queue")
    async with gateway(places, cluster) as parts:
        await parts.sessions.start(Wish())
        async with asyncio.timeout(5):
            while not cluster.held:
                await asyncio.sleep(0)
    assert not cluster.held


async def test_a_gateway_that_stops_ends_no_running_session(places):
    cluster = FakeCluster()
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        await until(parts, session.id, RUNNING)
    assert session.id in cluster.held
    async with gateway(places, cluster) as parts:
        found, is_new = await parts.sessions.start(Wish())
        assert (found.id, is_new) == (session.id, False)
        await parts.sessions.stop(session.id)


async def test_an_entry_whose_supervisor_is_gone_is_never_shown_as_running(places):
    cluster = FakeCluster()
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        await until(parts, session.id, RUNNING)
        cluster.held.clear()
        (shown,) = await parts.sessions.list()
        assert shown.state is ENDED
        assert shown.detail == "The cluster does not know it any more."


async def test_a_session_that_a_dead_gateway_was_starting_is_looked_for(places):
    cluster = FakeCluster(waits_at="in the queue")
    async with gateway(places, cluster) as parts:
        session, _ = await parts.sessions.start(Wish())
        async with asyncio.timeout(5):
            while not cluster.held:
                await asyncio.sleep(0)
        granted = replace(cluster.held[session.id], state=RUNNING, node="node-1")
        parts.registry._base.execute("UPDATE sessions SET gateway = 1, gateway_start = 1")
        async with gateway(places, cluster, pid=os.getppid()) as other:
            cluster.held[session.id] = granted
            assert (await other.sessions.get(session.id)).state is RUNNING
        await parts.sessions.stop(session.id)


async def test_a_notebook_gets_its_own_session_and_another_notebook_of_that_name_another(places):
    async with gateway(places, FakeCluster()) as parts:
        one, _ = await parts.sessions.start(Wish(notebook="a/train it.ipynb"))
        two, _ = await parts.sessions.start(Wish(notebook="b/train it.ipynb"))
        again, _ = await parts.sessions.start(Wish(notebook="a/train it.ipynb"))
        assert (one.name, two.name) == ("train-it", "train-it-2")
        assert again.id == one.id
        for session in (one, two):
            await parts.sessions.stop(session.id)


async def test_a_managers_own_session_is_found_by_its_kernel_id_and_is_nobodys_default(places):
    async with gateway(places, FakeCluster()) as parts:
        own, _ = await parts.sessions.start(Wish(own_kernel_id="k9", reuse=False))
        assert own.kernel_id == "k9"
        again, is_new = await parts.sessions.start(Wish(own_kernel_id="k9", reuse=False))
        assert (again.id, is_new) == (own.id, False)
        other, is_new = await parts.sessions.start(Wish())
        assert is_new
        assert (await parts.sessions.get("k9")).id == own.id
        for session in (own, other):
            await parts.sessions.stop(session.id)


async def test_the_choice_for_a_notebook_decides_and_the_answer_says_so(places):
    async with gateway(places, FakeCluster("one"), FakeCluster("two")) as parts:
        before = parts.choices.file.stat().st_mtime_ns
        parts.choices.set("a.ipynb", "two")
        assert parts.choices.file.stat().st_mtime_ns != before
        session, _ = await parts.sessions.start(Wish(notebook="a.ipynb"))
        assert (session.cluster, session.why) == ("two", "two: you chose it for this notebook.")
        await parts.sessions.stop(session.id)


async def test_without_a_choice_the_selection_decides_and_says_why(places):
    async with gateway(places, FakeCluster("small", gpus=1), FakeCluster("big", gpus=8)) as parts:
        session, _ = await parts.sessions.start(Wish(request=ResourceRequest(gpus=4)))
        assert session.cluster == "big"
        assert "8 of 8 GPUs free" in session.why
        await parts.sessions.stop(session.id)


async def test_what_no_cluster_can_run_is_refused_with_each_ones_reason(places):
    async with gateway(places, FakeCluster(gpus=2)) as parts:
        with pytest.raises(UsageProblem, match="fake: it has 2 GPUs, 9 asked for"):
            await parts.sessions.start(Wish(request=ResourceRequest(gpus=9)))


async def test_a_running_session_is_not_passed_off_as_what_was_asked_for(places):
    async with gateway(places, FakeCluster("one"), FakeCluster("two")) as parts:
        session, _ = await parts.sessions.start(Wish(name="digits", cluster="one"))
        await until(parts, "digits", RUNNING)
        with pytest.raises(NameTaken, match="runs on one, not on two"):
            await parts.sessions.start(Wish(name="digits", cluster="two"))
        with pytest.raises(NameTaken, match="1 × Fake GPU"):
            await parts.sessions.start(Wish(name="digits", request=ResourceRequest(gpus=2)))
        with pytest.raises(NameTaken):
            await parts.sessions.start(Wish(name="digits", reuse=False))
        await parts.sessions.stop(session.id)


async def test_unknown_names_come_with_a_suggestion_or_a_list(places):
    async with gateway(places, FakeCluster("isambard")) as parts:
        with pytest.raises(UnknownCluster, match="isambart") as caught:
            await parts.sessions.start(Wish(cluster="isambart"))
        assert "isambard" in caught.value.hint
        with pytest.raises(UnknownSession, match="nothing"):
            await parts.sessions.get("nothing")
        for name in ("", "a b", "../x", "-x", "x" * 65, "a/b"):
            with pytest.raises(UsageProblem):
                await parts.sessions.start(Wish(name=name))


async def test_listeners_hear_of_every_change_until_they_leave(places):
    heard = []
    async with gateway(places, FakeCluster()) as parts:
        leave = parts.sessions.subscribe(lambda session: heard.append(session.state))
        session, _ = await parts.sessions.start(Wish())
        await until(parts, session.id, RUNNING)
        await parts.sessions.stop(session.id)
        assert list(dict.fromkeys(heard)) == [PENDING, RUNNING, ENDED]
        leave()
        other, _ = await parts.sessions.start(Wish())
        await parts.sessions.stop(other.id)
        assert heard[-1] is ENDED
