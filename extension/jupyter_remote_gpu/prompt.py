"""Lets small messages leave the server at once.

jupyter_server leaves Nagle's algorithm on for the browser's WebSocket: a message that follows another one is held back until the
browser's system has acknowledged the first, which takes up to 40 ms. A local kernel's messages come so close together that they
mostly leave as one; those of a remote kernel come a millisecond apart, so a widget would seem ten times slower than it is.
"""

from __future__ import annotations

from typing import Any

__all__ = ["without_delay"]


def without_delay(connection: type[Any]) -> type[Any]:
    """`connection` (what serves a kernel's WebSocket), but with TCP_NODELAY; its configuration stays valid."""

    class PromptConnection(connection):
        def connect(self) -> Any:
            self.websocket_handler.set_nodelay(True)
            return super().connect()

    return PromptConnection
