"""What a session was asked for on other clusters than the one in its row: they may start it sooner, or have to be given back.

Each is in the registry's file before its cluster is asked, so that a gateway that comes after a crash knows all of them.
"""

from __future__ import annotations

import json

from jupyter_remote_gpu.models import Allocation, SessionId
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.registry_tables import LIVE

__all__ = ["Contenders"]


class Contenders:
    """Those of all sessions. Each method is one transaction."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def put(self, allocation: Allocation) -> None:
        """Write down what is known of one."""
        with self._registry.change() as base:
            values = [allocation.session, allocation.cluster, json.dumps(allocation.json())]
            base.execute("INSERT OR REPLACE INTO contenders VALUES (?, ?, ?)", values)

    def drop(self, allocation: Allocation) -> None:
        """It is given back."""
        with self._registry.change() as base:
            base.execute("DELETE FROM contenders WHERE session = ? AND cluster = ?", [allocation.session, allocation.cluster])

    def of(self, session: SessionId) -> list[Allocation]:
        """What a session was asked for elsewhere."""
        rows = self._registry.rows("SELECT allocation FROM contenders WHERE session = ? ORDER BY rowid", [session])
        return [Allocation.from_json(json.loads(row["allocation"])) for row in rows]

    def sessions(self) -> list[SessionId]:
        """The sessions that were asked for on more than one cluster."""
        return [SessionId(row["session"]) for row in self._registry.rows("SELECT DISTINCT session FROM contenders")]

    def move(self, allocation: Allocation, why: str, *, asked: float | None = None) -> bool:
        """Let the session be where `allocation` is from now on; what it had before becomes a contender. False when it is over.

        Its wait counts for the new cluster, since `asked` (None: since it was asked for at all), and what was promised of the old one does not.
        """
        with self._registry.change() as base:
            row = base.execute(f"SELECT cluster, allocation FROM sessions WHERE id = ? AND {LIVE}", [allocation.session]).fetchone()  # noqa: S608
            if row is None:
                return False
            if row["cluster"] == allocation.cluster:
                return True
            base.execute("INSERT OR REPLACE INTO contenders VALUES (?, ?, ?)", [allocation.session, row["cluster"], row["allocation"]])
            base.execute("DELETE FROM contenders WHERE session = ? AND cluster = ?", [allocation.session, allocation.cluster])
            base.execute(
                "UPDATE sessions SET cluster = ?, allocation = ?, why = ? WHERE id = ?",
                [allocation.cluster, json.dumps(allocation.json()), why, allocation.session],
            )
            base.execute(
                "UPDATE requests SET cluster = ?, pool = '', promised = NULL, asked = coalesce(?, asked) WHERE session = ?",
                [allocation.cluster, asked, allocation.session],
            )
        return True
