"""A Jupyter server with the extension in this process and event loop, and a client of it over TCP and the Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from jupyter_server.serverapp import ServerApp

TOKEN = "the-token-of-this-test"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text) if self.text else None


@dataclass(slots=True)
class Server:
    app: ServerApp
    extension: Any

    @property
    def parts(self) -> Any:
        return self.extension.gateway

    @property
    def token(self) -> dict[str, str]:
        return {"Authorization": f"token {TOKEN}"}

    @property
    def secret(self) -> dict[str, str]:
        return {"Authorization": f"remote-gpu {self.parts.secret}"}

    async def tcp(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """A request to the server's own address, with its token unless other headers are given."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.app.port)
        return await _exchange(reader, writer, method, path, body, self.token if headers is None else headers)

    async def unix(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """A request to the gateway's socket, with its secret unless other headers are given."""
        reader, writer = await asyncio.open_unix_connection(str(self.parts.socket))
        return await _exchange(reader, writer, method, path, body, self.secret if headers is None else headers)


async def _exchange(reader, writer, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(payload)}"]
    writer.write("\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + payload)
    async with asyncio.timeout(60):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, text = answer.partition("\r\n\r\n")
    first, *rest = head.splitlines()
    found = dict(line.split(": ", 1) for line in rest)
    return Answer(int(first.split()[1]), found, text)


@contextlib.asynccontextmanager
async def running_server(root, **settings: Any) -> AsyncIterator[Server]:
    """The server, from its loading to its end. `settings` are of `RemoteGpu`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = ServerApp(port=port, port_retries=0, allow_root=True, open_browser=False, root_dir=str(root), log_level="ERROR")
    app.config.IdentityProvider.token = TOKEN
    app.config.ServerApp.jpserver_extensions = {"jupyter_remote_gpu": True}
    app.config.ServerApp.reraise_server_extension_failures = True
    for name, value in settings.items():
        app.config.RemoteGpu[name] = value
    app.initialize(argv=[], find_extensions=False)
    try:
        await app._post_start()
        (extension,) = app.extension_manager.extension_apps["jupyter_remote_gpu"]
        yield Server(app, extension)
    finally:
        await app._cleanup()
        app.clear_instance()
        os.environ.pop("JUPYTER_REMOTE_GPU_GATEWAY", None)
