"""Tasks: how they run, end, are followed and cancelled; and their part of the REST API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

import pytest
import yaml
from tests.fakes.server import running_server
from tests.fakes.ssh import FakeSsh

from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.tasks import TaskKind, Tasks, TaskState
from remote_gpu.errors import StartFailed, UsageProblem

SCHEMAS = yaml.safe_load((Path(__file__).parents[2] / "docs/reference/rest-api.yaml").read_text())["components"]["schemas"]


@pytest.fixture
async def tasks():
    logins = Logins()
    made = Tasks(logins, log=logging.getLogger("test"), forgotten=300)
    yield made
    await made.aclose()
    await logins.aclose()


async def over(tasks, task):
    async with asyncio.timeout(20):
        while task.state is TaskState.RUNNING:
            task = await tasks.wait(task.id, task.stamp, 5)
    return task


async def test_a_task_says_what_it_does_and_ends_with_a_result(tasks):
    go = asyncio.Event()

    async def work(task):
        task.say("First.")
        task.say("First.")
        await go.wait()
        task.say("Second.")
        return {"answer": 42}

    task = tasks.begin(TaskKind.LOOK, "box", work)
    await tasks.wait(task.id, task.stamp, 5)
    assert (task.state, task.lines) == ("running", ["First."])
    assert tasks.running(TaskKind.LOOK, "box") is task
    seen = task.stamp
    go.set()
    await over(tasks, task)
    assert task.stamp != seen
    assert set(task.json()) == set(SCHEMAS["Task"]["properties"])
    assert (task.state, task.lines, task.result, task.problem) == ("done", ["First.", "Second."], {"answer": 42}, None)
    assert tasks.running(TaskKind.LOOK, "box") is None


async def test_a_task_that_fails_has_the_problem(tasks):
    async def work(task):
        raise StartFailed("It did not work.", hint="Try again.", step="submit")

    task = await over(tasks, tasks.begin(TaskKind.TEST, "hpc", work))
    assert (task.state, task.result) == ("failed", None)
    assert (task.problem["title"], task.problem["details"]["step"]) == ("It did not work.", "submit")


async def test_a_mistake_of_ours_is_a_problem_too_and_in_the_log(tasks, caplog):
    async def work(task):
        raise ZeroDivisionError("1/0")

    task = await over(tasks, tasks.begin(TaskKind.TEST, "hpc", work))
    assert "ZeroDivisionError" in task.problem["title"]
    assert "Traceback" in caplog.text


async def test_a_cancelled_task_cleans_up_before_that_is_answered(tasks):
    cleaned = []

    async def work(task):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    task = tasks.begin(TaskKind.TEST, "hpc", work)
    await asyncio.sleep(0)
    await asyncio.gather(tasks.cancel(task.id), tasks.cancel(task.id))
    assert cleaned == [True]
    assert (task.state, task.problem["title"]) == ("failed", "It was cancelled.")
    await tasks.cancel(task.id)


async def test_a_task_that_nobody_follows_is_cancelled_and_one_that_is_followed_is_not():
    logins = Logins()
    tasks = Tasks(logins, log=logging.getLogger("test"), forgotten=0.05)

    async def work(task):
        await asyncio.Event().wait()

    followed, forgotten = tasks.begin(TaskKind.LOOK, "a", work), tasks.begin(TaskKind.LOOK, "b", work)
    following = asyncio.create_task(tasks.wait(followed.id, followed.stamp, 10))
    async with asyncio.timeout(10):
        while forgotten.state is TaskState.RUNNING:
            await asyncio.sleep(0.01)
    assert followed.state is TaskState.RUNNING
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    await tasks.aclose()
    await logins.aclose()


async def test_the_gateways_end_cancels_what_runs(tasks):
    async def work(task):
        await asyncio.Event().wait()

    task = tasks.begin(TaskKind.LOOK, "box", work)
    await tasks.aclose()
    assert task.state is TaskState.FAILED


async def test_an_old_task_is_forgotten_and_asking_for_it_is_told(tasks):
    async def work(task):
        return {}

    first = await over(tasks, tasks.begin(TaskKind.LOOK, "box", work))
    for _ in range(60):
        await over(tasks, tasks.begin(TaskKind.LOOK, "box", work))
    with pytest.raises(UsageProblem, match="no task"):
        tasks.get(first.id)


# the REST API


@pytest.fixture
def host(places, monkeypatch):
    ssh = FakeSsh(places.base / "ssh", JUPYTER_REMOTE_GPU_FOLDER=str(places.folder))
    monkeypatch.setenv("PATH", ssh.path)
    made = ssh.host("box")
    made.command("python3", f'exec {sys.executable} "$@"')
    return made


@pytest.fixture
async def server(places, host):
    async with running_server(places.base) as running:
        yield running
        for login in running.parts.logins.all():
            await login.end()


async def followed(server, body, answer=None):
    begun = await server.unix("POST", "/remote-gpu/tasks", body)
    assert begun.status == 201, begun.text
    task = begun.json
    async with asyncio.timeout(100):
        while task["state"] == "running":
            task = (await server.unix("GET", f"/remote-gpu/tasks/{task['id']}?wait=20&seen={task['stamp']}")).json
            for prompt in task["prompts"]:
                assert (await server.unix("POST", f"/remote-gpu/prompts/{prompt['id']}", {"answer": answer})).status == 204
    return task


WRONG = (
    ({}, 400, "no kind of task"),
    ({"kind": "look"}, 400, "'host' is missing"),
    ({"kind": "look", "host": "-oX"}, 400, "not a host"),
    ({"kind": "look", "host": "box", "cluster": "local"}, 409, "already"),
    ({"kind": "look", "host": "box", "config": {"trust": True}}, 400, "trust"),
    ({"kind": "test"}, 400, "'cluster' is missing"),
    ({"kind": "test", "cluster": "locale"}, 404, "local"),
    ({"kind": "test", "cluster": "local", "config": {"kind": "local"}}, 409, "already"),
    ({"kind": "test", "cluster": "x", "config": {"kind": "ssh"}}, 400, "no host"),
    ({"kind": "test", "cluster": "local", "wiat": 3}, 400, "wiat"),
    ({"kind": "bootstrap", "cluster": "local"}, 403, "server's configuration"),
    ({"kind": "bootstrap", "host": "box", "packages": ["-r x"]}, 400, "no package"),
    ({"kind": "bootstrap", "host": "box", "version": "2.7"}, 400, "2.7"),
)


async def test_a_wrong_wish_is_refused_in_words(server):
    for body, status, words in WRONG:
        answer = await server.unix("POST", "/remote-gpu/tasks", body)
        assert (answer.status, words in answer.text) == (status, True), (body, answer.text)


async def test_a_cluster_comes_is_tested_and_goes_and_the_kernelspecs_follow(server, places):
    looked = await followed(server, {"kind": "look", "host": "box", "cluster": "mine"})
    assert looked["state"] == "done", looked
    config = looked["result"]["proposal"]["config"]
    tested = await followed(server, {"kind": "test", "cluster": "mine", "config": config})
    assert tested["state"] == "done", tested
    assert set(tested["result"]) == set(SCHEMAS["Tested"]["properties"])
    assert [step["name"] for step in tested["result"]["steps"]] == ["login", "start", "kernel", "cell"]
    assert tested["result"]["config"] == config
    names = [cluster["name"] for cluster in (await server.unix("GET", "/remote-gpu/clusters")).json["clusters"]]
    assert names == ["local"]  # it was a trial
    added = await server.unix("POST", "/remote-gpu/clusters", {"name": "mine", "config": config})
    assert (added.status, added.json) == (201, {"name": "mine", "config": config, "own": True})
    listed = (await server.unix("GET", "/remote-gpu/clusters")).json
    assert ([cluster["name"] for cluster in listed["clusters"]], listed["problem"]) == (["local", "mine"], None)
    spec = places.base / "data/kernels/remote-gpu-mine"
    assert spec.exists()
    session = (await server.unix("POST", "/remote-gpu/sessions", {"cluster": "mine", "name": "digits", "wait": 60})).json
    assert session["state"] == "running"
    refused = await server.unix("DELETE", "/remote-gpu/clusters/mine")
    assert (refused.status, "digits" in refused.json["title"]) == (400, True)
    await server.unix("DELETE", "/remote-gpu/sessions/digits")
    assert (await server.unix("DELETE", "/remote-gpu/clusters/mine")).status == 204
    assert not spec.exists()
    assert (await server.unix("GET", "/remote-gpu/clusters/mine/config")).status == 404
    assert not list((places.folder / "s").iterdir())


async def test_a_login_that_asks_asks_by_the_task(server, host):
    host.asks("open sesame")
    wrong = await followed(server, {"kind": "look", "host": "box"}, answer="guess")
    assert (wrong["state"], wrong["problem"]["reason"]) == ("failed", "access_refused")
    right = await followed(server, {"kind": "look", "host": "box"}, answer="open sesame")
    assert right["state"] == "done"
    assert "open sesame" not in str(right)


async def test_a_cluster_that_is_gone_for_the_test_leaves_no_session(server, places):
    config = {"kind": "ssh", "host": "box", "python": "/no/python"}
    tested = await followed(server, {"kind": "test", "cluster": "mine", "config": config})
    assert (tested["state"], tested["problem"]["details"]["step"]) == ("failed", "start")
    assert "/no/python" in tested["problem"]["title"]
    sessions = (await server.unix("GET", "/remote-gpu/sessions")).json["sessions"]
    assert all(session["state"] in ("failed", "ended") for session in sessions)
    assert "mine" not in server.parts.clusters


async def test_a_damaged_file_of_clusters_is_told_beside_the_clusters(server, places):
    file = server.parts.settings.clusters_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{\n "a": {}\n "b": {}\n}')
    async with asyncio.timeout(10):
        while not (told := (await server.unix("GET", "/remote-gpu/clusters")).json)["problem"]:
            await asyncio.sleep(0.05)
    assert "line 3" in told["problem"]["title"]
    refused = await server.unix("POST", "/remote-gpu/clusters", {"name": "c", "config": {"kind": "ssh", "host": "box"}})
    assert (refused.status, "line 3" in refused.text) == (400, True)
