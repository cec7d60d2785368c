"""The tables of the registry, and how those of an earlier version become these."""

from __future__ import annotations

import sqlite3

__all__ = ["LIVE", "SCHEMA", "make_tables"]

SCHEMA = 2
"""The version of the tables below, kept in SQLite's `user_version`."""

LIVE = "state IN ('pending', 'running')"

_FIRST = (
    """CREATE TABLE sessions (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, cluster TEXT NOT NULL, kernel_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    notebook TEXT NOT NULL, is_default INTEGER NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    why TEXT NOT NULL, problem TEXT, gateway INTEGER NOT NULL, gateway_start INTEGER NOT NULL, request TEXT NOT NULL,
    state TEXT NOT NULL, allocation TEXT NOT NULL)""",
    f"CREATE UNIQUE INDEX live_names ON sessions (name) WHERE {LIVE}",
    f"CREATE UNIQUE INDEX live_defaults ON sessions (notebook, cluster) WHERE is_default AND {LIVE}",
    "CREATE TABLE choices (notebook TEXT PRIMARY KEY, cluster TEXT NOT NULL, updated REAL NOT NULL)",
    """CREATE TABLE server_kernels (
    kernel_id TEXT PRIMARY KEY, session TEXT NOT NULL, kernel_name TEXT NOT NULL, root TEXT NOT NULL,
    gateway INTEGER NOT NULL, gateway_start INTEGER NOT NULL, detail TEXT NOT NULL)""",
    """CREATE TABLE notebook_sessions (
    id TEXT PRIMARY KEY, kernel_id TEXT NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL)""",
)
_SECOND = (
    "ALTER TABLE sessions ADD COLUMN decision TEXT NOT NULL DEFAULT ''",
    # what was asked for and when it came: it outlives its session, for the next wait to be predicted
    """CREATE TABLE requests (
    session TEXT PRIMARY KEY, cluster TEXT NOT NULL, pool TEXT NOT NULL, gpus INTEGER NOT NULL, time REAL NOT NULL, asked REAL NOT NULL,
    started REAL, ended REAL, promised TEXT, changed INTEGER NOT NULL)""",
    "CREATE INDEX changed_requests ON requests (changed)",
    # a session is written at each of its steps, by whoever drives it; so its request follows, whoever that is
    """CREATE TRIGGER request_started AFTER UPDATE OF started ON sessions WHEN NEW.started IS NOT OLD.started BEGIN
    UPDATE requests SET started = NEW.started, changed = (SELECT coalesce(max(changed), 0) + 1 FROM requests) WHERE session = NEW.id; END""",
    """CREATE TRIGGER request_ended AFTER UPDATE OF ended ON sessions WHEN NEW.ended IS NOT OLD.ended BEGIN
    UPDATE requests SET ended = NEW.ended, changed = (SELECT coalesce(max(changed), 0) + 1 FROM requests) WHERE session = NEW.id; END""",
    # what a session was asked for elsewhere than where its row says: another cluster may start it sooner, or it has to be given back
    "CREATE TABLE contenders (session TEXT NOT NULL, cluster TEXT NOT NULL, allocation TEXT NOT NULL, PRIMARY KEY (session, cluster))",
    "CREATE TABLE decisions (id TEXT PRIMARY KEY, made REAL NOT NULL, notebook TEXT NOT NULL, answer TEXT NOT NULL)",
)


def make_tables(base: sqlite3.Connection, version: int) -> None:
    """Bring the tables of `version` (0: none) to `SCHEMA`, within the caller's transaction."""
    if version < 1:
        _do(base, _FIRST)
    if version < SCHEMA:
        _do(base, _SECOND)
        base.execute("DROP TABLE IF EXISTS waits")  # of the first version: it did not say what was asked for
        base.execute(f"PRAGMA user_version = {SCHEMA}")


def _do(base: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        base.execute(statement)
