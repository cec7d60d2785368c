"""Names of what lies in a session's folder; a module of its own so that light commands need not import the supervisor."""

from __future__ import annotations

__all__ = ["JOURNAL_NAME", "LOG_NAME", "SOCKET_NAME", "STATE_NAME"]

SOCKET_NAME = "s.sock"
JOURNAL_NAME = "journal"
LOG_NAME = "log"
STATE_NAME = "state.json"
