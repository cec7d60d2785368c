"""The server extension: builds the gateway when it loads, opens its Unix socket, detaches when the server stops."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import HTTPError

from jupyter_remote_gpu import __version__, adoption, events
from jupyter_remote_gpu.gateway import GatewayParts, build
from jupyter_remote_gpu.handlers import ROUTES
from jupyter_remote_gpu.headless_server import HeadlessServer
from jupyter_remote_gpu.prompt import without_delay
from jupyter_remote_gpu.settings import RemoteGpu
from remote_gpu import discovery
from remote_gpu.errors import NotWritable, RemoteGpuError

__all__ = ["RemoteGpuApp"]


class RemoteGpuApp(ExtensionApp):
    """jupyter-remote-gpu in a Jupyter server."""

    name = "jupyter_remote_gpu"
    app_name = "jupyter-remote-gpu"
    description = "Run notebook cells on remote GPU nodes."
    version = __version__
    load_other_extensions = True
    classes = [RemoteGpu]  # noqa: RUF012  traitlets reads it from the class

    gateway: GatewayParts | None = None
    _runtime_file: Path | None = None
    _http: HTTPServer | None = None

    def initialize(self) -> None:  # type: ignore[override]  # as ExtensionApp itself has it
        """Everything that must stand before the server answers its first request; it listens only after this."""
        try:
            self._open()
        except RemoteGpuError as error:
            self.log.error("jupyter-remote-gpu cannot run here: %s", error)  # noqa: TRY400  its words are enough
            self._problem = error
        super().initialize()  # type: ignore[no-untyped-call]
        if self.gateway is not None:
            adoption.adopt(self)

    @property
    def server(self) -> Any:
        """The server that this extension is loaded into."""
        return self.serverapp

    def _open(self) -> None:
        server = self.server
        settings = RemoteGpu(parent=self).freeze()
        kind = "headless" if isinstance(server, HeadlessServer) else "server"
        parts = build(settings, kind=kind, log=self.log, notebook_of=self._notebook_of)
        events.register(server.event_logger)
        parts.sessions.subscribe(lambda session: events.announce(server.event_logger, session))
        self._listen(parts)
        self.gateway = parts

    def initialize_handlers(self) -> None:
        """Our routes; without a gateway each answers with the reason."""
        parts = self.gateway if self.gateway is not None else self._problem
        self.handlers.extend((_pattern(route), handler, {"parts": parts}) for route, handler in ROUTES.items())

    def initialize_settings(self) -> None:
        """Let other parts of this server find the gateway."""
        self.settings["remote_gpu"] = self.gateway
        if kernels := self.settings.get("kernel_websocket_connection_class"):
            self.settings["kernel_websocket_connection_class"] = without_delay(kernels)

    def _listen(self, parts: GatewayParts) -> None:
        """Open the Unix socket now, so that whoever reads the runtime file can connect; requests wait for the loop."""
        server = self.server
        try:
            parts.socket.unlink(missing_ok=True)
            listener = bind_unix_socket(str(parts.socket), mode=0o600)
        except OSError as error:
            message = f"Cannot open the gateway's socket {parts.socket}: {error.strerror or error}."
            raise NotWritable(message, hint="Set JUPYTER_REMOTE_GPU_FOLDER to a short, writable folder.") from error
        self._http = HTTPServer(server.web_app, max_body_size=server.max_body_size, max_buffer_size=server.max_buffer_size)
        server.io_loop.add_callback(self._http.add_socket, listener)
        server.io_loop.add_callback(parts.data.start)
        server.io_loop.add_callback(parts.sessions.take_up)
        self._runtime_file = discovery.announce(
            socket_path=parts.socket, secret=parts.secret, kind=parts.kind, version=__version__, choices=parts.choices.file
        )
        os.environ[discovery.GATEWAY_VARIABLE] = str(self._runtime_file)

    async def _notebook_of(self, kernel_id: str) -> str | None:
        """The notebook whose kernel this is, as a path below the server's root folder."""
        try:
            model = await self.server.session_manager.get_session(kernel_id=kernel_id)
        except HTTPError:
            return None
        return str(model.get("path") or "") or None

    async def stop_extension(self) -> None:
        """Detach: sessions and kernels on nodes go on. Called before the server ends its kernels, and before it is gone."""
        if self._runtime_file is not None:
            self._runtime_file.unlink(missing_ok=True)
            if os.environ.get(discovery.GATEWAY_VARIABLE) == str(self._runtime_file):
                del os.environ[discovery.GATEWAY_VARIABLE]
        if self.gateway is None:
            return
        released = adoption.release(self)
        if released is not None:
            await released
        if self._http is not None:
            self._http.stop()
            await self._http.close_all_connections()
        await self.gateway.aclose()
        self.gateway.socket.unlink(missing_ok=True)

    def current_activity(self) -> dict[str, int] | None:
        """A headless gateway with fronts open is not idle."""
        count = self.gateway.sessions.attached() if self.gateway is not None else 0
        return {"attachments": count} if count else None


def _pattern(route: str) -> str:
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route) + "/?"
