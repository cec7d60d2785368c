"""Announces changes of sessions on the server's event stream, so that a panel need not poll."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_remote_gpu.models import Session

if TYPE_CHECKING:
    from jupyter_events import EventLogger

__all__ = ["SCHEMA_ID", "announce", "register"]

SCHEMA_ID = "https://events.jupyter.org/jupyter_remote_gpu/session/v1"

_SCHEMA = {
    "$id": SCHEMA_ID,
    "version": "1",
    "title": "Remote session",
    "description": "A remote session changed. It says which and how it stands, never what runs in it.",
    "personal-data": True,
    "type": "object",
    "required": ["id", "name", "cluster", "state", "link"],
    "properties": {
        "id": {"type": "string", "title": "The session's id"},
        "name": {"type": "string", "title": "The session's name"},
        "cluster": {"type": "string", "title": "The cluster that it runs on"},
        "state": {"enum": ["pending", "running", "ended", "failed"], "title": "The state of its allocation"},
        "link": {"enum": ["connected", "reconnecting", "lost"], "title": "How this gateway reaches it"},
        "kernel": {"type": "string", "title": "The state of its kernel, if known"},
    },
}


def register(logger: EventLogger) -> None:
    """Make the schema known to the server's event logger; more than once is harmless."""
    if SCHEMA_ID not in logger.schemas:
        logger.register_event_schema(_SCHEMA)


def announce(logger: EventLogger, session: Session) -> None:
    """Emit one event that `session` changed."""
    data = {
        "id": session.id,
        "name": session.name,
        "cluster": session.cluster,
        "state": str(session.state),
        "link": str(session.link),
        "kernel": str((session.kernel or {}).get("state", "")),
    }
    logger.emit(schema_id=SCHEMA_ID, data=data)
