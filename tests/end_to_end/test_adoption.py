"""Remote sessions among a server's kernels, and what is left of them when the server is killed or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

TOKEN = "t0ken"
KERNEL = "remote-gpu-local"
TIME = 30


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """A Jupyter server with our extension, in a process of its own."""

    def __init__(self, root, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        extensions = '{"jupyter_remote_gpu": True, "jupyterlab": False, "notebook": False, "jupyter_lsp": False}'
        options = [f"--port={port}", "--port-retries=0", f"--IdentityProvider.token={TOKEN}", "--no-browser", "--allow-root"]
        command = [
            sys.executable,
            "-m",
            "jupyter_server",
            *options,
            f"--ServerApp.root_dir={root}",
            f"--ServerApp.jpserver_extensions={extensions}",
        ]
        self.log = open(root / f"server-{time.monotonic_ns()}.log", "w+")  # noqa: SIM115  closed in `end`
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    async def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        request = HTTPRequest(
            self.url + path,
            method,
            {"Authorization": f"token {TOKEN}"},
            None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            request_timeout=60,
        )
        answer = await AsyncHTTPClient().fetch(request)
        return json.loads(answer.body) if answer.body else None

    async def first_answer(self, path: str) -> Any:
        """What the server answers to its very first request, asked for until somebody listens."""
        deadline = time.monotonic() + TIME
        while True:
            try:
                return await self.ask(path)
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                await asyncio.sleep(0.02)

    async def connect(self, kernel_id: str, session: str) -> WebSocketClientConnection:
        url = f"{self.url.replace('http', 'ws')}/api/kernels/{kernel_id}/channels?session_id={session}"
        return await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {TOKEN}"}))

    def end(self, how: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(TIME)
        self.log.close()


@pytest.fixture
async def start(places) -> AsyncIterator[Callable[[], Server]]:
    """Starts a server, always at the same address and on the same root folder."""
    port, servers = free_port(), []
    (places.base / "root").mkdir()

    def start() -> Server:
        servers.append(Server(places.base / "root", port))
        return servers[-1]

    yield start
    if servers[-1].process.poll() is None:
        with contextlib.suppress(OSError, HTTPClientError):
            for session in (await servers[-1].ask("/remote-gpu/sessions"))["sessions"]:
                await servers[-1].ask(f"/remote-gpu/sessions/{session['id']}", "DELETE")
    for server in servers:
        server.end(signal.SIGTERM)


def request(code: str, session: str) -> str:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": session, "username": "", "version": "5.3", "date": ""}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    return json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": [], "channel": "shell"})


async def lines_until(connection: WebSocketClientConnection, enough: Callable[[list[str]], bool]) -> list[str]:
    """The lines printed until there are enough."""
    text = ""
    async with asyncio.timeout(TIME):
        while not enough(text.split()):
            message = await connection.read_message()
            assert message is not None, "the server closed the connection"
            content = json.loads(message)
            if content["msg_type"] == "stream":
                text += content["content"]["text"]
    return text.split()


NOTEBOOK = {"path": "n.ipynb", "name": "n.ipynb", "type": "notebook", "kernel": {"name": KERNEL}}
COUNT = "import time\nfor n in range(120):\n    print(n, flush=True)\n    time.sleep(0.025)\nprint('end')"


async def test_a_killed_server_comes_back_with_its_kernels_notebooks_and_the_output_since(start):
    server = start()
    await server.first_answer("/api/status")
    notebook = await server.ask("/api/sessions", "POST", NOTEBOOK)
    kernel_id, client = notebook["kernel"]["id"], uuid.uuid4().hex
    connection = await server.connect(kernel_id, client)
    await connection.write_message(request(COUNT, client))
    before = await lines_until(connection, lambda lines: len(lines) >= 10)
    server.end(signal.SIGKILL)
    connection.close()

    server = start()
    kernels = await server.first_answer("/api/kernels")
    assert [kernel["id"] for kernel in kernels] == [kernel_id]
    notebooks = await server.ask("/api/sessions")
    assert [(each["id"], each["path"], each["kernel"]["id"]) for each in notebooks] == [(notebook["id"], "n.ipynb", kernel_id)]
    connection = await server.connect(kernel_id, client)
    after = await lines_until(connection, lambda lines: "end" in lines)
    assert after == [str(n) for n in range(int(after[0]), 120)] + ["end"]
    assert int(after[0]) <= int(before[-1]) + 1
    await connection.write_message(request("print('still', 'here')", client))
    assert await lines_until(connection, lambda lines: "here" in lines) == ["still", "here"]
    connection.close()


async def test_a_server_that_is_stopped_in_order_leaves_its_kernels_running_for_the_next(start):
    server = start()
    await server.first_answer("/api/status")
    kernel_id = (await server.ask("/api/sessions", "POST", NOTEBOOK))["kernel"]["id"]
    (session,) = (await server.ask("/remote-gpu/sessions"))["sessions"]
    server.end(signal.SIGTERM)
    os.kill(session["kernel"]["pid"], 0)

    server = start()
    assert [kernel["id"] for kernel in await server.first_answer("/api/kernels")] == [kernel_id]
    assert [each["path"] for each in await server.ask("/api/sessions")] == ["n.ipynb"]


async def test_a_session_that_a_cell_started_is_a_kernel_of_the_server_until_it_is_stopped_from_the_panel(start):
    server = start()
    await server.first_answer("/api/status")
    session = await server.ask("/remote-gpu/sessions", "POST", {"name": "mine", "wait": 30})
    kernels = await server.ask("/api/kernels")
    assert [kernel["id"] for kernel in kernels] == [session["kernel_id"]]
    client = uuid.uuid4().hex
    connection = await server.connect(session["kernel_id"], client)
    await connection.write_message(request("print(6 * 7)", client))
    assert await lines_until(connection, bool) == ["42"]
    connection.close()
    await server.ask("/remote-gpu/sessions/mine", "DELETE")
    assert await server.ask("/api/kernels") == []


async def test_deleting_the_kernel_is_the_users_stop(start):
    server = start()
    await server.first_answer("/api/status")
    session = await server.ask("/remote-gpu/sessions", "POST", {"name": "mine", "wait": 30})
    await server.ask(f"/api/kernels/{session['kernel_id']}", "DELETE")
    assert await server.ask("/api/kernels") == []
    assert (await server.ask("/remote-gpu/sessions/mine"))["state"] == "ended"


@pytest.mark.parametrize("started_by", ["the launcher", "a cell"])
async def test_a_restart_through_rest_gives_an_empty_kernel_in_the_same_session(start, started_by):
    server = start()
    await server.first_answer("/api/status")
    if started_by == "a cell":
        kernel_id = (await server.ask("/remote-gpu/sessions", "POST", {"name": "mine", "wait": 30}))["kernel_id"]
    else:
        kernel_id = (await server.ask("/api/kernels", "POST", {"name": KERNEL}))["id"]
    client = uuid.uuid4().hex
    connection = await server.connect(kernel_id, client)
    await connection.write_message(request("x = 1\nprint('done')", client))
    await lines_until(connection, lambda lines: "done" in lines)
    (before,) = (await server.ask("/remote-gpu/sessions"))["sessions"]
    await server.ask(f"/api/kernels/{kernel_id}/restart", "POST", {})
    await connection.write_message(request("print('x' in globals())", client))
    assert await lines_until(connection, bool) == ["False"]
    (after,) = (await server.ask("/remote-gpu/sessions"))["sessions"]
    assert after["id"] == before["id"]
    assert after["kernel"]["incarnation"] == before["kernel"]["incarnation"] + 1
    connection.close()


FLOOD = """print('\\n'.join(map(str, range(1_700_000))))
for n in range(1_700_000, 1_800_000):
    print(n)
print('end')"""


async def test_thirteen_megabytes_in_one_cell_all_reach_the_notebook_at_the_servers_own_limits(start):
    server = start()
    await server.first_answer("/api/status")
    kernel_id, client = (await server.ask("/api/sessions", "POST", NOTEBOOK))["kernel"]["id"], uuid.uuid4().hex
    connection = await server.connect(kernel_id, client)
    await connection.write_message(request(FLOOD, client))
    text = []
    async with asyncio.timeout(4 * TIME):
        while not (text and text[-1].endswith("end\n")):
            content = json.loads(await connection.read_message())
            if content["msg_type"] == "stream":
                text.append(content["content"]["text"])
    assert "".join(text).split() == [*map(str, range(1_800_000)), "end"]
    connection.close()
