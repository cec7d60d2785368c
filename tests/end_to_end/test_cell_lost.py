"""What a cell does when its session, its gateway or its request goes away under it, and what its record says then."""

from __future__ import annotations

import os
import signal

import pytest
from tests.contracts.cell import once
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

pytestmark = [pytest.mark.shared_places, pytest.mark.slow]

LOAD = "%load_ext remote_gpu"
WAITS = "import threading\nprint('begun', flush=True)\nthreading.Event().wait(100)"


@pytest.fixture(scope="module")
def notebook(module_places):
    with Notebook(LOAD) as notebook:
        yield notebook


def stop(name: str) -> None:
    with Gateway(find_or_start_gateway()) as gateway:
        gateway.stop_session(name)


def test_a_cell_whose_session_is_stopped_fails_at_once_and_its_record_says_so(notebook):
    cell = notebook.run(f"%%remote_gpu --session victim\n{WAITS}", when=once(lambda cell: "begun" in cell.text, lambda: stop("victim")))
    assert cell.error in ("KernelDied", "SessionEnded"), cell.traceback
    assert cell.record["state"] == "lost"
    assert cell.record["ended"]


def test_a_cell_whose_gateway_and_session_are_killed_fails_and_its_record_says_so(notebook):
    def kill() -> None:
        record = find_or_start_gateway()
        with Gateway(record) as gateway:
            supervisor = gateway.session("doomed")
        os.kill(record.pid, signal.SIGKILL)
        from remote_gpu.node.sessions import call

        call(supervisor.id, "stop")

    cell = notebook.run(f"%%remote_gpu --session doomed\n{WAITS}", when=once(lambda cell: "begun" in cell.text, kill))
    assert cell.error in ("SessionEnded", "UnknownSession", "KernelDied"), cell.traceback
    assert cell.record["state"] == "lost"
    assert notebook.run("%%remote_gpu --session doomed\n1").result == "1"
    stop("doomed")


def test_a_request_that_its_gateway_took_to_the_grave_is_sent_again_once(notebook):
    assert notebook.run("%%remote_gpu --session again\ntimes = 0").error == ""
    pid = find_or_start_gateway().pid
    os.kill(pid, signal.SIGSTOP)
    asked = notebook.send("%%remote_gpu --session again\ntimes += 1\nprint('ran')\ntimes")
    notebook.messages_until(lambda message: "application/vnd.jupyter-remote-gpu.run+json" in (message["content"].get("data") or {}))
    os.kill(pid, signal.SIGKILL)
    cell = notebook.run("", msg_id=asked)
    assert (cell.text, cell.result, cell.error) == ("ran\n", "1", ""), cell.traceback
    assert cell.record["state"] == "done"
    assert notebook.run("%%remote_gpu --session again\ntimes").result == "1"
    stop("again")


def test_a_request_that_arrived_is_not_sent_again(notebook):
    assert notebook.run("%%remote_gpu --session once\ntimes = 0").error == ""
    code = "times += 1\nimport time\nprint('begun', flush=True)\ntime.sleep(3)\ntimes"
    kill = once(lambda cell: "begun" in cell.text, lambda: os.kill(find_or_start_gateway().pid, signal.SIGKILL))
    assert notebook.run(f"%%remote_gpu --session once\n{code}", when=kill).result == "1"
    stop("once")


def test_only_the_cell_that_waited_for_a_session_says_how_long(notebook):
    first = notebook.run("%%remote_gpu --session waited\n1").record
    assert first["queued_s"] > 0
    assert "queued_s" not in notebook.run("%%remote_gpu --session waited\n1").record
    stop("waited")


def test_an_idle_kernel_is_said_to_be_idle_right_after_a_cell(notebook):
    notebook.run("%%remote_gpu --session calm\nimport time; time.sleep(0.2)")
    for verb in ("status calm", "sessions", "status --session calm"):
        said = notebook.run(f"%remote_gpu {verb}").text
        line = next(line for line in said.splitlines() if "calm" in line)
        assert "idle" in line
    stop("calm")


@pytest.mark.parametrize("verb", ["restart", "interrupt", "logs", "start", "status", "attach", "stop"])
def test_a_session_may_be_named_by_the_option_as_well(notebook, verb):
    notebook.run("%%remote_gpu --session named\n1")
    cell = notebook.run(f"%remote_gpu {verb} --session named")
    assert cell.error == "", cell.traceback
    assert "UsageError" not in cell.text
