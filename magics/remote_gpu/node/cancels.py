"""Which cells of a kernel's queue were cancelled, and what of that is not settled yet.

Only the kernel knows whether a cell has begun, so it is asked. If it says that the cell waits, it will not run it, and whoever
sent the cell has the answer at once, in the kernel's place; what the kernel says of it when its turn comes is then old news.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from remote_gpu.node import wire

__all__ = ["NOT_BEGUN", "Cancels", "cell_of", "target_of"]

NOT_BEGUN = "The cell was cancelled before it began."

_EARLY = 1000
_SHORT = 1000  # bytes; a question that is longer is another one


def target_of(kind: str, content: bytes | memoryview) -> str:
    """The request that a client's message cancels; empty for any other message."""
    if kind != "remote_gpu_request" or len(content) > _SHORT:
        return ""
    asked = wire.header_of(content)
    return str(asked.get("id", "")) if asked.get("ask") == "cancel" else ""


def cell_of(request: str, owner: bytes, since: float, begun: float | None, metadata: bytes) -> dict[str, Any]:
    """A cell of the queue: times in seconds since the epoch, `begun` None for one that waits, `owner` the attachment that sent it.

    `cell` and `job` are the numbers that its client gave it in its metadata, if it did. No code.
    """
    about = wire.header_of(metadata).get("remote_gpu")
    about = about if isinstance(about, dict) else {}
    told = {"cell": about.get("execution_count"), "job": about.get("job")}
    return {"id": request, "owner": owner.decode(errors="replace"), "since": since, "begun": begun, **told}


class Cancels:
    """Those of one kernel. A client that asked is kept as the keeper has it, until the kernel's answer is there."""

    def __init__(self) -> None:
        self._early: deque[str] = deque(maxlen=_EARLY)
        self._over: deque[str] = deque(maxlen=_EARLY)
        self._asked: dict[str, tuple[str, Any]] = {}
        self._old_news: dict[str, set[str]] = {}

    def clear(self) -> list[Any]:
        """The kernel is gone; returns the clients that still wait for an answer."""
        clients = [client for _, client in self._asked.values() if client is not None]
        self._asked.clear()
        self._old_news.clear()
        return clients

    def over(self, request: str) -> None:
        """A request was answered."""
        self._over.append(request)

    def early(self, request: str) -> str:
        """Cancel a request that is not there: it is ``over``, or may be on its way and counts as ``waiting``."""
        if request in self._over:
            return "over"
        self._early.append(request)
        return "waiting"

    def is_early(self, request: str) -> bool:
        """Whether a request that comes was cancelled already."""
        return request in self._early

    def ask(self, request: str, client: Any) -> list[bytes | memoryview]:
        """The question to the kernel; `client` is who wants to know."""
        parts = wire.make_parts("remote_gpu_request", {"ask": "cancel", "id": request})
        self._asked[str(wire.header_of(parts[0])["msg_id"])] = (request, client)
        return parts

    def told(self, question: str, content: bytes | memoryview) -> tuple[str, str, Any]:
        """The kernel answered a question of ours: (request, what it was, client); empty strings if it was another question."""
        request, client = self._asked.pop(question, ("", None))
        return request, str(wire.header_of(content).get("was", "over")) if request else "", client

    def answered(self, request: str) -> None:
        """A request was answered in the kernel's place."""
        self._old_news[request] = {"reply", "idle"}

    def is_old_news(self, parent: bytes | memoryview, what: str = "") -> bool:
        """Whether a message of the kernel is about a request that was answered in its place. `what`: it is the reply or the idle."""
        if not self._old_news:
            return False
        request = str(wire.header_of(parent).get("msg_id", ""))
        if request not in self._old_news:
            return False
        self._old_news[request].discard(what)
        if not self._old_news[request]:
            del self._old_news[request]
        return True
