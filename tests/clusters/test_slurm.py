"""What befalls sessions in a real Slurm, and what their user is told."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest
from tests.clusters.gateways import attached, gateway, running, started, until
from tests.clusters.ways import configuration, forget, use_lab
from tests.lab.lab import Lab

from jupyter_remote_gpu.models import AllocationState
from remote_gpu.errors import NotAllowed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PENDING, RUNNING, ENDED, FAILED = AllocationState


@pytest.fixture
def lab_here(lab, monkeypatch) -> Iterator[Lab]:
    cache = use_lab(lab, monkeypatch)
    yield lab
    forget(cache)


@pytest.fixture
def bristol(lab_here):
    return {"bristol": configuration("slurm over ssh", lab_here)}


async def test_a_session_waits_with_its_place_and_the_reason_and_then_runs(places, lab_here, bristol):
    async with gateway(places.base, bristol) as parts:
        first = [await running(parts, f"first{n}", "bristol", partition="short", time=60) for n in range(2)]
        session = await started(parts, "second", "bristol", partition="short", time=60)
        waits = await until(parts, session.id, PENDING, detail="enough nodes or GPUs are free")
        assert f"job {waits.allocation.job_id} waits: place 1 in short" in waits.detail
        assert "expected to start" in (await until(parts, session.id, PENDING, detail="Slurm's own estimate")).detail
        await parts.sessions.stop(first[0].id)
        runs = await until(parts, session.id, RUNNING)
        assert runs.allocation.gpus[0].name == "gh200"
        assert runs.json()["label"] == "1 × gh200"
        assert 0 < runs.allocation.ends - time.time() <= 120


async def test_an_account_at_its_limit_is_told_in_words_and_can_be_cancelled_while_it_waits(places, lab_here, bristol):
    bristol["bristol"]["account"] = "small"
    async with gateway(places.base, bristol) as parts:
        await running(parts, "one", "bristol", partition="hopper")
        session = await started(parts, "two", "bristol", partition="hopper")
        waits = await until(parts, session.id, PENDING, detail="GPU limit")
        assert "AssocGrpGRES" not in waits.detail
        await parts.sessions.stop(session.id)
        assert waits.allocation.job_id not in lab_here.bristol.jobs("-t", "PENDING,RUNNING")
        assert (await parts.sessions.get(session.id)).state is ENDED


@pytest.mark.parametrize(
    ("account", "request_", "said"),
    [
        ("closed", {}, "violates accounting/QOS policy"),
        ("nobodys", {}, "Invalid account"),
        ("dri", {"partition": "nowhere"}, "invalid partition"),
        ("dri", {"gpus": 5, "partition": "hopper"}, "configuration is not available"),
        ("dri", {"gpu_model": "gh200", "partition": "hopper"}, "h100"),
        ("dri", {"gpu_memory_mb": 90_000, "partition": "hopper"}, "h100"),
    ],
)
async def test_a_request_that_slurm_does_not_take_is_refused_in_its_own_words(places, lab_here, bristol, account, request_, said):
    bristol["bristol"]["account"] = account
    async with gateway(places.base, bristol) as parts:
        session = await started(parts, "wrong", "bristol", **request_)
        failed = await until(parts, session.id, FAILED)
        assert said in failed.detail + failed.problem["hint"]
        assert failed.problem["hint"]
        assert not await parts.clusters["bristol"].sessions()


async def test_a_model_and_its_memory_choose_the_gpus(places, lab_here, bristol):
    async with gateway(places.base, bristol) as parts:
        session = await running(parts, "two", "bristol", gpus=2, gpu_model="H100", partition="hopper", cpus=2, memory_mb=500)
        job = lab_here.bristol.job(session.allocation.job_id)
        assert job["NumCPUs"] == "2"
        assert "gres/gpu:h100=2" in (job.get("TRES") or job["AllocTRES"])  # before Slurm 23.02, since
        async with attached(parts, session.id) as client:
            cell = await client.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['SLURM_JOB_ID'])")
        assert cell.out.split() == ["0,1", session.allocation.job_id]


async def test_what_the_site_forbids_is_told_when_more_time_is_asked_for(places, lab_here, bristol):
    async with gateway(places.base, bristol) as parts:
        session = await running(parts, "longer", "bristol", partition="hopper")
        with pytest.raises(NotAllowed, match="Access/permission denied"):
            await parts.sessions.extend(session.id, 600)


async def test_an_operator_or_a_generous_site_moves_the_end(places, lab_here):
    async with gateway(places.base, {"here": configuration("slurm here", lab_here)}) as parts:
        session = await running(parts, "longer", "here")
        before = session.allocation.ends
        assert abs((await parts.sessions.extend(session.id, 600)).allocation.ends - before - 600) < 2


async def test_a_session_that_nobody_uses_gives_its_gpus_back_by_itself(places, lab_here, bristol):
    async with gateway(places.base, bristol, idle_timeout=3) as parts:
        runs = await running(parts, "forgotten", "bristol", partition="hopper")
        ended = await until(parts, runs.id, ENDED)
        assert ended.detail == "Nobody used the session for 3 s."
        async with asyncio.timeout(60):
            while lab_here.bristol.slurm("squeue", "-h", "-t", "running", "-j", runs.allocation.job_id).stdout.strip():
                await asyncio.sleep(0.5)


async def test_a_job_that_somebody_cancels_ends_its_session_and_says_so(places, lab_here, bristol):
    async with gateway(places.base, bristol) as parts:
        runs = await running(parts, "cancelled", "bristol", partition="hopper")
        async with attached(parts, runs.id) as client:
            asked = asyncio.create_task(client.run("import time\nprint('on', flush=True)\ntime.sleep(100)"))
            await asyncio.sleep(1)
            lab_here.bristol.slurm("scancel", runs.allocation.job_id)
            cell = await asked
        assert runs.allocation.job_id in cell.why
        ended = await until(parts, runs.id, ENDED)
        assert "cancelled" in ended.detail
        await running(parts, "all", "bristol", partition="hopper", gpus=4, nodes=2)
        waits = await started(parts, "early", "bristol", partition="hopper")
        waits = await until(parts, waits.id, PENDING, detail="place 1")
        lab_here.bristol.slurm("scancel", waits.allocation.job_id)
        assert "cancelled" in (await until(parts, waits.id, FAILED)).detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prologue": ["module load cuda/99"]}, "module load cuda/99"),
        ({"python": "/nowhere/python"}, "/nowhere/python"),
        ({"python": "BARE"}, "ipykernel"),
    ],
)
@pytest.mark.parametrize("way", ["slurm over ssh", "ssh"])
async def test_a_cluster_that_is_set_up_wrong_says_what_to_mend(places, lab_here, way, change, said):
    change = {name: str(lab_here.bare_python) if value == "BARE" else value for name, value in change.items()}
    async with gateway(places.base, {"wrong": {**configuration(way, lab_here), **change}}) as parts:
        session = await started(parts, "wrong", "wrong")
        failed = await until(parts, session.id, FAILED)
        assert said in failed.detail
        assert failed.problem["hint"]


async def test_two_users_of_one_cluster_do_not_see_each_other(places, lab_here, bristol):
    clusters = {**bristol, "bobs": {**bristol["bristol"], "host": "bristol-bob"}}
    async with gateway(places.base, clusters) as parts:
        mine = await running(parts, "mine", "bristol", partition="hopper")
        his = await running(parts, "his", "bobs", partition="hopper")
        assert [found.allocation.session for found in await parts.clusters["bristol"].sessions()] == [mine.id]
        assert [found.allocation.session for found in await parts.clusters["bobs"].sessions()] == [his.id]
        async with attached(parts, his.id) as client:
            cell = await client.run(f"import os\nprint(os.getuid())\nos.listdir({mine.allocation.folder!r})")
        assert cell.out.strip() == str(lab_here.bob.uid)
        assert cell.status == "error"
        job = lab_here.ssh("bristol-bob", "scancel", mine.allocation.job_id)
        assert "denied" in job.stderr
        assert (await parts.sessions.get(mine.id)).state is RUNNING


async def test_the_request_is_private_and_gone_with_its_session_and_the_script_has_no_secret(places, lab_here, bristol):
    async with gateway(places.base, bristol, environment=("CANARY",)) as parts:
        from jupyter_remote_gpu.wishes import Wish

        session, _ = await parts.sessions.start(Wish(name="secret", cluster="bristol", env={"CANARY": "tweet-tweet"}))
        session = await until(parts, session.id, RUNNING)
        async with attached(parts, session.id) as client:
            assert (await client.run("import os; print(os.environ['CANARY'])")).out == "tweet-tweet\n"
        files = lab_here.alice.home / ".cache" / "jupyter-remote-gpu" / "s"
        assert (files / f"{session.id}.json").stat().st_mode & 0o777 == 0o600
        script = lab_here.bristol.slurm("scontrol", "write", "batch_script", session.allocation.job_id, "-").stdout
        assert session.id in script
        assert "tweet" not in script + str(lab_here.bristol.job(session.allocation.job_id))
        for pid in lab_here.user_pids():
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                assert b"tweet" not in file.read() + environment
        await parts.sessions.stop(session.id)
        assert not list(files.glob(f"{session.id}.*"))
        assert not [path for path in os.listdir(files) if session.id in path]
