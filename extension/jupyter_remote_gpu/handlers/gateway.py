"""The gateway itself: ``/remote-gpu``."""

from __future__ import annotations

import os

from jupyter_remote_gpu import __version__
from jupyter_remote_gpu.handlers.base import Handler, authorized
from remote_gpu.frames import PROTOCOL

__all__ = ["GatewayHandler"]


class GatewayHandler(Handler):
    """Who answers here."""

    @authorized
    async def get(self) -> None:
        """Version, protocol, kind, user and process."""
        parts = self.parts
        self.answer({"version": __version__, "protocol": PROTOCOL, "kind": parts.kind, "user": parts.user, "pid": os.getpid()})
