"""A kernel manager for a remote session that runs already: the entry in ``/api/kernels`` that was not started there."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager

__all__ = ["AdoptedKernelManager"]


class _RemoteKernelManager(AsyncIOLoopKernelManager):
    """What differs from a manager that started its kernel: it goes through the gateway, not through its front, to end and interrupt it.

    So a session can be listed, interrupted, restarted and stopped without a front; one is opened when a client connects.
    """

    on_connect: Callable[[], None] | None = None
    """Called before each socket is made; the sockets may connect before the front has bound its own."""

    def _create_connected_socket(self, channel: str, identity: bytes | None = None) -> Any:
        if self.on_connect is not None:
            self.on_connect()
        return super()._create_connected_socket(channel, identity)

    async def _async_interrupt_kernel(self) -> None:
        if self.provisioner is not None:
            await self.provisioner.send_signal(signal.SIGINT)

    interrupt_kernel = _async_interrupt_kernel  # type: ignore[assignment]  # as jupyter_client's own asynchronous managers do

    async def _async_request_shutdown(self, restart: bool = False) -> None:
        if self.provisioner is not None:
            await self.provisioner.shutdown_requested(restart=restart)
            await self.provisioner.kill(restart=restart)  # no message was sent: `cleanup` or the restart ends the kernel, in order

    request_shutdown = _async_request_shutdown  # type: ignore[assignment]

    def _connect_control_socket(self) -> None:
        """Nothing: it would open a front that nobody asked for."""


class AdoptedKernelManager(ServerKernelManager, _RemoteKernelManager):
    """The server's kernel manager of an adopted session; it emits the server's events like any other."""
