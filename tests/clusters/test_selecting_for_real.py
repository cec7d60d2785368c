"""The selection among two real Slurm clusters: what it sees there, and what becomes of the requests that it gives up."""

from __future__ import annotations

import asyncio

import pytest
from tests.clusters.gateways import attached, gateway, running, until
from tests.clusters.ways import configuration, forget, use_lab

from jupyter_remote_gpu.models import AllocationState, ResourceRequest
from jupyter_remote_gpu.selection import Basis, Demand
from jupyter_remote_gpu.wishes import Wish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PENDING, RUNNING, ENDED, FAILED = AllocationState
ONE = ResourceRequest(gpus=1)


@pytest.fixture
def sites(lab, monkeypatch):
    """Bristol's H100 nodes and Montreal, in this order."""
    cache = use_lab(lab, monkeypatch)
    yield {
        "bristol": {**configuration("slurm over ssh", lab), "partition": "hopper"},
        "montreal": configuration("slurm over ssh and a jump host", lab),
    }
    forget(cache)


async def asked(parts, name, **how):
    session, is_new = await parts.sessions.start(Wish(name=name, cluster="auto", request=ONE, **how))
    assert is_new
    return session


async def test_a_full_cluster_is_asked_for_its_own_estimate_and_the_other_is_chosen(places, lab, sites):
    async with gateway(places.base, sites) as parts:
        await running(parts, "all", "bristol", gpus=4, nodes=2, time=1200)
        decided = await parts.selecting.select(Demand(ONE), thorough=True)
        seen = {candidate.cluster: candidate for candidate in decided.selection.candidates}
        assert decided.best.cluster == "montreal"
        assert seen["montreal"].wait.basis is Basis.FREE
        assert seen["bristol"].wait.basis is Basis.SCHEDULER
        assert "sbatch --test-only" in seen["bristol"].wait.source
        assert 600 < seen["bristol"].wait.raw <= 1200
        session = await asked(parts, "one")
        assert (session.cluster, parts.selecting.remembered.decision(session.decision)["chosen"]) == ("montreal", "montreal")
        assert (await until(parts, session.id, RUNNING)).json()["label"] == "1 × GPU"


async def test_a_cluster_that_refuses_is_left_for_the_next_one(places, lab, sites):
    sites["montreal"]["options"] = ["--constraint=nothing-has-it"]
    async with gateway(places.base, sites) as parts:
        session = await asked(parts, "falls", fallback=True)
        assert session.cluster == "montreal"  # more is free there
        runs = await until(parts, session.id, RUNNING)
        assert (runs.cluster, runs.allocation.cluster) == ("bristol", "bristol")
        async with attached(parts, session.id) as client:
            assert (await client.run("print('here')")).out == "here\n"
        await holds(lab, runs)


async def test_the_first_of_two_that_are_asked_at_once_keeps_the_session_and_the_other_holds_nothing(places, lab, sites):
    before = [set(site.jobs("-t", "all")) for site in lab.clusters]
    async with gateway(places.base, sites) as parts:
        session = await asked(parts, "race", race=2)
        runs = await until(parts, session.id, RUNNING)
        assert runs.cluster == runs.allocation.cluster
        assert all(set(site.jobs("-t", "all")) - known for site, known in zip(lab.clusters, before, strict=True))
        async with attached(parts, session.id) as client:
            assert (await client.run("print('here')")).out == "here\n"
        await holds(lab, runs)


async def holds(lab, *sessions):
    """Wait until these sessions' jobs, and no other, are in the two clusters."""
    async with asyncio.timeout(30):
        while True:
            there = {(site.name, job) for site in lab.clusters for job in site.jobs("-t", "PENDING,RUNNING")}
            if there == {(each.cluster, each.allocation.job_id) for each in sessions}:
                return
            await asyncio.sleep(0.1)
