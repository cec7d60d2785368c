"""Hosts of the lab become clusters: they are looked at, tested, given a Python, and written down, by the REST API of a gateway here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess

import pytest
from tests.fakes.server import running_server

pytestmark = pytest.mark.slow


@pytest.fixture
async def server(lab, places, monkeypatch):
    monkeypatch.setenv("PATH", lab.environment["PATH"])
    async with running_server(places.base) as running:
        yield running
        for login in running.parts.logins.all():
            await login.end()


async def follow(server, body, answer=None):
    """A task, to its end; `answer` is given to whatever its login asks."""
    begun = await server.unix("POST", "/remote-gpu/tasks", body)
    assert begun.status == 201, begun.text
    task = begun.json
    async with asyncio.timeout(110):
        while task["state"] == "running":
            task = (await server.unix("GET", f"/remote-gpu/tasks/{task['id']}?wait=20&seen={task['stamp']}")).json
            for prompt in task["prompts"]:
                await server.unix("POST", f"/remote-gpu/prompts/{prompt['id']}", {"answer": answer})
    return task


async def done(server, body, answer=None):
    task = await follow(server, body, answer)
    assert task["state"] == "done", task["problem"]
    return task["result"]


async def failed(server, body):
    task = await follow(server, body)
    assert task["state"] == "failed", task["result"]
    return task["problem"]


async def looked(server, lab, host, **config):
    return await done(server, {"kind": "look", "host": host, "config": {"python": str(lab.python), **config}})


def frugal(config):
    """A proposal's configuration, with a wish for little memory, as the lab's nodes have little."""
    return {**config, "request": {**config.get("request", {}), "memory_mb": 1000}}


async def nothing_is_left(server):
    sessions = (await server.unix("GET", "/remote-gpu/sessions")).json["sessions"]
    assert all(session["state"] in ("ended", "failed") for session in sessions)


async def test_a_box_becomes_a_cluster_that_runs_sessions(server, lab):
    seen = await looked(server, lab, "box")
    assert seen["facts"]["slurm"] is None
    config = seen["proposal"]["config"]
    assert config == {"kind": "ssh", "host": "box", "python": str(lab.python)}
    tested = await done(server, {"kind": "test", "cluster": "mybox", "config": config})
    assert tested["node"] == "box"
    assert [step["name"] for step in tested["steps"]] == ["login", "start", "kernel", "cell"]
    assert (await server.unix("POST", "/remote-gpu/clusters", {"name": "mybox", "config": tested["config"]})).status == 201
    session = (await server.unix("POST", "/remote-gpu/sessions", {"cluster": "mybox", "wait": 60})).json
    assert (session["state"], session["node"]) == ("running", "box")
    await server.unix("DELETE", f"/remote-gpu/sessions/{session['id']}")
    assert (await server.unix("DELETE", "/remote-gpu/clusters/mybox")).status == 204
    await nothing_is_left(server)


async def test_a_cluster_with_accounts_is_proposed_with_its_default_one_and_tested(server, lab):
    seen = await looked(server, lab, "bristol")
    slurm = seen["facts"]["slurm"]
    assert (slurm["cluster"], slurm["accounting"], slurm["default_account"]) == ("bristol", True, "dri")
    assert set(slurm["accounts"]) == {"dri", "small", "closed"}
    assert {each["name"]: each["whole_nodes"] for each in slurm["partitions"]}["whole"]
    assert [each["name"] for each in slurm["partitions"] if each["displaced"]] == ["spare"]
    assert slurm["gpus_total"] == 10
    proposal = seen["proposal"]
    assert (proposal["blockers"], "account" in proposal["config"]) == ([], False)
    assert proposal["config"]["request"]["time"] == 4 * 3600
    assert any("aarch64" in warning for warning in proposal["warnings"])
    tested = await done(server, {"kind": "test", "cluster": "uk", "config": frugal(proposal["config"])})
    assert tested["node"] in lab.bristol.nodes
    assert (tested["gpus"], tested["visible_gpus"]) == ("1 × gh200", "0")
    assert [step["name"] for step in tested["steps"]] == ["login", "submit", "wait", "start", "kernel", "cell"]
    assert tested["config"]["request"]["time"] == 4 * 3600  # the test's own job asked for less
    await nothing_is_left(server)
    assert not lab.ssh("bristol", "squeue", "--me", "-h", "-t", "PD,R").stdout.strip()


async def test_a_cluster_behind_a_jump_host_gets_a_whole_gpu(server, lab):
    proposal = (await looked(server, lab, "montreal-jump"))["proposal"]
    assert proposal["config"]["request"]["gpu_model"] == "a100"
    tested = await done(server, {"kind": "test", "cluster": "ca", "config": frugal(proposal["config"])})
    assert (tested["visible_gpus"], tested["node"] in lab.montreal.nodes) == ("0", True)
    assert tested["gpus"] in ("1 × a100", "1 × GPU")  # without accounting, Slurm tells no type
    assert tested["warnings"] == []


async def test_whole_nodes_are_asked_for_where_nothing_less_is_given(server, lab):
    proposal = (await looked(server, lab, "montreal", partition="wholenode"))["proposal"]
    assert proposal["config"]["request"]["gpus"] == 4
    assert proposal["blockers"] == []


async def test_a_password_is_asked_for_and_then_the_host_is_seen(server, lab):
    seen = await done(server, {"kind": "look", "host": "guarded", "config": {"python": str(lab.python)}}, answer=lab.password)
    assert seen["proposal"]["config"]["kind"] == "slurm"
    assert lab.password not in json.dumps(seen)


async def test_a_certificate_that_ends_soon_is_told(server, lab):
    lab.sign_certificate(1200)
    try:
        seen = await looked(server, lab, "certified")
    finally:
        lab.sign_certificate(86400)
    assert any("Your SSH certificate for certified ends at" in warning for warning in seen["proposal"]["warnings"])


@pytest.mark.parametrize(
    ("host", "config", "words"),
    [
        ("bristol", {"account": "closed"}, "Job violates accounting/QOS policy"),
        ("bristol", {"partition": "nothing"}, "nvalid partition"),
        ("bristol-bob", {"account": "small"}, "Invalid account"),
        ("bristol-carol", {}, "Invalid account"),
        ("box", {"kind": "slurm"}, "There is no sbatch on box"),
    ],
)
async def test_what_slurm_does_not_take_is_in_the_way_in_its_own_words(server, lab, host, config, words):
    proposal = (await looked(server, lab, host, **config))["proposal"]
    assert words in proposal["blockers"][0]


async def test_a_wrong_host_prologue_or_python_is_told(server, lab):
    assert "nowhere cannot be reached" in (await failed(server, {"kind": "look", "host": "nowhere"}))["title"]
    assert "is not the host that it was" in (await failed(server, {"kind": "look", "host": "impostor"}))["title"]
    prologue = {"kind": "look", "host": "box", "config": {"prologue": ["module load nothing"]}}
    assert "module load nothing" in (await failed(server, prologue))["title"]
    bare = (await looked(server, lab, "box", python=str(lab.bare_python)))["proposal"]
    assert "without ipykernel" in bare["blockers"][0]
    assert bare["bootstrap"]


async def test_a_test_that_fails_says_at_which_step_and_leaves_nothing(server, lab):
    shared = {"kind": "slurm", "host": "bristol", "python": str(lab.python)}
    refused = await failed(server, {"kind": "test", "cluster": "uk", "config": {**shared, "account": "closed"}})
    assert (refused["details"]["step"], "Job violates" in refused["title"]) == ("submit", True)
    hopeless = await failed(server, {"kind": "test", "cluster": "uk", "config": {**shared, "partition": "short", "request": {"time": 600}}})
    assert hopeless["details"]["step"] == "wait"
    bare = await failed(
        server, {"kind": "test", "cluster": "uk", "config": {**shared, "python": str(lab.bare_python), "request": {"memory_mb": 1000}}}
    )
    assert (bare["reason"], bare["details"]["step"]) == ("no_ipykernel", "start")
    await nothing_is_left(server)
    assert "uk" not in server.parts.clusters


async def test_a_cancelled_test_takes_its_job_along(server, lab):
    config = {"kind": "slurm", "host": "bristol", "python": str(lab.python), "partition": "hopper", "options": ["--begin=now+1hour"]}
    begun = (await server.unix("POST", "/remote-gpu/tasks", {"kind": "test", "cluster": "uk", "config": config})).json
    task = begun
    async with asyncio.timeout(60):
        while not any("Submitted as Slurm job" in line for line in task["lines"]):
            task = (await server.unix("GET", f"/remote-gpu/tasks/{task['id']}?wait=20&seen={task['stamp']}")).json
            assert task["state"] == "running", task["problem"]
    assert lab.ssh("bristol", "squeue", "--me", "-h").stdout.strip()
    assert (await server.unix("DELETE", f"/remote-gpu/tasks/{task['id']}")).status == 204
    assert not lab.ssh("bristol", "squeue", "--me", "-h", "-t", "PD,R").stdout.strip()
    await nothing_is_left(server)


async def test_a_test_does_not_wait_longer_than_it_may(server, lab):
    config = {"kind": "slurm", "host": "bristol", "python": str(lab.python), "partition": "hopper", "options": ["--begin=now+1hour"]}
    problem = await failed(server, {"kind": "test", "cluster": "uk", "config": config, "wait": 3})
    assert (problem["reason"], problem["details"]["step"]) == ("start_timed_out", "wait")


@pytest.fixture
def wheels(lab):
    """A folder with ipykernel and what it needs, and alice's pip set up to take packages from there alone."""
    folder, home = lab.folder / "wheels", lab.alice.home
    if not folder.exists():
        command = [str(lab.python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "-d", str(folder), "ipykernel>=7,<8"]
        subprocess.run(command, check=True, timeout=110)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
    config = home / ".config/pip/pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"[global]\nno-index = true\nfind-links = {folder}\n")
    for path in (config, config.parent, config.parent.parent):
        os.chown(path, lab.alice.uid, lab.alice.gid)
    yield folder
    config.unlink()
    with contextlib.suppress(OSError):
        shutil.rmtree(home / ".local/share/jupyter-remote-gpu")


@pytest.mark.timeout(400)
async def test_a_host_without_ipykernel_is_given_a_python_and_is_a_cluster_then(server, lab, wheels):
    seen = await done(server, {"kind": "look", "host": "box"})
    assert seen["proposal"]["bootstrap"]
    begun = (await server.unix("POST", "/remote-gpu/clusters", {"name": "mybox", "config": seen["proposal"]["config"]})).json
    assert "python" not in begun["config"]
    task = (await server.unix("POST", "/remote-gpu/tasks", {"kind": "bootstrap", "cluster": "mybox"})).json
    async with asyncio.timeout(300):
        while task["state"] == "running":
            task = (await server.unix("GET", f"/remote-gpu/tasks/{task['id']}?wait=20&seen={task['stamp']}")).json
    assert task["state"] == "done", task["problem"]
    python = str(lab.alice.home / ".local/share/jupyter-remote-gpu/env/bin/python")
    assert task["result"]["python"] == python
    assert (await server.unix("GET", "/remote-gpu/clusters/mybox/config")).json["config"]["python"] == python
    tested = await done(server, {"kind": "test", "cluster": "mybox"})
    assert (tested["node"], tested["python"]) == ("box", python)
