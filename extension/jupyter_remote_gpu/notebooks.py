"""Which notebooks use remote kernels: remembered, so that the next server lists them again under the same ids.

jupyter_server keeps its notebook sessions in an SQLite table of its own, in memory by default. A trigger on that table tells each
change at once, whoever made it, so that a server that is killed has lost nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from jupyter_server.services.sessions.sessionmanager import SessionManager

from jupyter_remote_gpu.registry import NotebookRow, Registry
from remote_gpu.errors import RemoteGpuError

__all__ = ["Notebooks"]

_FUNCTION = "remote_gpu_notebook"
_SAID = f"SELECT {_FUNCTION}(NEW.session_id, NEW.kernel_id, NEW.path, NEW.name, NEW.type)"
_TRIGGERS = (
    f"CREATE TEMP TRIGGER remote_gpu_new AFTER INSERT ON session BEGIN {_SAID}; END",
    f"CREATE TEMP TRIGGER remote_gpu_change AFTER UPDATE ON session BEGIN {_SAID}; END",
    f"CREATE TEMP TRIGGER remote_gpu_end AFTER DELETE ON session BEGIN SELECT {_FUNCTION}(OLD.session_id, NULL, NULL, NULL, NULL); END",
)


class Notebooks:
    """Writes the notebook sessions of remote kernels to the registry, and reads them back at the next start."""

    def __init__(self, manager: Any, registry: Registry, is_remote: Callable[[str], bool], log: Any) -> None:
        self._registry = registry
        self._is_remote = is_remote
        self._log = log
        self._kept: set[str] = set()
        self._open = isinstance(manager, SessionManager)
        self._manager = manager
        if not self._open:
            log.warning("This server has a session manager of its own: its notebooks are not kept over a restart of the server.")

    def restore(self) -> None:
        """Put back the notebooks whose kernels are there, forget the others that were this list's, then watch the table."""
        if not self._open:
            return
        cursor = self._manager.cursor
        for row in self._registry.notebooks():
            if not self._is_remote(row.kernel_id):
                continue
            self._kept.add(row.id)
            if cursor.execute("SELECT 1 FROM session WHERE session_id = ?", [row.id]).fetchone() is None:
                values = [row.id, row.path, row.name, row.type, row.kernel_id]
                cursor.execute("INSERT INTO session (session_id, path, name, type, kernel_id) VALUES (?, ?, ?, ?, ?)", values)
        self._watch(self._manager.connection)

    def close(self) -> None:
        """Do not take the end of the server for the end of its notebooks."""
        self._open = False

    def _watch(self, connection: sqlite3.Connection) -> None:
        connection.create_function(_FUNCTION, 5, self._changed)
        for trigger in _TRIGGERS:
            connection.execute(trigger)

    def _changed(self, identity: str, kernel_id: str | None, path: str | None, name: str | None, kind: str | None) -> None:
        if not self._open:
            return
        try:
            if kernel_id is not None and self._is_remote(kernel_id):
                self._registry.save_notebook(NotebookRow(identity, kernel_id, path or "", name or "", kind or ""))
                self._kept.add(identity)
            elif identity in self._kept:
                self._kept.discard(identity)
                self._registry.forget_notebook(identity)
        except RemoteGpuError as error:
            self._log.warning("%s", error)
