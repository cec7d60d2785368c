"""What a cell shows and asks while its session starts, in a real notebook kernel with a gateway that has a queue and a login that asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contracts.cell import once
from tests.fakes.notebook import Cell, Notebook

pytestmark = pytest.mark.shared_places

LOAD = (
    "import sys; sys.path.insert(0, {root!r})\nfrom tests.fakes import asking_gateway\nfrom tests.fakes.asking_gateway import Step\n"
    "gateway = asking_gateway.load(get_ipython())"
)
QUEUE = [
    "Step('Submitted as Slurm job 42.')",
    "Step('Place 3 in the queue; expected start 14:05.')",
    "Step('Place 2 in the queue; expected start 14:00.')",
    "Step('The node boots.')",
]
PASSWORD = "Step('Logging in.', ask=('secret', '(me@host.example) Password:'))"
CELL = "%%remote_gpu --no-sync\n6 * 7"


@pytest.fixture(scope="module")
def notebook(module_places, request) -> Iterator[Notebook]:
    with Notebook(LOAD.format(root=str(request.config.rootpath))) as notebook:
        yield notebook


@pytest.fixture
def queue(notebook):
    """Have the next session start in these steps."""

    def set_steps(*steps: str) -> None:
        notebook.run(f"gateway.steps = [{', '.join(steps)}]; gateway.answers.clear(); gateway.refused.clear(); gateway.bodies.clear()")

    yield set_steps
    notebook.run("gateway.steps = []; gateway._prompts.clear()")
    notebook.run("for each in [each for each in gateway.sessions()]: get_ipython().run_line_magic('remote_gpu', 'stop ' + each.name)")


def value(notebook: Notebook, code: str) -> Any:
    return ast.literal_eval(notebook.run(code).result)


def watched(notebook: Notebook, code: str = CELL, **more: Any) -> Cell:
    """Run a cell as in a browser: somebody could answer."""
    return notebook.run(code, answers=more.pop("answers", ["nothing asks for this"]), **more)


def displays(cell: Cell) -> list[str]:
    """What the cell showed in place of each other, in order, without its record."""
    data = [each["content"]["data"] for each in cell.messages if each["msg_type"] in ("display_data", "update_display_data")]
    return [each["text/plain"] for each in data if len(each) == 1]


def test_a_notebook_shows_a_queue_as_one_output_that_changes(notebook, queue):
    queue(*QUEUE)
    cell = watched(notebook)
    shown = displays(cell)
    assert shown[:4] == [
        "plain: Submitted as Slurm job 42.",
        "plain: Place 3 in the queue; expected start 14:05.",
        "plain: Place 2 in the queue; expected start 14:00.",
        "plain: The node boots.",
    ]
    assert [each["data"]["text/plain"] for each in cell.outputs if each["type"] == "display_data"] == [shown[-1]]
    assert shown[-1].startswith("plain: running on here after ")
    assert (cell.result, cell.stream("stderr")) == ("42", "")


def test_where_nobody_looks_lines_are_few(notebook, queue):
    queue(*QUEUE)
    lines = notebook.run(CELL).stream("stderr").splitlines()
    assert lines[:3] == [
        "plain: Submitted as Slurm job 42.",
        "plain: Place 3 in the queue; expected start 14:05.",
        "plain: The node boots.",
    ]
    assert len(lines) == 4


def test_a_start_that_is_quick_shows_nothing(notebook, queue):
    cell = watched(notebook)
    assert (displays(cell), cell.stream("stderr"), cell.result) == ([], "", "42")


def test_what_is_asked_for_goes_to_the_gateway_and_a_cell_without_options_finds_the_session_again(notebook, queue):
    queue()
    first = notebook.run("%%remote_gpu --no-sync --gpus 2 --time 1h --exclusive\nimport os\nos.getpid()")
    assert value(notebook, "[body.get('request') for body in gateway.bodies]") == [{"gpus": 2, "time": 3600, "exclusive": True}]
    assert notebook.run("%%remote_gpu --no-sync\nos.getpid()").result == first.result
    assert len(value(notebook, "[body.get('request') for body in gateway.bodies]")) == 1


def test_a_password_is_asked_in_the_cell_hidden_and_once(notebook, queue):
    queue(PASSWORD, *QUEUE)
    cell = watched(notebook, answers=["s3cret word"])
    assert cell.prompts == [("Login to host.example: (me@host.example) Password: ", True)]
    assert cell.result == "42"
    assert value(notebook, "gateway.answers") == ["s3cret word"]
    assert "s3cret word" not in str(cell.messages)


def test_a_host_key_is_confirmed_in_the_open_and_a_notice_is_shown(notebook, queue):
    queue(
        "Step(ask=('confirm', 'The authenticity of host X cannot be established.\\nContinue connecting (yes/no/[fingerprint])?'))",
        "Step(ask=('notice', 'Touch your key.\\x1b[2J'))",
    )
    cell = watched(notebook, answers=["y"])
    (asked,) = cell.prompts
    assert asked[0].startswith("Login to host.example: The authenticity")
    assert asked[1] is False
    assert value(notebook, "gateway.answers") == ["yes"]
    assert cell.stream("stderr") == "Login to host.example: Touch your key. [2J\n"
    assert cell.result == "42"


def test_a_wrong_answer_is_asked_anew_and_a_question_that_vanished_is_not(notebook, queue):
    queue(PASSWORD, PASSWORD)
    assert len(watched(notebook, answers=["wrong", "right"]).prompts) == 2
    queue(PASSWORD)
    notebook.run("%remote_gpu stop default")
    notebook.run("old, gateway.answer = gateway.answer, lambda *words: (gateway.vanish(), old(*words))")
    cell = watched(notebook, answers=["late"])
    notebook.run("del gateway.answer")
    assert (len(cell.prompts), cell.result) == (1, "42")
    assert value(notebook, "gateway.answers") == []


def test_without_anybody_to_ask_the_cell_says_where_to_log_in(notebook, queue):
    queue(PASSWORD)
    cell = notebook.run(CELL)
    assert cell.error == "AccessRefused"
    assert "`jupyter remote-gpu login plain` in a terminal" in cell.traceback
    assert 'File "' not in cell.traceback
    assert value(notebook, "gateway.refused") == ["(me@host.example) Password:"]
    assert value(notebook, "[each.state for each in gateway.sessions()]") == ["failed"]  # the next cell does not find it pending


def test_the_stop_button_at_a_question_refuses_it(notebook, queue):
    queue(PASSWORD)
    cell = watched(notebook, answers=["\0never"], when=once(lambda cell: cell.prompts, notebook.manager.interrupt_kernel))
    assert cell.error == "AccessRefused"
    assert "%remote_gpu login plain asks again" in cell.traceback
    assert "remote_gpu/" not in cell.traceback
    assert (value(notebook, "gateway.refused"), value(notebook, "gateway.answers")) == (["(me@host.example) Password:"], [])


def test_a_failing_answer_leaves_no_trace_of_it_in_the_traceback(notebook, queue):
    queue(PASSWORD)
    notebook.run("%xmode Verbose")
    notebook.run("from remote_gpu.errors import GatewayUnavailable\ndef fails(prompt, text): raise GatewayUnavailable('It is away.')")
    notebook.run("gateway.answer = fails")
    cell = watched(notebook, answers=["s3cret word"])
    notebook.run("del gateway.answer")
    notebook.run("%xmode Context")
    assert cell.error == "GatewayUnavailable"
    assert "s3cret word" not in str(cell.messages)
    seen = notebook.run("import sys; error = sys.last_value; error.__context__, 's3cret' in str(error.__dict__)").result
    assert seen == "(None, False)"


def test_the_stop_button_ends_the_waiting_and_the_request_stays(notebook, queue):
    queue("Step('Submitted as Slurm job 42.')", "Step('Place 3 in the queue.', for_ever=True)")
    before = value(notebook, "gateway.starts")
    cell = watched(notebook, when=once(lambda cell: any("Place 3" in each for each in displays(cell)), notebook.manager.interrupt_kernel))
    assert cell.error == "StoppedWaiting"
    for words in ("'default'", "plain (Place 3 in the queue)", "%remote_gpu stop default cancels it", "the next cell waits on"):
        assert words in cell.traceback
    assert "remote_gpu/" not in cell.traceback
    assert "pending · Place 3 in the queue." in notebook.run("%remote_gpu status default").text
    notebook.run("gateway.steps[1] = Step('Place 1 in the queue.')")
    assert watched(notebook).result == "42"
    assert value(notebook, "gateway.starts") == before + 1


def test_a_session_that_waits_is_cancelled(notebook, queue):
    queue("Step('Place 3 in the queue.', for_ever=True)")
    watched(notebook, when=once(displays, notebook.manager.interrupt_kernel))
    assert "is cancelled: it had not started" in notebook.run("%remote_gpu stop default").text
    assert "default" not in notebook.run("%remote_gpu sessions").text


def test_a_start_that_fails_says_why(notebook, queue):
    queue(PASSWORD)
    notebook.run("old, gateway.answer = gateway.answer, lambda prompt, text: gateway.refuse(prompt)")
    cell = watched(notebook, answers=["wrong"])
    notebook.run("del gateway.answer")
    assert cell.error == "AccessRefused"
    assert "Session 'default' on plain did not start: Permission denied." in cell.traceback


def test_a_gateway_that_is_replaced_meanwhile_is_waited_for(notebook, queue):
    queue(*QUEUE)
    notebook.run(
        "from remote_gpu.errors import GatewayUnavailable\nold, fails = gateway.session, [1, 1]\n"
        "def session(*words, **more):\n    if more.get('wait') and fails:\n        fails.pop(); raise GatewayUnavailable('It is away.')\n"
        "    return old(*words, **more)\ngateway.session = session"
    )
    cell = watched(notebook)
    notebook.run("del gateway.session")
    assert cell.result == "42"
