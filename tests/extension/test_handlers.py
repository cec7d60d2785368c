from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
import yaml
from jupyter_client.asynchronous.client import AsyncKernelClient
from tests.fakes.server import running_server

from remote_gpu.discovery import find_gateway

API = yaml.safe_load((Path(__file__).parents[2] / "docs/reference/rest-api.yaml").read_text())


def check(value, schema: str) -> None:
    """Compare with the documented schema: exactly the documented names."""
    assert set(value) == set(API["components"]["schemas"][schema]["properties"])


@pytest.fixture
async def server(places):
    async with running_server(places.base) as running:
        yield running


async def test_the_gateway_says_who_it_is_on_both_doors(server):
    for door in (server.tcp, server.unix):
        answer = await door("GET", "/remote-gpu")
        assert answer.status == 200
        check(answer.json, "Gateway")
        assert answer.json["pid"] == os.getpid()
        assert answer.json["kind"] == "server"


async def test_the_runtime_file_leads_to_the_gateway_and_goes_with_it(places):
    async with running_server(places.base) as server:
        record = find_gateway()
        assert record.socket == server.parts.socket
        assert record.secret == server.parts.secret
        assert record.choices == server.parts.choices.file
        file = record.file
        assert file.stat().st_mode & 0o777 == 0o600
    assert not file.exists()
    assert not record.socket.exists()
    assert find_gateway() is None


async def test_clusters_are_described_as_documented(server):
    (cluster,) = (await server.tcp("GET", "/remote-gpu/clusters?wait=30")).json["clusters"]
    check(cluster, "Cluster")
    assert (cluster["name"], cluster["kind"], cluster["state"]) == ("local", "local", "ready")
    assert cluster["label"] == "CPU only" or "×" in cluster["label"]
    for pool in cluster["pools"]:
        check(pool, "Pool")


async def test_a_session_runs_code_and_ends_and_leaves_nothing(server, places):
    started = await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
    assert started.status == 201, started.text
    check(started.json, "Session")
    assert started.json["state"] == "running"
    assert started.json["why"].startswith("local: ")
    again = await server.tcp("POST", "/remote-gpu/sessions", {"name": "digits"})
    assert (again.status, again.json["id"]) == (200, started.json["id"])
    attached = await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})
    assert attached.status == 201, attached.text
    client = AsyncKernelClient(connection_file=attached.json["connection_file"])
    client.load_connection_file()
    client.start_channels()
    replies = await client.execute_interactive("6 * 7", timeout=30, output_hook=lambda message: None)
    client.stop_channels()
    assert replies["content"]["status"] == "ok"
    for verb in ("interrupt", "restart"):
        assert (await server.unix("POST", f"/remote-gpu/sessions/digits/{verb}")).json["link"] == "connected"
    assert "text" in (await server.tcp("GET", "/remote-gpu/sessions/digits/logs?lines=5")).json
    assert (await server.unix("POST", f"/remote-gpu/sessions/digits/attachments/{attached.json['id']}/rebind")).status == 200
    assert (await server.unix("DELETE", f"/remote-gpu/sessions/digits/attachments/{attached.json['id']}")).status == 204
    assert (await server.tcp("DELETE", "/remote-gpu/sessions/digits")).status == 204
    ended = (await server.tcp("GET", "/remote-gpu/sessions/digits")).json
    assert (ended["state"], ended["detail"]) == ("ended", "Stopped by you.")
    assert not list((places.folder / "s").iterdir())
    assert not list((places.folder / "f").iterdir())


async def test_a_long_poll_answers_when_the_state_is_another(server):
    started = await server.unix("POST", "/remote-gpu/sessions", {"wait": 0})
    found = await server.unix("GET", f"/remote-gpu/sessions/{started.json['id']}?wait=30&seen=pending")
    assert found.json["state"] == "running"
    waiting = asyncio.create_task(server.unix("GET", f"/remote-gpu/sessions/{started.json['id']}?wait=30&seen=running"))
    await server.unix("DELETE", f"/remote-gpu/sessions/{started.json['id']}")
    assert (await waiting).json["state"] == "ended"


async def test_a_client_process_that_ends_takes_its_front_with_it_and_nothing_else(server, places, wait_until):
    await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
    code = (
        "from remote_gpu.discovery import find_gateway\nfrom remote_gpu.gateway import Gateway\n"
        "print(Gateway(find_gateway()).attach('digits').connection_file)"
    )
    process = await asyncio.create_subprocess_exec(
        str(server.parts.settings.local_python), "-c", code, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    file = Path((await process.communicate())[0].decode().strip())
    async with asyncio.timeout(20):
        while file.exists():
            await asyncio.sleep(0.02)
    assert (await server.unix("GET", "/remote-gpu/sessions/digits")).json["state"] == "running"
    await server.unix("DELETE", "/remote-gpu/sessions/digits")


async def test_a_choice_is_kept_per_notebook_and_moves_the_choices_file(server):
    file = server.parts.choices.file
    before = file.stat().st_mtime_ns
    answer = await server.tcp("PUT", "/remote-gpu/choice?notebook=a.ipynb", {"cluster": "local"})
    check(answer.json, "Choice")
    assert file.stat().st_mtime_ns > before
    assert (await server.unix("GET", "/remote-gpu/choice?notebook=a.ipynb")).json["cluster"] == "local"
    assert (await server.unix("GET", "/remote-gpu/choice?notebook=b.ipynb")).json["cluster"] == "auto"
    assert (await server.unix("GET", "/remote-gpu/choice?kernel_id=unknown")).json == {"notebook": "", "cluster": "auto"}
    assert (await server.unix("PUT", "/remote-gpu/choice?notebook=a.ipynb", {"cluster": "locale"})).status == 404


async def test_a_selection_starts_nothing_and_gives_its_reasons(server):
    answer = await server.unix("POST", "/remote-gpu/selections", {"request": {"gpus": 1000}})
    check(answer.json, "Selection")
    assert answer.json["chosen"] == ""
    assert "1000 asked for" in answer.json["sentence"]
    assert (await server.unix("GET", "/remote-gpu/sessions")).json == {"sessions": [], "problems": []}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "usage"),
        (b"[1]", 400, "usage"),
        (b'"text"', 400, "usage"),
        ({"name": 7}, 400, "usage"),
        ({"name": "a b"}, 400, "usage"),
        ({"nmae": "a"}, 400, "usage"),
        ({"wait": "long"}, 400, "usage"),
        ({"wait": -1}, 400, "usage"),
        ({"env": {"A": 1}}, 400, "usage"),
        ({"request": {"gpu": 1}}, 400, "usage"),
        ({"request": {"gpus": True}}, 400, "usage"),
        ({"request": {"gpus": -1}}, 400, "usage"),
        ({"cluster": "loacl"}, 404, "unknown_cluster"),
    ],
)
async def test_a_bad_wish_is_a_problem_that_says_what_is_wrong_and_starts_nothing(server, body, status, reason):
    answer = await server.unix("POST", "/remote-gpu/sessions", body)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(API["components"]["schemas"]["Problem"]["required"]) <= set(answer.json)
    assert server.parts.registry.sessions() == []


async def test_an_unknown_cluster_comes_with_a_suggestion(server):
    answer = await server.unix("POST", "/remote-gpu/sessions", {"cluster": "loacl"})
    assert answer.json["hint"] == "Did you mean 'local'?"


async def test_what_does_not_exist_is_404_and_what_is_not_allowed_405(server):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/attachments"), ("POST", "/interrupt"), ("GET", "/logs")):
        answer = await server.unix(method, f"/remote-gpu/sessions/none{path}", {} if method == "POST" else None)
        assert (answer.status, answer.json["reason"]) == (404, "unknown_session")
    assert (await server.unix("PUT", "/remote-gpu/sessions", {})).status == 405
    assert (await server.unix("GET", "/remote-gpu/sessions/none/logs?lines=many")).status == 400


async def test_a_start_that_fails_answers_with_the_launchers_own_words(places):
    async with running_server(places.base, local_python="/nowhere/python") as server:
        answer = await server.unix("POST", "/remote-gpu/sessions", {})
        assert (answer.status, answer.json["reason"]) == (502, "start_failed")
        assert "/nowhere/python" in answer.json["title"]
        (shown,) = (await server.unix("GET", "/remote-gpu/sessions")).json["sessions"]
        assert shown["state"] == "failed"
        assert shown["problem"]["reason"] == "start_failed"


async def test_a_gateway_without_a_writable_folder_answers_with_the_reason(places):
    (places.base / "file").write_text("")
    async with running_server(places.base, data_folder=str(places.base / "file" / "x")) as server:
        answer = await server.tcp("GET", "/remote-gpu")
        assert (answer.status, answer.json["reason"]) == (507, "not_writable")
        assert (await server.tcp("GET", "/remote-gpu", headers={})).status == 403


async def test_changes_of_sessions_are_announced_on_the_servers_event_stream(server):
    heard = []

    async def listen(logger, schema_id, data):
        heard.append(data)

    server.app.event_logger.add_listener(schema_id="https://events.jupyter.org/jupyter_remote_gpu/session/v1", listener=listen)
    started = await server.unix("POST", "/remote-gpu/sessions", {})
    await server.unix("DELETE", f"/remote-gpu/sessions/{started.json['id']}")
    await server.app.event_logger.gather_listeners()
    assert list(dict.fromkeys(each["state"] for each in heard)) == ["pending", "running", "ended"]
    assert json.dumps(heard)


async def test_the_queue_shows_each_waiting_cell_without_its_code_and_cancels_one(server):
    await server.unix("POST", "/remote-gpu/sessions", {"name": "night"})
    attached = (await server.unix("POST", "/remote-gpu/sessions/night/attachments", {"name": "night.ipynb"})).json
    client = AsyncKernelClient(connection_file=attached["connection_file"])
    client.load_connection_file()
    client.start_channels()
    secret = "import threading; secret = 1; print('begun', flush=True); threading.Event().wait(100)"
    first, second, third = (client.execute(code, stop_on_error=False) for code in (secret, "secret = 2", "secret = 3"))
    while (await client.get_iopub_msg(timeout=30))["msg_type"] != "stream":
        continue
    told = await server.tcp("GET", "/remote-gpu/sessions/night/queue")
    assert "secret" not in told.text
    cells = told.json["cells"]
    for cell in cells:
        check(cell, "QueuedCell")
    assert [(cell["id"], cell["state"], cell["client"]) for cell in cells] == [
        (first, "running", "night.ipynb"),
        (second, "waiting", "night.ipynb"),
        (third, "waiting", "night.ipynb"),
    ]
    for cell, was in ((second, "waiting"), (first, "running"), ("unknown", "waiting")):
        answer = await server.unix("DELETE", f"/remote-gpu/sessions/night/queue/{cell}")
        check(answer.json, "CancelledCell")
        assert answer.json == {"id": cell, "was": was}
    replies = [(await client.get_shell_msg(timeout=30))["content"] for _ in range(3)]
    assert [reply.get("ename") for reply in replies] == ["Cancelled", "KeyboardInterrupt", None]
    client.stop_channels()
    assert (await server.unix("GET", "/remote-gpu/sessions/none/queue")).status == 404
    await server.unix("DELETE", "/remote-gpu/sessions/night")
