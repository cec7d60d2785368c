"""How a wait is shown where it cannot be redrawn, and in a terminal."""

from __future__ import annotations

import io

import pytest

from remote_gpu.waiting import LineWait, RedrawnWait

HOUR = 3600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def out():
    return io.StringIO()


def test_a_queue_of_three_days_is_few_lines(clock, out):
    wait = LineWait(out, clock)
    for place in range(3 * 24 * 120, 0, -1):
        wait.show(f"c: Place {place} in the queue; {place % 7}.5 GPUs free; expected start {place % 24:02}:{place % 60:02}.")
        clock.now += 30
    lines = out.getvalue().splitlines()
    assert 20 < len(lines) < 100
    assert lines[1] != lines[0]


def test_reasons_that_take_turns_do_not_flood(clock, out):
    wait = LineWait(out, clock)
    for turn in range(24 * 120):
        wait.show("c: Others go first." if turn % 2 else f"c: All nodes are busy ({turn}).")
        clock.now += 30
    assert len(out.getvalue().splitlines()) < 50


def test_texts_of_ever_new_kinds_do_not_flood(clock, out):
    wait = LineWait(out, clock)
    for turn in range(24 * 120):
        wait.show(f"c: {'x' * turn}.")
        clock.now += 30
    assert len(out.getvalue().splitlines()) < 60


def test_what_is_of_another_kind_is_told_at_once_and_nothing_twice(clock, out):
    wait = LineWait(out, clock)
    for text in ("c: Submitted as Slurm job 42.", "c: Place 3.", "c: Place 3.", "c: Place 2.", "c: The node boots."):
        wait.show(text)
    wait.end("c: running.")
    assert out.getvalue().splitlines() == ["c: Submitted as Slurm job 42.", "c: Place 3.", "c: The node boots.", "c: running."]


def test_nothing_is_said_at_the_end_of_a_wait_of_which_nothing_was_said(out):
    for wait in (LineWait(out), RedrawnWait(out)):
        wait.end("c: running.")
    assert out.getvalue() == ""


def test_a_terminals_line_is_drawn_over_itself_and_left_for_a_question(out, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    wait = RedrawnWait(out)
    wait.show("a longer line")
    wait.show("short")
    wait.pause()
    wait.show("x" * 50)
    wait.end("done")
    assert out.getvalue() == "\ra longer line\rshort        \n\r" + "x" * 19 + "\rdone" + " " * 15 + "\n"
