"""A session that is asked for on several clusters: one gets it, and nothing else is left, whenever the gateway ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.fakes.clusters import FakeCluster

from jupyter_remote_gpu import contests
from jupyter_remote_gpu.gateway import GatewayParts, build
from jupyter_remote_gpu.models import Allocation, AllocationState, KernelLaunch, ResourceRequest, Session
from jupyter_remote_gpu.selection import Basis
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.errors import LinkProblem, StartFailed

PENDING, RUNNING, ENDED, FAILED = AllocationState
ONE = ResourceRequest(gpus=1)


class Queued(FakeCluster):
    """A cluster whose requests wait in a queue that outlives gateways: `open` lets them run. `most` is how many GPUs it gave away at the same time."""

    def __init__(self, name: str, *, refuses: str = "") -> None:
        super().__init__(name)
        self.open = asyncio.Event()
        self.refuses = refuses

    async def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        del request
        asked = Allocation(self.name, kernel.session, folder=kernel.session, detail="Asking.")
        yield asked
        if self.refuses:
            raise StartFailed(self.refuses)
        self.launches += 1
        self.held[kernel.session] = replace(asked, job_id=f"job-{self.launches}")
        async for each in self.resume(self.held[kernel.session]):
            yield each

    async def resume(self, allocation: Allocation) -> AsyncIterator[Allocation]:
        if allocation.session not in self.held:
            raise StartFailed("Nothing of it is there.")
        yield self.held[allocation.session]
        await self.open.wait()
        running = replace(self.held[allocation.session], state=RUNNING, node="n1", pid=1)
        self.held[allocation.session] = running
        yield running

    async def release(self, allocation: Allocation) -> None:
        if self.fails_at == "release":
            raise LinkProblem("It is away.")
        await super().release(allocation)

    async def extend(self, allocation: Allocation, seconds: int) -> Allocation:
        raise NotImplementedError

    async def log(self, allocation: Allocation, lines: int) -> str:
        raise NotImplementedError


@pytest.fixture
def clusters() -> dict[str, Queued]:
    return {name: Queued(name) for name in ("a", "b", "c")}


@contextlib.asynccontextmanager
async def gateway(places, clusters, *, number: int = 1, ends: bool = True) -> AsyncIterator[GatewayParts]:
    async def notebook_of(_: str) -> None:
        return None

    settings = Settings(clusters={}, data_folder=places.base / "d", own_clusters=False)
    parts = build(
        settings, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of, ready=dict(clusters), me=(10**8 + number, number)
    )
    try:
        yield parts
    finally:
        if ends:
            for session in parts.registry.sessions():
                await parts.sessions.stop(session.id)
        else:  # as a killed one: nobody puts anything in order
            for task in list(parts.sessions._launches._tasks.values()):
                task.cancel()
            await asyncio.gather(*parts.sessions._launches._tasks.values(), return_exceptions=True)
            parts.sessions._launches._tasks.clear()
        await parts.aclose()


async def until(parts: GatewayParts, key: str, *states: AllocationState) -> Session:
    async with asyncio.timeout(20):
        while (session := parts.sessions.peek(key)).state not in states:
            await asyncio.sleep(0.01)
    return session


async def settled(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def held(clusters: dict[str, Queued]) -> list[str]:
    return [name for name, cluster in clusters.items() if cluster.held]


async def test_a_race_is_won_by_the_first_that_starts_and_the_others_are_given_back(places, clusters):
    async with gateway(places, clusters) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=2))
        await settled(lambda: held(clusters) == ["a", "b"])
        clusters["b"].open.set()
        won = await until(parts, session.id, RUNNING)
        assert won.cluster == won.allocation.cluster == "b"
        assert won.why == "b: of a, b, it started first."
        await settled(lambda: held(clusters) == ["b"])
        assert parts.sessions._launches.contenders.sessions() == []
    assert held(clusters) == []


async def test_of_two_that_start_at_the_same_moment_one_is_kept(places, clusters):
    async with gateway(places, clusters) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=3))
        await settled(lambda: len(held(clusters)) == 3)
        for cluster in clusters.values():
            cluster.open.set()
        won = await until(parts, session.id, RUNNING)
        await settled(lambda: held(clusters) == [won.cluster])


async def test_a_race_goes_on_without_those_that_refuse_and_fails_when_all_do(places, clusters):
    clusters["a"].refuses = "No account."
    async with gateway(places, clusters) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=2))
        clusters["b"].open.set()
        assert (await until(parts, session.id, RUNNING)).cluster == "b"
        clusters["b"].refuses = clusters["c"].refuses = "Not here."
        other, _ = await parts.sessions.start(Wish(name="second", request=ONE, race=2))
        failed = await until(parts, other.id, FAILED)
        assert failed.detail in ("No account.", "Not here.")
        assert failed.id not in parts.sessions._launches.contenders.sessions()


async def test_stopping_a_race_leaves_nothing_anywhere(places, clusters):
    async with gateway(places, clusters) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=3))
        await settled(lambda: len(held(clusters)) == 3)
        await parts.sessions.stop(session.id)
        assert held(clusters) == []
        assert parts.sessions.peek(session.id).state is ENDED


async def test_a_cluster_that_refuses_or_takes_too_long_is_given_back_before_the_next_one_is_asked(places, clusters, monkeypatch):
    monkeypatch.setattr(contests, "_LEAST", 0.05)
    monkeypatch.setattr(contests, "_MOST", 0.05)
    clusters["a"].refuses = "No account."
    seen: list[list[str]] = []
    async with gateway(places, clusters) as parts:
        parts.sessions.subscribe(lambda _: seen.append(held(clusters)))
        session, _ = await parts.sessions.start(Wish(name="turn", request=ONE, fallback=True))
        await settled(lambda: parts.sessions.peek(session.id).cluster == "c")
        clusters["c"].open.set()
        runs = await until(parts, session.id, RUNNING)
        assert runs.cluster == "c"
        assert runs.why.startswith("c: b did not start it within")
        assert held(clusters) == ["c"]
        assert all(len(each) <= 1 for each in seen)
        assert [cluster.launches for cluster in clusters.values()] == [0, 1, 1]
        assert parts.sessions._launches.contenders.sessions() == []


async def test_the_last_one_is_waited_for_and_its_words_are_told(places, clusters, monkeypatch):
    monkeypatch.setattr(contests, "_LEAST", 0.05)
    monkeypatch.setattr(contests, "_MOST", 0.05)
    for name, cluster in clusters.items():
        cluster.refuses = f"Not on {name}."
    async with gateway(places, clusters) as parts:
        session, _ = await parts.sessions.start(Wish(name="turn", request=ONE, fallback=True))
        assert (await until(parts, session.id, FAILED)).detail == "Not on c."


@pytest.mark.parametrize("moment", ["waiting", "won", "won and moved", "stopped"])
async def test_a_gateway_that_dies_in_a_race_leaves_one_session_and_nothing_else(places, clusters, moment):
    async with gateway(places, clusters, ends=False) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=3))
        await settled(lambda: len(held(clusters)) == 3)
        await settled(lambda: len(parts.sessions._launches.contenders.of(session.id)) == 2)
        if moment in ("won", "won and moved"):
            for name, cluster in clusters.items():  # it dies before it can give the others back
                cluster.fails_at = "release" if name != "b" else ""
            if moment == "won and moved":
                won = replace(clusters["b"].held[session.id], state=PENDING)
                assert parts.sessions._launches.contenders.move(won, "b: it started first.")
            else:
                clusters["b"].open.set()
                await until(parts, session.id, RUNNING)
        if moment == "stopped":
            parts.registry.record(replace(parts.sessions.peek(session.id).allocation, state=ENDED), now=1.0)
    for cluster in clusters.values():
        cluster.fails_at = ""
    clusters["b"].open.set()
    async with gateway(places, clusters, number=2) as parts:
        await parts.sessions.take_up()
        if moment == "stopped":
            await settled(lambda: set(held(clusters)) <= {"a"})  # its own cluster tidies itself, where it can list its sessions
            assert parts.sessions._launches.contenders.sessions() == []
            await clusters["a"].release(parts.sessions.peek(session.id).allocation)
            return
        runs = await until(parts, session.id, RUNNING)
        assert runs.cluster == "b"
        await settled(lambda: held(clusters) == ["b"])
        await settled(lambda: parts.sessions._launches.contenders.sessions() == [])


async def test_the_next_one_is_not_asked_before_the_one_before_could_be_given_back(places, clusters, monkeypatch):
    monkeypatch.setattr(contests, "_LEAST", 0.05)
    monkeypatch.setattr(contests, "_MOST", 0.05)
    monkeypatch.setattr(contests, "_AGAIN", 0.05)
    clusters["a"].fails_at = "release"
    async with gateway(places, {name: clusters[name] for name in ("a", "b")}) as parts:
        session, _ = await parts.sessions.start(Wish(name="turn", request=ONE, fallback=True))
        await settled(lambda: "to be given back there" in parts.sessions.peek(session.id).detail)
        assert clusters["b"].launches == 0
        clusters["a"].fails_at = ""
        clusters["b"].open.set()
        assert (await until(parts, session.id, RUNNING)).cluster == "b"
        assert held(clusters) == ["b"]


async def test_what_a_session_waited_elsewhere_teaches_nothing_of_the_cluster_that_it_was_promised_on(places, clusters):
    async with gateway(places, clusters) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=2))
        await settled(lambda: held(clusters) == ["a", "b"])
        clusters["b"].open.set()
        await until(parts, session.id, RUNNING)
        history = parts.selecting.remembered.history()
        assert [history.count(name, Basis.FREE) for name in ("a", "b")] == [0, 0]
        assert [history.count(name, Basis.HISTORY) for name in ("a", "b")] == [0, 1]


async def test_a_gateway_that_stops_while_others_are_given_back_does_not_end_what_runs(places, clusters):
    clusters["a"].fails_at = "release"
    async with gateway(places, clusters, ends=False) as parts:
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=2))
        await settled(lambda: held(clusters) == ["a", "b"])
        clusters["b"].open.set()
        await until(parts, session.id, RUNNING)
        assert await parts.sessions._launches.leave(session.id)
    assert "b" in held(clusters)
    clusters["a"].fails_at = ""
    async with gateway(places, clusters, number=2) as parts:
        await parts.sessions.take_up()
        await settled(lambda: held(clusters) == ["b"])


async def test_a_forgotten_session_does_not_keep_a_gateway_from_putting_things_in_order(places, clusters):
    async with gateway(places, clusters) as parts:
        parts.sessions._launches.contenders.put(Allocation("a", "forgotten1", job_id="job-1"))
        await parts.sessions.take_up()
        assert parts.sessions._launches.contenders.sessions() == []


async def test_two_names_of_one_place_are_not_asked_for_the_same_session(places, clusters, monkeypatch):
    async with gateway(places, clusters) as parts:
        monkeypatch.setattr(type(parts.clusters), "place", lambda _, name: ("fake", "one host" if name in "ab" else name))
        session, _ = await parts.sessions.start(Wish(name="race", request=ONE, race=3))
        await settled(lambda: held(clusters) == ["a", "c"])
        clusters["c"].open.set()
        await until(parts, session.id, RUNNING)
        assert clusters["b"].launches == 0
