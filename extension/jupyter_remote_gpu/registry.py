"""What must survive the gateway: sessions, allocations, waits, choices, and the kernels that a server shows.

One SQLite file per user, shared by that user's gateways (a Jupyter server and a headless one). It lies in the home folder,
which may be on a network file system, so the journal mode is the classic one: WAL needs shared memory between its users.
Each method is one small transaction.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.models import Allocation, AllocationState, ResourceRequest, Session, SessionId
from remote_gpu.errors import NameTaken, NotWritable
from remote_gpu.folders import private_folder

__all__ = ["NotebookRow", "Registry", "ServerKernelRow"]

SCHEMA = 1
"""The version of the tables below, kept in SQLite's `user_version`."""

_LIVE = "state IN ('pending', 'running')"
_TABLES = f"""
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, cluster TEXT NOT NULL, kernel_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    notebook TEXT NOT NULL, is_default INTEGER NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    why TEXT NOT NULL, problem TEXT, gateway INTEGER NOT NULL, gateway_start INTEGER NOT NULL, request TEXT NOT NULL,
    state TEXT NOT NULL, allocation TEXT NOT NULL
);
CREATE UNIQUE INDEX live_names ON sessions (name) WHERE {_LIVE};
CREATE UNIQUE INDEX live_defaults ON sessions (notebook, cluster) WHERE is_default AND {_LIVE};
CREATE TABLE waits (
    cluster TEXT NOT NULL, request TEXT NOT NULL, asked REAL NOT NULL, started REAL NOT NULL
);
CREATE TABLE choices (notebook TEXT PRIMARY KEY, cluster TEXT NOT NULL, updated REAL NOT NULL);
CREATE TABLE server_kernels (
    kernel_id TEXT PRIMARY KEY, session TEXT NOT NULL, kernel_name TEXT NOT NULL, root TEXT NOT NULL,
    gateway INTEGER NOT NULL, gateway_start INTEGER NOT NULL, detail TEXT NOT NULL
);
CREATE TABLE notebook_sessions (
    id TEXT PRIMARY KEY, kernel_id TEXT NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL
);
"""
_RECORD = (
    "UPDATE sessions SET allocation = ?, state = ?, started = CASE WHEN ? THEN coalesce(started, ?) ELSE started END,"
    " ended = CASE WHEN ? THEN ? ELSE ended END, problem = coalesce(?, problem) WHERE id = ? AND state IN ('pending', 'running')"
)
_DAMAGED = "The file is damaged and was left as it is. Move it away to begin with an empty one; kernels on their nodes go on meanwhile."
_ELSEWHERE = "Set RemoteGpu.data_folder to a writable folder of your own."
_KEEP_ENDED = 14 * 86400.0  # seconds that an ended session stays, for its reason to be read


@dataclass(frozen=True, slots=True)
class ServerKernelRow:
    """A kernel in a server's list that is a remote session: what a next server needs to list it again.

    `root` is the server's root folder; `gateway` and `gateway_start` name the server's process, so that a second
    server never takes a living one's kernels; `detail` is the adopter's own.
    """

    kernel_id: str
    session: str
    kernel_name: str
    root: str
    gateway: int
    gateway_start: int
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NotebookRow:
    """A notebook session of a server (an entry of ``/api/sessions``) whose kernel is a remote session."""

    id: str
    kernel_id: str
    path: str
    name: str
    type: str


class Registry:
    """The registry's file, open. Its times are seconds since the epoch."""

    def __init__(self, folder: Path, *, trusted: Collection[str] = ()) -> None:
        """Open (and make, mode 0600) ``registry.db`` in `folder`; raises `NotWritable` when that cannot be.

        `trusted` are the clusters whose configuration says ``trust``. It is not kept in the file: trust that is taken back is gone.
        """
        self._trusted = frozenset(trusted)
        self.path = private_folder(folder) / "registry.db"
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            self.path.chmod(0o600)
            self._base = sqlite3.connect(self.path, timeout=5, isolation_level=None)
            self._base.row_factory = sqlite3.Row
            self._base.execute("PRAGMA journal_mode = TRUNCATE")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._migrate()
        except (OSError, sqlite3.Error) as error:
            message = f"Cannot open the registry of remote sessions {self.path}: {error}."
            raise NotWritable(message, hint=_DAMAGED if _is_damage(error) else _ELSEWHERE) from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _migrate(self) -> None:
        with self._change() as base:
            version = int(base.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA:
                message = f"The registry {self.path} was written by a newer version of jupyter-remote-gpu."
                raise NotWritable(message, hint="Upgrade this one, or set RemoteGpu.data_folder to another folder.")
            if version == 0:
                for statement in _TABLES.split(";"):
                    base.execute(statement)
                base.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        try:
            self._base.execute("BEGIN IMMEDIATE")  # the lock comes first: two gateways cannot both have read the old state
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            message = f"Cannot write the registry of remote sessions {self.path}: {error}."
            hint = _DAMAGED if _is_damage(error) else "Is the disk full, or does another program hold the file?"
            raise NotWritable(message, hint=hint) from error

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        try:
            return self._base.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            message = f"Cannot read the registry of remote sessions {self.path}: {error}."
            raise NotWritable(message, hint=_DAMAGED if _is_damage(error) else "Does another program hold the file?") from error

    # sessions

    def add(self, session: Session, request: ResourceRequest, gateway_start: int) -> None:
        """Write a new session; raises `NameTaken` when a live one has its name or is its notebook's default already."""
        values = {
            "id": session.id,
            "name": session.name,
            "cluster": session.cluster,
            "kernel_id": session.kernel_id,
            "owner": session.owner,
            "notebook": session.notebook,
            "is_default": int(session.default),
            "created": session.created,
            "started": session.started,
            "ended": session.ended,
            "why": session.why,
            "problem": None,
            "gateway": session.gateway,
            "gateway_start": gateway_start,
            "request": json.dumps({name: getattr(request, name) for name in request.__slots__}),
            "state": session.state,
            "allocation": json.dumps(session.allocation.json()),
        }
        marks = ", ".join(f":{name}" for name in values)
        try:
            with self._change() as base:
                base.execute(f"INSERT INTO sessions ({', '.join(values)}) VALUES ({marks})", values)  # noqa: S608  our own names
                base.execute(f"DELETE FROM sessions WHERE NOT {_LIVE} AND ended < ?", [session.created - _KEEP_ENDED])  # noqa: S608
        except sqlite3.IntegrityError as error:
            message = f"There is a remote session {session.name!r} already."
            raise NameTaken(message, hint="Choose another name, or stop it first.") from error

    def record(self, allocation: Allocation, *, now: float, problem: Mapping[str, Any] | None = None) -> bool:
        """Write what is known of a session's allocation; False when the session is over already: it stays over."""
        running, over = allocation.state is AllocationState.RUNNING, allocation.state.over
        with self._change() as base:
            done = base.execute(
                _RECORD,
                [
                    json.dumps(allocation.json()),
                    allocation.state,
                    running,
                    now,
                    over,
                    now,
                    json.dumps(problem) if problem is not None else None,
                    allocation.session,
                ],
            )
        return done.rowcount > 0

    def explain(self, session: SessionId, why: str) -> None:
        """Write the sentence that says why the session is where it is."""
        with self._change() as base:
            base.execute("UPDATE sessions SET why = ? WHERE id = ?", [why, session])

    def session(self, key: str) -> Session | None:
        """The session with that id or kernel id, or the live one of that name, or the last that had it."""
        order = f"ORDER BY id = ?1 DESC, kernel_id = ?1 DESC, {_LIVE} DESC, created DESC LIMIT 1"
        rows = self._all(f"SELECT * FROM sessions WHERE id = ?1 OR kernel_id = ?1 OR name = ?1 {order}", [key])  # noqa: S608
        return self._session(rows[0]) if rows else None

    def _session(self, row: sqlite3.Row) -> Session:
        return Session(
            id=SessionId(row["id"]),
            name=row["name"],
            cluster=row["cluster"],
            kernel_id=row["kernel_id"],
            allocation=Allocation.from_json(json.loads(row["allocation"])),
            owner=row["owner"],
            notebook=row["notebook"],
            default=bool(row["is_default"]),
            created=row["created"],
            started=row["started"],
            ended=row["ended"],
            why=row["why"],
            problem=json.loads(row["problem"]) if row["problem"] else None,
            gateway=row["gateway"],
            trust=row["cluster"] in self._trusted,
        )

    def default_session(self, notebook: str, cluster: str | None = None) -> Session | None:
        """The live session that `notebook` gets without asking for one by name, on `cluster` or (None) on any."""
        query = f"SELECT * FROM sessions WHERE is_default AND notebook = ?1 AND (?2 IS NULL OR cluster = ?2) AND {_LIVE}"  # noqa: S608
        rows = self._all(f"{query} ORDER BY created DESC LIMIT 1", [notebook, cluster])
        return self._session(rows[0]) if rows else None

    def sessions(self, *, since: float | None = None) -> list[Session]:
        """The live sessions, and those that ended after `since`; the oldest first."""
        query = f"SELECT * FROM sessions WHERE {_LIVE} OR ended > ? ORDER BY created"  # noqa: S608
        return [self._session(row) for row in self._all(query, [float("inf") if since is None else since])]

    def gateway_of(self, session: SessionId) -> tuple[int, int]:
        """(pid, start time) of the gateway that started a session; (0, 0) when there is no such session."""
        rows = self._all("SELECT gateway, gateway_start FROM sessions WHERE id = ?", [session])
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    # history of waits

    def add_wait(self, cluster: str, request: ResourceRequest, asked: float, started: float) -> None:
        """Remember how long a request waited on a cluster."""
        value = json.dumps({name: getattr(request, name) for name in request.__slots__})
        with self._change() as base:
            base.execute("INSERT INTO waits VALUES (?, ?, ?, ?)", [cluster, value, asked, started])
            base.execute("DELETE FROM waits WHERE asked < ?", [started - 90 * 86400])

    def waits(self, cluster: str, *, limit: int = 200) -> list[tuple[float, float]]:
        """(asked, started) of the last requests on a cluster, the newest first."""
        rows = self._all("SELECT asked, started FROM waits WHERE cluster = ? ORDER BY asked DESC LIMIT ?", [cluster, limit])
        return [(float(row[0]), float(row[1])) for row in rows]

    # choices

    def choose(self, notebook: str, cluster: str, now: float) -> None:
        """Remember the user's choice for a notebook; "auto" forgets it."""
        with self._change() as base:
            base.execute("DELETE FROM choices WHERE notebook = ?", [notebook])
            if cluster != "auto":
                base.execute("INSERT INTO choices VALUES (?, ?, ?)", [notebook, cluster, now])

    def choice(self, notebook: str) -> str:
        """The cluster chosen for a notebook, else "auto"."""
        rows = self._all("SELECT cluster FROM choices WHERE notebook = ?", [notebook])
        return str(rows[0][0]) if rows else "auto"

    # what a server lists, for the next server to list again

    def save_server_kernel(self, row: ServerKernelRow) -> None:
        """Remember (or replace) a kernel of a server."""
        values = [row.kernel_id, row.session, row.kernel_name, row.root, row.gateway, row.gateway_start, json.dumps(dict(row.detail))]
        with self._change() as base:
            base.execute("INSERT OR REPLACE INTO server_kernels VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def server_kernels(self) -> list[ServerKernelRow]:
        """Every server's kernels."""
        return [ServerKernelRow(**{**dict(row), "detail": json.loads(row["detail"])}) for row in self._all("SELECT * FROM server_kernels")]

    def forget_server_kernel(self, kernel_id: str) -> None:
        """Forget a kernel and the notebook sessions that use it."""
        with self._change() as base:
            base.execute("DELETE FROM server_kernels WHERE kernel_id = ?", [kernel_id])
            base.execute("DELETE FROM notebook_sessions WHERE kernel_id = ?", [kernel_id])

    def save_notebook(self, row: NotebookRow) -> None:
        """Remember (or replace) a notebook session."""
        with self._change() as base:
            values = [row.id, row.kernel_id, row.path, row.name, row.type]
            base.execute("INSERT OR REPLACE INTO notebook_sessions VALUES (?, ?, ?, ?, ?)", values)

    def notebooks(self) -> list[NotebookRow]:
        """Every remembered notebook session."""
        return [NotebookRow(*row) for row in self._all("SELECT id, kernel_id, path, name, type FROM notebook_sessions")]

    def forget_notebook(self, identity: str) -> None:
        """Forget a notebook session."""
        with self._change() as base:
            base.execute("DELETE FROM notebook_sessions WHERE id = ?", [identity])


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError)
