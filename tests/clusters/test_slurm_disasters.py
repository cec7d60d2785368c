"""What Slurm, its nodes and its logins can do to a session that runs.

Slow things happen side by side: Slurm looks at time limits every half minute, and needs as long to see that a node is gone.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator

import pytest
from tests.clusters.gateways import Attached, attached, gateway, running, started, until
from tests.clusters.ways import configuration, forget, use_lab
from tests.lab.lab import Lab

from jupyter_remote_gpu.gateway import GatewayParts
from jupyter_remote_gpu.models import AllocationState, LinkState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PENDING, RUNNING, ENDED, FAILED = AllocationState
LINES = 4000
PRINTS = f"import time\nfor n in range({LINES}):\n    print(n, flush=n % 10 == 0)\n    time.sleep(0.002)"


@pytest.fixture(scope="module")
def hurt(lab) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        cache = use_lab(lab, patch)
        yield lab
    forget(cache)


@pytest.fixture
def clusters(hurt):
    bristol = configuration("slurm over ssh", hurt)
    return {
        "bristol": bristol,
        "again": {**bristol, "options": ["--requeue"]},
        "montreal": configuration("slurm over ssh and a jump host", hurt),
    }


async def linked(parts: GatewayParts, key: str, state: LinkState, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while parts.sessions.peek(key).link is not state:
            await parts.sessions.wait(key, parts.sessions.peek(key).stamp, 0.5)


async def test_time_limit_dead_node_and_preemption_end_sessions_with_their_reason(places, hurt, clusters):
    async with gateway(places.base, clusters) as parts:
        limited = await running(parts, "limited", "bristol", partition="short", time=60)
        doomed = await running(parts, "doomed", "montreal", partition="compute", time=600, gpu_model="a100")
        displaced = await running(parts, "displaced", "bristol", partition="spare", gpu_model="h100", gpus=4, nodes=2)
        async with asyncio.TaskGroup() as side_by_side:
            side_by_side.create_task(runs_out_of_time(parts, limited.id))
            side_by_side.create_task(loses_its_node(parts, doomed.id, hurt))
            side_by_side.create_task(makes_room(parts, displaced.id))


async def runs_out_of_time(parts: GatewayParts, key: str) -> None:
    async with attached(parts, key) as client:
        cell = await client.run("import time\nprint('on', flush=True)\ntime.sleep(300)", limit=200)
    assert "This session ends in about" in cell.err
    assert "time limit" in cell.why
    assert "time limit of 60 s" in (await until(parts, key, ENDED, seconds=60)).detail


async def loses_its_node(parts: GatewayParts, key: str, lab: Lab) -> None:
    node = (await parts.sessions.get(key)).allocation.node
    async with attached(parts, key) as client:
        asked = asyncio.create_task(client.run("import time\ntime.sleep(300)", limit=200))
        await asyncio.to_thread(lab.montreal.kill_node, node)
        cell = await asked
    assert "node failed" in cell.why
    assert f"node failed on {node}" in (await until(parts, key, ENDED)).detail
    await asyncio.to_thread(lab.montreal.start_node, node)
    await asyncio.to_thread(lab.sshd[node].start)
    await asyncio.to_thread(lab.montreal.wait_for_node, node, "idle")


async def makes_room(parts: GatewayParts, key: str) -> None:
    async with attached(parts, key) as client:
        asked = asyncio.create_task(client.run("import time\ntime.sleep(300)", limit=200))
        winner = await running(parts, "winner", "bristol", partition="hopper", gpus=4)
        cell = await asked
    assert "cancelled or preempted" in cell.why
    assert "make room" in (await until(parts, key, ENDED)).detail
    await parts.sessions.stop(winner.id)


async def test_a_session_whose_job_is_requeued_waits_again_and_begins_anew_when_that_was_wanted(places, hurt, clusters):
    async with gateway(places.base, clusters) as parts:
        session = await running(parts, "again", "again", partition="spare", gpu_model="gh200", nodes=2)
        async with attached(parts, session.id) as client:
            await client.run("memory = 1")
            winner = await running(parts, "winner", "bristol", partition="grace")
            waits = await until(parts, session.id, PENDING, seconds=60)
            assert "queue again" in waits.detail or "waits" in waits.detail
        await parts.sessions.stop(winner.id)
        await until(parts, session.id, PENDING, detail="after a requeue")
        await asyncio.to_thread(hurt.bristol.start_soon, session.allocation.job_id)
        again = await until(parts, session.id, RUNNING)
        assert again.allocation.job_id == session.allocation.job_id
        async with attached(parts, session.id) as client:
            assert (await client.run("print('memory' in globals())")).out == "False\n"


async def test_a_drained_node_keeps_its_session_and_takes_no_other(places, hurt, clusters):
    async with gateway(places.base, clusters) as parts:
        stays = await running(parts, "stays", "bristol", partition="hopper")
        await asyncio.to_thread(hurt.bristol.drain, stays.allocation.node)
        other = await running(parts, "other", "bristol", partition="hopper")
        assert other.allocation.node != stays.allocation.node
        async with attached(parts, stays.id) as client:
            assert (await client.run("print(1)")).out == "1\n"
        await asyncio.to_thread(hurt.bristol.resume, stays.allocation.node)


async def test_a_controller_that_is_away_stops_nothing_that_runs_and_what_waits_waits_on(places, hurt, clusters):
    async with gateway(places.base, clusters) as parts:
        runs = await running(parts, "runs", "bristol", partition="grace", nodes=2)
        waits = await started(parts, "waits", "bristol", partition="grace")
        await until(parts, waits.id, PENDING, detail="place 1")
        async with attached(parts, runs.id) as client:
            asked = asyncio.create_task(client.run("import time\nfor n in range(30):\n    time.sleep(1)\n    print(n)", limit=100))
            await asyncio.to_thread(hurt.bristol.stop_controller)
            late = await started(parts, "late", "bristol", partition="hopper")
            assert "does not answer" in (await until(parts, late.id, FAILED)).detail
            assert (await parts.sessions.get(runs.id)).state is RUNNING
            assert (await parts.sessions.get(waits.id)).state is PENDING
            cell = await asked
            assert cell.out.split() == [str(n) for n in range(30)]
            await asyncio.to_thread(hurt.bristol.start_controller)
            assert (await client.run("print('on')")).out == "on\n"
        await parts.sessions.stop(runs.id)
        await until(parts, waits.id, RUNNING)


async def whole(client: Attached, msg_id: str) -> None:
    cell = await client.run("", msg_id=msg_id, limit=200)
    assert cell.out.split() == [str(n) for n in range(LINES)]
    assert cell.numbers == sorted(set(cell.numbers))
    assert cell.status == "ok"


@pytest.mark.parametrize("cluster", ["box", "bristol", "montreal"])
async def test_a_login_that_is_killed_twenty_times_costs_no_line_and_doubles_none(places, hurt, clusters, cluster):
    clusters["box"] = configuration("ssh", hurt)
    async with gateway(places.base, clusters) as parts:
        session = await running(parts, "prints", cluster)
        chance, login = random.Random(7), parts.clusters[cluster].login
        async with attached(parts, session.id) as client:
            await linked(parts, session.id, LinkState.CONNECTED)
            msg_id, killed = await client.send(PRINTS), 0
            asked = asyncio.create_task(whole(client, msg_id))
            while killed < 20:
                await asyncio.sleep(chance.uniform(0, 0.1))
                pid = await master_of(login)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    await linked(parts, session.id, LinkState.CONNECTED)
            await asked


async def master_of(login) -> int:
    status, _, said = await login._run(["ssh", "-S", await login.path(), "-O", "check", "--", login.host])
    return int(said.partition("pid=")[2].partition(")")[0]) if status == 0 else 0


async def test_a_login_node_whose_sshd_is_killed_and_comes_back_costs_nothing(places, hurt, clusters):
    async with gateway(places.base, clusters) as parts:
        session = await running(parts, "prints", "bristol", partition="hopper")
        async with attached(parts, session.id) as client:
            msg_id = await client.send(PRINTS)
            asked = asyncio.create_task(whole(client, msg_id))
            await asyncio.to_thread(hurt.sshd["bristol"].stop)
            await linked(parts, session.id, LinkState.RECONNECTING)
            await asyncio.sleep(5)
            assert (await parts.sessions.get(session.id)).state is RUNNING
            await asyncio.to_thread(hurt.sshd["bristol"].start)
            await linked(parts, session.id, LinkState.CONNECTED)
            await asked


async def test_another_laptop_finds_what_runs_and_goes_on_with_it(places, hurt, clusters, tmp_path):
    async with gateway(places.base, clusters) as parts:
        session = await running(parts, "mine", "bristol", partition="hopper")
        async with attached(parts, session.id) as client:
            await client.run("kept = 42")
        async with gateway(tmp_path, {"elsewhere": clusters["bristol"]}) as other:
            assert not await other.sessions.list()
            assert await other.sessions.discover() == ()
            (found,) = await other.sessions.list()
            assert (found.id, found.name, found.state) == (session.id, "mine", RUNNING)
            async with attached(other, "mine") as client:
                assert (await client.run("print(kept)")).out == "42\n"
            await other.sessions.stop("mine")
        assert (await until(parts, session.id, ENDED)).state is ENDED
