"""Cells that do not block, in a real notebook kernel on a real remote session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.cell import once
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import find_or_start_gateway, live_gateways
from remote_gpu.gateway import Gateway

pytestmark = pytest.mark.shared_places

LOAD = "%load_ext remote_gpu"


@pytest.fixture(scope="module")
def notebook(module_places) -> Iterator[Notebook]:
    with Notebook(LOAD) as notebook:
        yield notebook
        for line in notebook.run("%remote_gpu sessions").text.splitlines()[1:]:
            notebook.run(f"%remote_gpu stop {line.split()[-1]}")


class Gate:
    """A remote cell that waits until a file is there."""

    def __init__(self, name: str) -> None:
        self.path = Path(os.environ["JUPYTER_RUNTIME_DIR"]) / f"gate-{name}"

    def code(self, *rest: str) -> str:
        wait = f"import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({str(self.path)!r}): time.sleep(0.01)"
        return "\n".join([wait, *rest])

    def open(self) -> None:
        self.path.touch()


def start(notebook: Notebook, code: str, options: str = "--name job"):
    cell = notebook.run(f"%%remote_gpu --background {options}\n{code}")
    assert cell.reply["status"] == "ok", cell.traceback
    return cell


def until(notebook: Notebook, condition: str) -> None:
    """Wait, in the notebook's own kernel, for `condition`."""
    cell = notebook.run(
        f"import time\nend = time.monotonic() + 30\nwhile not ({condition}):\n    assert time.monotonic() < end\n    time.sleep(0.01)"
    )
    assert not cell.error, cell.traceback + notebook.run("print(job, job.state, job.outputs)").text


def test_a_background_cell_returns_at_once_and_its_output_comes_below_it_while_other_cells_run(notebook):
    gate = Gate("first")
    cell = start(notebook, gate.code("print('ended')", "'the result'"))
    assert cell.result.startswith("<Job 1 (job): "), cell.result
    own = cell.messages[0]["parent_header"]["msg_id"]
    until(notebook, "job.state == 'running' and job.output")
    assert notebook.run("job.output, job.over").result == "('begun\\n', False)"
    asked = notebook.send(f"open({str(gate.path)!r}, 'w').close()")
    shown = notebook.messages_until(lambda m: m["parent_header"].get("msg_id") == own and "ended" in str(m["content"].get("text", "")))
    assert shown["msg_type"] == "stream"
    assert asked != own
    assert notebook.run("job.result()").result == "'the result'"
    assert notebook.run("job.state.value, job.output").result == "('done', \"begun\\nended\\n'the result'\\n\")"
    assert notebook.run("[each['output_type'] for each in job.outputs]").result == "['stream', 'execute_result']"


def test_the_names_that_it_binds_come_back_when_the_result_is_asked_for(notebook):
    notebook.run("base = 20")
    start(notebook, "import math\nfound = base + 1\nmath.floor(0.5) + found")
    assert notebook.run("job.result(), found").result == "(21, 21)"


def test_they_come_back_at_the_start_of_the_next_cell_and_not_in_the_middle_of_one(notebook):
    gate = Gate("names")
    notebook.run("late = 'mine'")
    start(notebook, gate.code("late = 'theirs'"))
    code = f"before = late\nopen({str(gate.path)!r}, 'w').close()\nimport time\nwhile not job.over: time.sleep(0.01)\nbefore, late"
    assert notebook.run(code).result == "('mine', 'mine')"
    assert notebook.run("late").result == "'theirs'"


def test_cells_of_the_queue_see_what_those_before_them_made_though_nothing_has_come_back_yet(notebook):
    gate = Gate("chain")
    notebook.run("model, score = {'trained': False}, None")
    start(notebook, gate.code("model['trained'] = True", "score = 1"), "--name train")
    start(notebook, "seen = (model['trained'], score)\nscore = 2", "--name evaluate")
    gate.open()
    assert notebook.run("evaluate.result(); train.result(); seen").result == "(True, 1)"
    assert notebook.run("%%remote_gpu\nscore").result == "2"


def test_an_error_is_shown_below_its_cell_and_raised_by_result(notebook):
    cell = start(notebook, "{}['missing']")
    own = cell.messages[0]["parent_header"]["msg_id"]
    if not cell.error:
        shown = notebook.messages_until(lambda m: m["parent_header"].get("msg_id") == own and m["msg_type"] == "error")
        assert shown["content"]["ename"] == "KeyError"
    raised = notebook.run("job.result()")
    assert raised.error == "KeyError"
    assert "{}[" in raised.traceback.replace("\x1b", "") or "missing" in raised.traceback
    assert "jobs.py" not in raised.traceback
    assert notebook.run("job.state.value, type(job.exception()).__name__").result == "('failed', 'KeyError')"


def test_jobs_are_awaited_beside_each_other(notebook):
    start(notebook, "1 + 1", "--name one")
    start(notebook, "2 + 2", "--name two")
    assert notebook.run("import asyncio\nawait asyncio.gather(one, two)").result == "[2, 4]"
    assert notebook.run("await one").result == "2"


def test_waiting_for_one_has_a_limit_and_ctrl_c_ends_the_waiting_only(notebook):
    gate = Gate("waiting")
    start(notebook, gate.code("'well'"))
    assert notebook.run("job.wait(0.05)").result == "False"
    assert notebook.run("job.result(timeout=0.05)").error == "TimeoutError"
    cell = notebook.run(
        "print('waits', flush=True); job.result()", when=once(lambda cell: "waits" in cell.text, notebook.manager.interrupt_kernel)
    )
    assert cell.error == "KeyboardInterrupt"
    local = "import time; print('sleeps', flush=True); time.sleep(60)"
    cell = notebook.run(local, when=once(lambda cell: "sleeps" in cell.text, notebook.manager.interrupt_kernel))
    assert cell.error == "KeyboardInterrupt"
    gate.open()
    assert notebook.run("job.result()").result == "'well'"


def test_the_queue_is_shown_and_cancelled_one_by_one(notebook):
    gate = Gate("queue")
    start(notebook, gate.code("ran = ['first']"), "--name first")
    second = start(notebook, "ran.append('second')", "--name second")
    start(notebook, "ran.append('third')\nran", "--name third")
    assert second.result.endswith("1 cell before it>"), second.result
    until(notebook, "first.state == 'running'")
    lines = notebook.run("%remote_gpu queue").text.splitlines()
    assert [line.split()[1:3] for line in lines[2:]] == [["first", "running"], ["second", "waiting"], ["third", "waiting"]]
    assert all("this notebook" in line for line in lines[2:])
    assert "ran.append('second')" in lines[3]
    assert "will not run" in notebook.run("%remote_gpu cancel second").text
    until(notebook, "second.over")
    assert "second" not in notebook.run("%remote_gpu queue").text
    gate.open()
    assert notebook.run("third.result()").result == "['first', 'third']"
    assert notebook.run("second.state.value").result == "'cancelled'"
    assert "over already: cancelled" in notebook.run("%remote_gpu cancel second").text
    assert "Nothing runs or waits" in notebook.run("%remote_gpu queue").text
    assert "There is no job '4711'" in notebook.run("%remote_gpu cancel 4711").text


def test_a_running_one_is_interrupted_by_cancel_and_its_variables_stay(notebook):
    start(notebook, Gate("never").code())
    start(notebook, "'after'", "--name after")
    until(notebook, "job.state == 'running' and job.output")
    assert notebook.run("job.cancel()").result == "True"
    assert notebook.run("after.result()").result == "'after'"
    assert notebook.run("job.state.value, job.cancel()").result == "('cancelled', False)"


def test_a_cell_that_was_cancelled_as_soon_as_it_was_sent_never_runs(notebook):
    notebook.run("%%remote_gpu\nruns = 0")
    for _ in range(5):
        cell = notebook.run(
            "job = get_ipython().run_cell_magic('remote_gpu', '--background', 'import threading; threading.Event().wait(20)')\n"
            "other = get_ipython().run_cell_magic('remote_gpu', '--background', 'runs += 1')\nother.cancel(), job.cancel()"
        )
        assert cell.result == "(True, True)"
        assert notebook.run("job.wait(20), other.wait(20), other.state.value").result == "(True, True, 'cancelled')"
    assert notebook.run("%%remote_gpu\nruns").result == "0"


def test_a_foreground_cell_waits_for_its_turn_and_stop_takes_it_alone_out_of_the_queue(notebook):
    gate = Gate("turn")
    start(notebook, gate.code("'undisturbed'"))
    until(notebook, "job.state == 'running'")
    states = []

    def waits(cell) -> bool:
        states.append((cell.record or {}).get("state"))
        return states[-1] == "queued"

    cell = notebook.run("%%remote_gpu\n'in front'", when=once(waits, notebook.manager.interrupt_kernel))
    assert cell.error == "Cancelled", cell.traceback
    assert notebook.run("job.state.value").result == "'running'"
    gate.open()
    assert notebook.run("job.result()").result == "'undisturbed'"


def test_input_is_refused_with_the_reason(notebook):
    start(notebook, "input('name? ')")
    cell = notebook.run("job.result()", answers=["Ada"])
    assert cell.error == "StdinNotImplementedError"
    assert "background" in cell.traceback
    assert not cell.prompts


def test_a_mistaken_name_is_told_before_anything_is_sent(notebook):
    cell = notebook.run("%%remote_gpu --background --name two-words\n1")
    assert (cell.reply["status"], "'two-words' cannot be one" in cell.text) == ("error", True)


def test_its_record_says_that_it_waits_runs_and_is_done(notebook):
    gate = Gate("record")
    start(notebook, gate.code())
    cell = start(notebook, "print('x')", "--name second")
    own, states = cell.messages[0]["parent_header"]["msg_id"], []

    def record(message) -> bool:
        data = (message["content"].get("data") or {}).get("application/vnd.jupyter-remote-gpu.run+json")
        if data and message["parent_header"].get("msg_id") == own:
            states.append(data["state"])
        if states == ["queued"]:
            gate.open()
        return bool(states) and states[-1] == "done"

    if cell.record:
        states.append(cell.record["state"])
    notebook.messages_until(record)
    assert list(dict.fromkeys(states)) == ["queued", "running", "done"]


def test_background_cells_go_on_when_their_gateway_dies_and_no_line_is_lost(notebook):
    gate = Gate("gateway")
    cell = start(notebook, gate.code("for n in range(200): print(n)", "'kept'"))
    own = cell.messages[0]["parent_header"]["msg_id"]
    start(notebook, "print('the next one')\n'also kept'", "--name second")
    until(notebook, "job.state == 'running'")
    for record in live_gateways():
        os.kill(record.pid, signal.SIGKILL)
    gate.open()
    # Nobody waits for it and no cell is run: the notebook's kernel finds another gateway by itself.
    text = ""
    while "199\n" not in text:
        shown = notebook.messages_until(lambda m: m["msg_type"] == "stream" and m["parent_header"].get("msg_id") == own, timeout=60)
        text += shown["content"]["text"]
    assert notebook.run("job.result(), second.result()").result == "('kept', 'also kept')"
    assert notebook.run("job.output.split()[1:201] == [str(n) for n in range(200)]").result == "True"


@pytest.mark.parametrize(("end", "words"), [("restart", "restarted"), ("stop", "stopped")])
def test_a_restart_or_stop_ends_all_jobs_of_the_session_with_the_reason(notebook, end, words):
    start(notebook, Gate("none").code(), f"--session ends-{end} --name job")
    start(notebook, "1", f"--session ends-{end} --name second")
    until(notebook, "job.state == 'running'")
    notebook.run(f"%remote_gpu {end} ends-{end}")
    cell = notebook.run("second.result()")
    assert cell.error in ("KernelDied", "SessionEnded")
    assert words in cell.traceback or "over" in cell.traceback
    assert notebook.run("second.state.value").result == "'lost'"
    assert notebook.run("job.wait(20), job.state.value").result in ("(True, 'lost')", "(True, 'failed')")  # it is interrupted first
    notebook.run(f"%remote_gpu stop ends-{end}")


def test_a_kernel_that_dies_takes_its_jobs_along_and_says_why(notebook):
    start(notebook, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "--session dies --name job")
    assert notebook.run("job.wait(30), job.state.value").result == "(True, 'lost')"
    assert "SIGKILL" in notebook.run("job.result()").traceback
    notebook.run("%remote_gpu stop dies")


def test_another_notebooks_waiting_cells_are_shown_as_such_and_can_be_cancelled(notebook, module_places):
    gate = Gate("shared")
    start(notebook, gate.code(), "--session shared --name job")
    with Notebook(LOAD) as other:
        start(other, "'theirs'", "--session shared --name theirs")
        lines = notebook.run("%remote_gpu queue shared").text.splitlines()[2:]
        assert ["this notebook" in line for line in lines] == [True, False]
        assert "'theirs'" not in lines[1]
        code = lines[1].split()[0]
        assert "will not run" in notebook.run(f"%remote_gpu cancel {code} --session shared").text
        gate.open()
        assert other.run("theirs.wait(30), theirs.state.value").result == "(True, 'cancelled')"
    notebook.run("%remote_gpu stop shared")


def test_a_kernel_that_exits_leaves_its_jobs_running_and_says_so(module_places):
    gate = Gate("exit")
    with Notebook(LOAD) as leaving:
        start(leaving, gate.code("kept = 'to its end'"))
        until(leaving, "job.state == 'running'")
        session = leaving.run("job.attached.info.id").result.strip("'")
        leaving.run("exit")
    with Gateway(find_or_start_gateway()) as gateway:
        assert gateway.session(session).state.lower() == "running"
        assert [cell["state"] for cell in gateway.queue(session)] == ["running"]
    gate.open()
    with Notebook(LOAD) as second:
        assert second.run(f"%remote_gpu attach {session}").record["state"] == "done"
        assert second.run("%%remote_gpu\nkept").result == "'to its end'"
        second.run(f"%remote_gpu stop {session}")


def test_the_queue_of_a_notebook_kernel_that_died_is_followed_by_the_next_one(module_places):
    gate = Gate("orphans")
    with Notebook(LOAD) as first:
        start(first, gate.code("print('first ended')", "found = 1"), "--session night --name one")
        start(first, "print('second ran')\nfound += 1", "--session night --name two")
        start(first, "print('third ran')\nfound += 1", "--session night --name three")
        until(first, "one.output")
        first.kill()
    with Notebook(LOAD) as second:
        cell = second.run("%remote_gpu attach night", when=once(lambda cell: True, gate.open))
        assert cell.stream("stdout").split() == ["first", "ended", "second", "ran", "third", "ran"]
        assert second.run("%%remote_gpu --session night\nfound").result == "3"
        assert "Nothing runs or waits" in second.run("%remote_gpu queue night").text
        second.run("%remote_gpu stop night")
    assert not list(module_places.runtime.glob("remote-gpu-jobs-*"))
