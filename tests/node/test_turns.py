"""One cell of a kernel's queue is cancelled, and no other is touched."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import pytest

from remote_gpu.frames import Kind, Lane, encode_json
from remote_gpu.node.turns import Turns

WAIT = "import threading; print('begun', flush=True); threading.Event().wait(60)"


def execute(client, code: str, msg_id: str = "", **about) -> str:
    """Send a cell as the magics do: one that fails stops no other."""
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": False, "user_expressions": {}}
    return client.message(Lane.SHELL, "execute_request", content, metadata={"remote_gpu": {"execution_count": 1, **about}}, identity=msg_id)


def cancel(client, request: str) -> str:
    asked = client.message(Lane.CONTROL, "remote_gpu_request", {"ask": "cancel", "id": request})
    return client.reply(asked).content["was"]


def test_a_waiting_cell_that_is_cancelled_does_not_run_and_says_so(client):
    first, second, third = execute(client, WAIT), execute(client, "ran = 2"), execute(client, "ran = 3")
    client.stream.until(lambda: client.text(first) == "begun\n")
    assert cancel(client, second) == "waiting"
    reply = client.finish(second)  # at once, while the first runs on
    assert (reply["status"], reply["ename"]) == ("error", "Cancelled")
    assert cancel(client, first) == "running"
    assert client.finish(first)["ename"] == "KeyboardInterrupt"
    assert [got.content["ename"] for got in client.of(second, "error")] == ["Cancelled"]
    assert client.finish(third)["status"] == "ok"
    assert cancel(client, third) == "over"
    assert cancel(client, second) == "over"
    assert client.run("ran - 3 or 1/0")["ename"] == "ZeroDivisionError"
    told = [(got.type, got.content.get("execution_state")) for got in client.got if got.parent_id == second]
    assert sorted(told, key=str) == [("error", None), ("execute_reply", None), ("status", "idle")]  # nothing is told twice


def test_a_cell_that_comes_after_it_was_cancelled_does_not_run(client):
    client.stream.call("cancel", id="later")
    first = execute(client, WAIT)
    client.stream.until(lambda: client.text(first) == "begun\n")
    later = execute(client, "ran = 1", msg_id="later")
    assert client.finish(later)["ename"] == "Cancelled"
    assert cancel(client, later) == "over"
    cancel(client, first)
    assert client.run("ran")["ename"] == "NameError"


def test_a_cell_is_cancelled_while_its_kernel_starts(client):
    client.run("1")
    client.stream.send(encode_json(Kind.CALL, {"id": "restart-of-test", "method": "restart", "params": {}}))
    held, kept = execute(client, "ran = 1"), execute(client, "ran = 2")
    assert cancel(client, held) in ("waiting", "running")
    assert client.finish(held)["ename"] in ("Cancelled", "KeyboardInterrupt", "KernelDied")
    assert client.finish(kept)["status"] == "ok" or client.run("1")["status"] == "ok"


def test_what_is_cancelled_does_not_make_the_rest_of_the_queue_fail(client):
    first = execute(client, WAIT)
    rest = [execute(client, f"n = {number}") for number in range(5)]
    client.stream.until(lambda: client.text(first) == "begun\n")
    for request in rest[:4]:
        cancel(client, request)
    asked = client.message(Lane.CONTROL, "remote_gpu_request", {"ask": "cancel", "id": "never"})
    assert client.reply(asked).content == {"status": "ok", "was": "waiting"}
    client.message(Lane.CONTROL, "interrupt_request", {})
    assert client.finish(first)["ename"] == "KeyboardInterrupt"


def test_a_cell_that_fails_drops_the_rest_of_its_own_clients_queue_and_nobody_elses(sessions, session):
    night, run_all = sessions.client(session, "night001"), sessions.client(session, "runall01")
    busy = execute(night, WAIT)
    night.stream.until(lambda: night.text(busy) == "begun\n")
    fails = run_all.execute("1/0")
    run_all.stream.until(lambda: run_all.text(busy) == "begun\n")
    mine, dropped = execute(night, "kept = 1"), run_all.execute("dropped = 1")
    cancel(night, busy)
    assert run_all.finish(fails)["ename"] == "ZeroDivisionError"
    assert run_all.finish(dropped)["status"] == "aborted"
    assert night.finish(mine)["status"] == "ok"


def test_a_cell_that_awaits_is_cancelled_too(client):
    first = execute(client, "import asyncio; print('begun', flush=True); await asyncio.sleep(60)")
    client.stream.until(lambda: client.text(first) == "begun\n")
    assert cancel(client, first) == "running"
    assert client.finish(first)["status"] == "error"
    assert client.run("1")["status"] == "ok"


def test_however_short_the_cells_are_a_cancel_meets_its_own_or_none(client):
    """Each of many short cells is cancelled at some moment of its life; the one after it must never notice."""
    for number in range(60):
        target = execute(client, f"x = {number}")
        follower = execute(client, "import time; time.sleep(0.002); 'well'")
        for _ in range(number % 6):
            client.stream.poll(0)
        was = cancel(client, target)
        reply, after = client.finish(target), client.finish(follower)
        assert after["status"] == "ok", (number, was, after)
        assert reply["status"] == "ok" or reply["ename"] in ("Cancelled", "KeyboardInterrupt"), (number, was, reply)


def test_a_cell_that_is_cancelled_as_its_turn_comes_does_not_go_on(client):
    """IPython runs callbacks before a cell's code, and goes on when one of them is interrupted."""
    client.run("get_ipython().events.register('pre_run_cell', lambda *_: __import__('time').sleep(0.3))")
    first = execute(client, "print('begun')")
    client.stream.until(lambda: client.of(first, "execute_input"))
    assert cancel(client, first) == "running"
    assert client.finish(first)["ename"] == "KeyboardInterrupt"
    assert client.text(first) == ""


def test_a_background_cell_that_asks_for_input_is_told_why_it_cannot(client):
    for call in ("input('? ')", "import getpass; getpass.getpass()"):
        reply = client.finish(execute(client, call, job="1"))
        assert reply["ename"] == "StdinNotImplementedError"
        assert "background" in reply["evalue"]


class Cells:
    """Turns with this process' own main thread as the kernel's."""

    def __init__(self) -> None:
        self.turns = Turns(lambda: os.kill(os.getpid(), signal.SIGINT))

    def run(self, request: str, seconds: float) -> str:
        if not self.turns.begin(request):
            return "cancelled"
        try:
            with self.turns.running():
                if self.turns.starts():
                    return "interrupted"
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    pass
        except KeyboardInterrupt:
            return "interrupted"
        finally:
            self.turns.end()
        return "ran"


def test_an_interrupt_that_comes_as_the_code_ends_is_met_before_the_next_turn():
    cells, stop = Cells(), threading.Event()
    aims = (f"even{number}" for number in itertools.count())
    told: dict[str, str] = {}

    def cancel_the_even_ones() -> None:
        for aim in aims:
            while (was := cells.turns.cancel(aim)) == "waiting" and not stop.is_set():
                cells.turns._cancelled.clear()  # aims at the running one only
            told[aim] = was
            if stop.is_set():
                return

    thread = threading.Thread(target=cancel_the_even_ones)
    thread.start()
    try:
        ends: list[str] = []
        deadline = time.monotonic() + 20
        while len(ends) < 300 or ("interrupted" not in ends and time.monotonic() < deadline):
            number = len(ends)
            ends.append(cells.run(f"even{number}", 0.0003 * (number % 3)))
            assert cells.run(f"odd{number}", 0.0002) == "ran"
    finally:
        stop.set()
        thread.join(10)
    assert set(ends) <= {"ran", "interrupted", "cancelled"}
    assert "interrupted" in ends


def test_what_is_cancelled_between_the_turns_begin_and_its_code_is_told_as_the_code_starts():
    turns = Turns(lambda: pytest.fail("nothing runs"))
    assert turns.begin("a")
    with turns.running():
        assert turns.cancel("a") == "running"
        assert turns.starts()
        assert not turns.starts()
    turns.end()
    assert turns.cancel("a") == "over"
    assert turns.begin("b")
    with turns.running():
        assert not turns.starts()
