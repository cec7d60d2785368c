"""The queue: ``/remote-gpu/sessions/SESSION/queue``. The cells that run and wait in a session's kernel, whoever sent them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from jupyter_remote_gpu.handlers.base import Handler, authorized

__all__ = ["CancelHandler", "QueueHandler"]


class QueueHandler(Handler):
    """The cells of one session."""

    _track_activity = False

    @authorized
    async def get(self, session: str) -> None:
        """In their order, the running one first. No code: a session may have many owners."""
        sessions = self.parts.sessions
        found = await sessions.get(session)
        cells = (await sessions.call(found.id, "queue"))["cells"]
        clients = {each["owner"]: sessions.attachment(found.id, each["owner"]) for each in cells}
        names = {owner: attachment.terms.name for owner, attachment in clients.items() if attachment is not None}
        self.answer({"cells": [_described(each, names.get(each["owner"], "")) for each in cells]})


class CancelHandler(Handler):
    """One cell of the queue."""

    @authorized
    async def delete(self, session: str, cell: str) -> None:
        """Have it not run if it waits, interrupt it if it runs; no other cell is touched."""
        found = await self.parts.sessions.call(session, "cancel", {"id": cell})
        self.answer({"id": cell, "was": found["was"]})


def _described(cell: dict[str, Any], client: str) -> dict[str, Any]:
    begun, number, job = cell.get("begun"), cell.get("cell"), cell.get("job")
    return {
        "id": str(cell["id"]),
        "state": "waiting" if begun is None else "running",
        "since": _iso(cell["since"]),
        "begun": None if begun is None else _iso(begun),
        "client": client,
        "cell": number if isinstance(number, int) else None,
        "job": str(job) if job is not None else "",
    }


def _iso(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="milliseconds")
