"""What selections learn from, and what they decided: requests with their waits, and decisions with all their figures, in the registry's file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from sqlite3 import Row
from typing import Any

from jupyter_remote_gpu.models import ResourceRequest, SessionId
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.selection import Basis, Candidate, History, Past, Wait

__all__ = ["Remembered"]

_KEEP_REQUESTS = 90 * 86400.0
_KEEP_DECISIONS = 30 * 86400.0
_NEWEST = 5000
"""Requests that are read when a gateway begins: older ones teach nothing that newer ones do not."""


class Remembered:
    """The memory of one user's selections, shared by his gateways. Times are seconds since the epoch."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._history = History()
        self._read = 0
        self._began: set[str] = set()

    def asked(self, session: SessionId, cluster: str, request: ResourceRequest, at: float, promised: Candidate | None = None) -> None:
        """A session was asked for, on a cluster; `promised` is what the selection expected there. Its start and its end follow by themselves."""
        wait = promised.wait if promised is not None else None
        values = [
            session,
            cluster,
            promised.pool if promised is not None else request.partition,
            (1 if request.gpus is None else request.gpus) * max(1, request.nodes),
            request.time,
            at,
            json.dumps(asdict(wait)) if wait is not None else None,
        ]
        with self._registry.change() as base:
            base.execute(
                "INSERT OR REPLACE INTO requests SELECT ?, ?, ?, ?, ?, ?, NULL, NULL, ?, (SELECT coalesce(max(changed), 0) + 1 FROM requests)",
                values,
            )
            base.execute("DELETE FROM requests WHERE asked < ?", [at - _KEEP_REQUESTS])

    def gpus_of(self, sessions: Sequence[SessionId]) -> dict[SessionId, int]:
        """How many GPUs each of these sessions asked for, as far as that is known."""
        marks = ", ".join("?" * len(sessions))
        rows = self._registry.rows(f"SELECT session, gpus FROM requests WHERE session IN ({marks})", list(sessions))  # noqa: S608  marks alone
        return {SessionId(row["session"]): int(row["gpus"]) for row in rows}

    def history(self) -> History:
        """All that was learned until now."""
        newest = "SELECT * FROM (SELECT * FROM requests WHERE changed > ? ORDER BY changed DESC LIMIT ?) ORDER BY changed"
        for row in self._registry.rows(newest, [self._read, _NEWEST]):
            self._learn(row)
            self._read = max(self._read, int(row["changed"]))
        return self._history

    def _learn(self, row: Row) -> None:
        session, started, ended = str(row["session"]), row["started"], row["ended"]
        if session in self._began:
            if started is not None and ended is not None:
                self._history.add_run(row["cluster"], ended - started)
                self._began.discard(session)
            return
        if started is None and ended is None:
            return
        past = Past(row["cluster"], row["pool"], row["gpus"], row["time"], row["asked"], started, ended, _wait(row["promised"]))
        self._history.add(past)
        if ended is None:
            self._began.add(session)

    def decide(self, identity: str, at: float, answer: Mapping[str, Any], *, notebook: str = "") -> None:
        """Keep a decision for a month."""
        with self._registry.change() as base:
            base.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?)", [identity, at, notebook, json.dumps(answer)])
            base.execute("DELETE FROM decisions WHERE made < ?", [at - _KEEP_DECISIONS])

    def decision(self, key: str) -> dict[str, Any] | None:
        """The decision of that id, or the last one for that notebook."""
        found = "SELECT answer FROM decisions WHERE id = ?1 OR (notebook = ?1 AND notebook != '') ORDER BY id = ?1 DESC, made DESC LIMIT 1"
        rows = self._registry.rows(found, [key])
        return dict(json.loads(rows[0]["answer"])) if rows else None


def _wait(text: str | None) -> Wait | None:
    if not text:
        return None
    said = json.loads(text)
    return Wait(**{**said, "basis": Basis(said["basis"])})
