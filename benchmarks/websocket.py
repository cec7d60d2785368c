"""A Jupyter server with the extension, and kernels of it as JupyterLab uses them: over its WebSocket, in its binary protocol."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

TOKEN = "benchmark"
PATIENCE = 60.0
_PROTOCOL = "v1.kernel.websocket.jupyter.org"


@contextmanager
def server() -> Iterator[str]:
    """A running server; its address."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        environment = {**os.environ, "JUPYTER_RUNTIME_DIR": folder, "JUPYTER_REMOTE_GPU_FOLDER": f"{folder}/r"}
        settings = {
            "jpserver_extensions": {"jupyter_remote_gpu": True, "jupyterlab": False},
            "root_dir": folder,
            "port": 0,
            "ip": "127.0.0.1",
        }
        (Path(folder) / "c.json").write_text(json.dumps({"ServerApp": settings, "IdentityProvider": {"token": TOKEN}}))
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--config={folder}/c.json"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + PATIENCE
            while not (found := list(Path(folder).glob("jpserver-*.json"))):
                if process.poll() is not None or time.monotonic() > limit:
                    message = f"the server did not start (exit status {process.poll()})"
                    raise RuntimeError(message)
                time.sleep(0.1)
            yield str(json.loads(found[0].read_text())["url"])
        finally:
            process.terminate()
            process.wait()


class Socket:
    """One kernel, by the WebSocket of its server."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self._session = uuid.uuid4().hex

    @classmethod
    async def open(cls, url: str) -> Socket:
        """Start a kernel and connect."""
        loop = asyncio.get_running_loop()
        kernel = (await loop.run_in_executor(None, _start_kernel, url))["id"]
        address = f"{url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?token={TOKEN}"
        return cls(await websocket_connect(HTTPRequest(address), subprotocols=[_PROTOCOL]))

    async def send(self, kind: str, content: dict[str, Any]) -> str:
        """Send a message on the shell channel; returns its id."""
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": kind,
            "username": "",
            "session": self._session,
            "date": "2026-01-01T00:00:00Z",
            "version": "5.4",
        }
        parts = [b"shell", *(json.dumps(each).encode() for each in (header, {}, {}, content))]
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        numbers = [len(offsets), *offsets]
        await self._connection.write_message(b"".join([*(n.to_bytes(8, "little") for n in numbers), *parts]), binary=True)
        return msg_id

    async def caused(self, msg_id: str) -> list[tuple[float, str, dict[str, Any]]]:
        """What a message caused, until the kernel is idle after it: when it came, its type and its content."""
        heard: list[tuple[float, str, dict[str, Any]]] = []
        while True:
            data = await asyncio.wait_for(self._connection.read_message(), PATIENCE)
            now = time.perf_counter()
            if not isinstance(data, bytes):
                raise ConnectionError("the server closed the WebSocket")
            count = int.from_bytes(data[:8], "little")
            offsets = [int.from_bytes(data[8 * n : 8 * n + 8], "little") for n in range(1, count + 1)]
            _, header, parent, _, content = (data[a:b] for a, b in pairwise(offsets[:6]))
            if json.loads(parent).get("msg_id") != msg_id:
                continue
            kind, said = json.loads(header)["msg_type"], json.loads(content)
            if kind == "error":
                raise RuntimeError("\n".join(said["traceback"]))
            heard.append((now, kind, said))
            if kind == "status" and said["execution_state"] == "idle":
                return heard

    async def run(self, code: str) -> str:
        """Run a cell; returns what it printed."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        heard = await self.caused(await self.send("execute_request", content))
        return "".join(said["text"] for _, kind, said in heard if kind == "stream")

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def _start_kernel(url: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}api/kernels", b'{"name": "python3"}', {"Authorization": f"token {TOKEN}"}, method="POST")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return dict(json.load(answer))
