"""The end of a session: when a cell speaks of it, and how."""

from __future__ import annotations

import datetime as dt
import time
from types import SimpleNamespace

import pytest

from remote_gpu.ends import crossed, warn_of_end
from remote_gpu.errors import GatewayUnavailable
from remote_gpu.gateway import SessionInfo
from remote_gpu.times import clock, end_in_words, left_in_words, moment

HOUR = 3600.0


def iso(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def info(left: float, total: float, now: float | None = None) -> SessionInfo:
    now = time.time() if now is None else now
    return SessionInfo("id", "train", "montreal", state="running", started=iso(now + left - total), ends=iso(now + left))


@pytest.mark.parametrize(
    ("left", "total", "marks"),
    [
        (5 * HOUR, 24 * HOUR, set()),
        (2 * HOUR, 24 * HOUR, {"a tenth"}),
        (500.0, 24 * HOUR, {"a tenth", "ten minutes"}),
        (500.0, HOUR, {"ten minutes"}),
        (300.0, HOUR, {"a tenth", "ten minutes"}),
        (-1.0, HOUR, set()),
    ],
)
def test_a_tenth_and_ten_minutes_count(left, total, marks):
    assert {mark for _, mark in crossed(info(left, total, 1e9), 1e9)} == marks


def test_a_session_without_an_end_never_comes_near_it():
    assert crossed(SessionInfo("id"), 1e9) == set()


class Attached(SimpleNamespace):
    def update(self, known):
        self.info = known


def told(attached, answer, capsys) -> str:
    def session(_):
        asked.append(1)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asked: list[int] = []
    warn_of_end(attached, SimpleNamespace(gateway=SimpleNamespace(session=session)))
    attached.asked = len(asked)
    return capsys.readouterr().err


def test_each_mark_is_told_once_and_anew_after_the_end_was_moved(capsys):
    attached = Attached(info=info(2 * HOUR, 24 * HOUR), warned=set())
    first = told(attached, attached.info, capsys)
    assert first.startswith("Session 'train' on montreal ends ")
    assert "in 1 h 59 min. %remote_gpu extend" in first
    assert told(attached, attached.info, capsys) == ""
    assert attached.asked == 0
    near = info(300.0, 24 * HOUR)
    attached.info = near
    assert "4 min 59 s" in told(attached, near, capsys)
    assert told(attached, near, capsys) == ""
    attached.info = info(301.0, 30 * HOUR)
    assert "5 min" in told(attached, attached.info, capsys)


def test_the_gateway_is_asked_only_near_the_end_and_an_end_that_was_moved_is_believed(capsys):
    attached = Attached(info=info(5 * HOUR, 24 * HOUR), warned=set())
    assert told(attached, None, capsys) == ""
    assert attached.asked == 0
    attached.info, later = info(300.0, 24 * HOUR), info(8 * HOUR, 32 * HOUR)
    assert told(attached, later, capsys) == ""
    assert attached.info is later


def test_without_an_answer_what_is_known_is_told(capsys):
    attached = Attached(info=info(300.0, 24 * HOUR), warned=set())
    assert "ends" in told(attached, GatewayUnavailable("away"), capsys)


@pytest.fixture
def london(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_moments_are_said_in_the_users_own_time(london):
    now = moment("2026-07-01T12:00:00Z")
    assert end_in_words("2026-07-01T13:20:30.000Z", now) == "ends 14:20, in 1 h 20 min"
    assert clock(moment("2026-07-02T13:05:00Z"), now) == "Thu 14:05"
    assert clock(moment("2026-08-02T13:05:00Z"), now) == "2 Aug 14:05"
    assert left_in_words("2026-07-01T11:00:00Z", now) == "0 s"
    assert (end_in_words("", now), left_in_words("nonsense", now), moment("")) == ("", "", 0.0)
