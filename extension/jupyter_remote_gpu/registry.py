"""What must survive the gateway: sessions, allocations, choices, and the kernels that a server shows (for requests and decisions see `remembered`).

One SQLite file per user, shared by that user's gateways (a Jupyter server and a headless one). It lies in the home folder,
which may be on a network file system, so the journal mode is the classic one: WAL needs shared memory between its users.
Each method is one small transaction.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.models import Allocation, AllocationState, ResourceRequest, Session, SessionId
from jupyter_remote_gpu.registry_tables import LIVE, SCHEMA, make_tables
from remote_gpu.errors import NameTaken, NotWritable
from remote_gpu.folders import private_folder

__all__ = ["NotebookRow", "Registry", "ServerKernelRow"]

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

    def __init__(self, folder: Path, *, trusted: Container[str] = ()) -> None:
        """Open (and make, mode 0600) ``registry.db`` in `folder`; raises `NotWritable` when that cannot be.

        `trusted` are the clusters whose configuration says ``trust``. It is not kept in the file: trust that is taken back is gone.
        """
        self._trusted = trusted
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
        with self.change() as base:
            version = int(base.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA:
                message = f"The registry {self.path} was written by a newer version of jupyter-remote-gpu."
                raise NotWritable(message, hint="Upgrade this one, or set RemoteGpu.data_folder to another folder.")
            if version < SCHEMA:
                make_tables(base, version)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction, with the lock from its beginning. Raises `NotWritable`, and sqlite3's `IntegrityError` as it is."""
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

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query finds. Raises `NotWritable` when the file cannot be read."""
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
            "decision": session.decision,
        }
        marks = ", ".join(f":{name}" for name in values)
        try:
            with self.change() as base:
                base.execute(f"INSERT INTO sessions ({', '.join(values)}) VALUES ({marks})", values)  # noqa: S608  our own names
                base.execute(f"DELETE FROM sessions WHERE NOT {LIVE} AND ended < ?", [session.created - _KEEP_ENDED])  # noqa: S608
        except sqlite3.IntegrityError as error:
            message = f"There is a remote session {session.name!r} already."
            raise NameTaken(message, hint="Choose another name, or stop it first.") from error

    def record(self, allocation: Allocation, *, now: float, problem: Mapping[str, Any] | None = None) -> bool:
        """Write what is known of a session's allocation; False when the session is over already: it stays over."""
        running, over = allocation.state is AllocationState.RUNNING, allocation.state.over
        with self.change() as base:
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
        with self.change() as base:
            base.execute("UPDATE sessions SET why = ? WHERE id = ?", [why, session])

    def session(self, key: str) -> Session | None:
        """The session with that id or kernel id, or the live one of that name, or the last that had it."""
        order = f"ORDER BY id = ?1 DESC, kernel_id = ?1 DESC, {LIVE} DESC, created DESC LIMIT 1"
        rows = self.rows(f"SELECT * FROM sessions WHERE id = ?1 OR kernel_id = ?1 OR name = ?1 {order}", [key])  # noqa: S608
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
            decision=row["decision"],
            trust=row["cluster"] in self._trusted,
        )

    def default_session(self, notebook: str, cluster: str | None = None) -> Session | None:
        """The live session that `notebook` gets without asking for one by name, on `cluster` or (None) on any."""
        query = f"SELECT * FROM sessions WHERE is_default AND notebook = ?1 AND (?2 IS NULL OR cluster = ?2) AND {LIVE}"  # noqa: S608
        rows = self.rows(f"{query} ORDER BY created DESC LIMIT 1", [notebook, cluster])
        return self._session(rows[0]) if rows else None

    def sessions(self, *, since: float | None = None) -> list[Session]:
        """The live sessions, and those that ended after `since`; the oldest first."""
        query = f"SELECT * FROM sessions WHERE {LIVE} OR ended > ? ORDER BY created"  # noqa: S608
        return [self._session(row) for row in self.rows(query, [float("inf") if since is None else since])]

    def take_over(self, session: SessionId, old: tuple[int, int], new: tuple[int, int]) -> bool:
        """Make `new` the gateway (pid, start time) that drives a pending session; False when `old` is not the one any more."""
        change = (
            "UPDATE sessions SET gateway = ?, gateway_start = ? WHERE id = ? AND gateway = ? AND gateway_start = ? AND state = 'pending'"
        )
        with self.change() as base:
            return base.execute(change, [*new, session, *old]).rowcount > 0

    def gateway_of(self, session: SessionId) -> tuple[int, int]:
        """(pid, start time) of the gateway that started a session; (0, 0) when there is no such session."""
        rows = self.rows("SELECT gateway, gateway_start FROM sessions WHERE id = ?", [session])
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    # choices

    def choose(self, notebook: str, cluster: str, now: float) -> None:
        """Remember the user's choice for a notebook; "auto" forgets it."""
        with self.change() as base:
            base.execute("DELETE FROM choices WHERE notebook = ?", [notebook])
            if cluster != "auto":
                base.execute("INSERT INTO choices VALUES (?, ?, ?)", [notebook, cluster, now])

    def choice(self, notebook: str) -> str:
        """The cluster chosen for a notebook, else "auto"."""
        rows = self.rows("SELECT cluster FROM choices WHERE notebook = ?", [notebook])
        return str(rows[0][0]) if rows else "auto"

    # what a server lists, for the next server to list again

    def save_server_kernel(self, row: ServerKernelRow) -> None:
        """Remember (or replace) a kernel of a server."""
        values = [row.kernel_id, row.session, row.kernel_name, row.root, row.gateway, row.gateway_start, json.dumps(dict(row.detail))]
        with self.change() as base:
            base.execute("INSERT OR REPLACE INTO server_kernels VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def server_kernels(self) -> list[ServerKernelRow]:
        """Every server's kernels."""
        return [ServerKernelRow(**{**dict(row), "detail": json.loads(row["detail"])}) for row in self.rows("SELECT * FROM server_kernels")]

    def forget_server_kernel(self, kernel_id: str) -> None:
        """Forget a kernel and the notebook sessions that use it."""
        with self.change() as base:
            base.execute("DELETE FROM server_kernels WHERE kernel_id = ?", [kernel_id])
            base.execute("DELETE FROM notebook_sessions WHERE kernel_id = ?", [kernel_id])

    def save_notebook(self, row: NotebookRow) -> None:
        """Remember (or replace) a notebook session."""
        with self.change() as base:
            values = [row.id, row.kernel_id, row.path, row.name, row.type]
            base.execute("INSERT OR REPLACE INTO notebook_sessions VALUES (?, ?, ?, ?, ?)", values)

    def notebooks(self) -> list[NotebookRow]:
        """Every remembered notebook session."""
        return [NotebookRow(*row) for row in self.rows("SELECT id, kernel_id, path, name, type FROM notebook_sessions")]

    def forget_notebook(self, identity: str) -> None:
        """Forget a notebook session."""
        with self.change() as base:
            base.execute("DELETE FROM notebook_sessions WHERE id = ?", [identity])


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError)
