from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from tests.extension.test_registry import a_session

from jupyter_remote_gpu.models import AllocationState, ResourceRequest
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.remembered import Remembered
from jupyter_remote_gpu.selection import Basis, Candidate, Wait

WAIT = Wait(10.0, 60.0, 600.0, "the queue", 3, Basis.QUEUE, 50.0)


@pytest.fixture
def registry(tmp_path):
    opened = Registry(tmp_path / "data")
    yield opened
    opened.close()


def ask(registry: Registry, memory: Remembered, identity: str, at: float, **more) -> None:
    session = a_session(identity, name=identity, created=at)
    registry.add(session, ResourceRequest(gpus=2), 1)
    memory.asked(session.id, "local", ResourceRequest(gpus=2, **more), at, Candidate("local", eligible=True, reasons=(), wait=WAIT))


def becomes(registry: Registry, identity: str, state: AllocationState, now: float) -> None:
    registry.record(replace(registry.session(identity).allocation, state=state), now=now)


def test_a_wait_is_learned_when_its_session_runs_whoever_drives_it(registry, tmp_path):
    memory = Remembered(registry)
    ask(registry, memory, "a", 100.0)
    assert memory.history().count("local", Basis.QUEUE) == 0
    other = Registry(tmp_path / "data")  # another gateway drives it
    becomes(other, "a", AllocationState.RUNNING, 250.0)
    other.close()
    assert memory.history().count("local", Basis.QUEUE) == 1
    assert memory.history().count("local", Basis.HISTORY) == 1
    assert memory.history().count("local", Basis.QUEUE) == 1  # once


def test_how_long_gpus_are_held_is_learned_when_the_session_ends(registry):
    memory = Remembered(registry)
    before = memory.history().held("local")
    ask(registry, memory, "a", 100.0)
    becomes(registry, "a", AllocationState.RUNNING, 250.0)
    memory.history()
    becomes(registry, "a", AllocationState.ENDED, 350.0)
    assert memory.history().held("local") < before
    assert Remembered(registry).history().held("local") == memory.history().held("local")


def test_a_request_that_was_given_up_late_counts_as_a_long_wait_and_an_early_one_not_at_all(registry):
    memory = Remembered(registry)
    ask(registry, memory, "early", 100.0)
    becomes(registry, "early", AllocationState.FAILED, 110.0)
    assert memory.history().count("local", Basis.QUEUE) == 0
    ask(registry, memory, "late", 200.0)
    becomes(registry, "late", AllocationState.FAILED, 5000.0)
    assert memory.history().count("local", Basis.QUEUE) == 1


def test_decisions_are_found_by_their_id_and_forgotten_after_a_month(registry):
    memory = Remembered(registry)
    memory.decide("first", 100.0, {"id": "first"}, notebook="a.ipynb")
    memory.decide("second", 200.0, {"id": "second"}, notebook="a.ipynb")
    assert memory.decision("first") == {"id": "first"}
    assert memory.decision("a.ipynb") == {"id": "second"}
    assert memory.decision("") is None
    memory.decide("third", 200.0 + 31 * 86400, {"id": "third"})
    assert memory.decision("second") is None


def test_what_waits_is_known_with_its_gpus(registry):
    memory = Remembered(registry)
    ask(registry, memory, "a", 100.0, nodes=3)
    assert memory.gpus_of(["a", "unknown"]) == {"a": 6}
    assert memory.gpus_of([]) == {}


def test_a_registry_of_the_first_version_is_brought_up_to_date_and_keeps_its_sessions(tmp_path):
    opened = Registry(tmp_path / "data")
    opened.add(a_session("a", name="kept"), ResourceRequest(), 1)
    opened.close()
    base = sqlite3.connect(opened.path)
    for statement in (
        "DROP TRIGGER request_started",
        "DROP TRIGGER request_ended",
        "DROP TABLE requests",
        "DROP TABLE decisions",
        "DROP TABLE contenders",
        "ALTER TABLE sessions DROP COLUMN decision",
        "CREATE TABLE waits (cluster TEXT NOT NULL, request TEXT NOT NULL, asked REAL NOT NULL, started REAL NOT NULL)",
        "PRAGMA user_version = 1",
    ):
        base.execute(statement)
    base.close()
    again = Registry(tmp_path / "data")
    assert again.session("kept").decision == ""
    memory = Remembered(again)
    ask(again, memory, "b", 100.0)
    becomes(again, "b", AllocationState.RUNNING, 130.0)
    assert memory.history().count("local", Basis.HISTORY) == 1
    again.close()
