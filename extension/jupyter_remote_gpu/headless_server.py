"""The server inside a headless gateway: jupyter_server that listens nowhere itself and loads no extension but ours."""

from __future__ import annotations

import os
import signal
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import jupyter_path
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import PeriodicCallback
from traitlets import Float

__all__ = ["HeadlessServer", "run"]

_EXTENSION = "jupyter_remote_gpu"


class RemoteKernelSpecs(KernelSpecManager):
    """Without the folder that IPython 2 had: to ask where it is, imports all of IPython, while the first session waits."""

    def _kernel_dirs_default(self) -> list[str]:
        return jupyter_path("kernels")


class HeadlessServer(ServerApp):
    """A `ServerApp` without web server, browser and files that announce it."""

    unused_time = Float(1200.0, help="Seconds without a session and a request after which the gateway ends; 0 = never.").tag(config=True)

    def init_server_extensions(self) -> None:
        """Ours only, whatever the user's Jupyter servers load."""
        self.jpserver_extensions = {_EXTENSION: True}
        super().init_server_extensions()

    def init_signal(self) -> None:
        """Ctrl-C and SIGTERM end it in good order, without a question."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._signal_stop)

    def init_shutdown_no_activity(self) -> None:
        """Look often enough to be about right, seldom enough to cost nothing."""
        self.shutdown_no_activity_timeout = int(self.unused_time)
        if self.unused_time > 0:
            self._unused_check = PeriodicCallback(self.shutdown_no_activity, 1000 * min(max(self.unused_time / 4, 0.25), 60))
            self._unused_check.start()

    def start_app(self) -> None:
        """Say that it is ready; there is no address to tell, and no token."""
        super(ServerApp, self).start()
        self.log.info("The gateway is ready as process %d.", os.getpid())


def run(arguments: list[str], unused_time: float) -> None:
    """Run the gateway until it is told to end. Raises `SystemExit` with the status 1 when the extension did not load."""
    settings: dict[str, Any] = {"unused_time": unused_time, "open_browser": False, "kernel_spec_manager_class": RemoteKernelSpecs}
    server = HeadlessServer.instance(**settings)
    server.initialize(arguments, find_extensions=False, new_httpserver=False)
    extension = server.extension_manager.extensions.get(_EXTENSION)
    apps = server.extension_manager.extension_apps.get(_EXTENSION) or ()
    if apps and all(app.gateway is None for app in apps):
        server.log.critical("The gateway ends, because it cannot run here.")
        raise SystemExit(1)
    if extension is None or not apps:
        server.log.critical("The extension %s did not load.", _EXTENSION)
        raise SystemExit(1)
    server.start()
