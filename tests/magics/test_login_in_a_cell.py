"""A login that is needed while a cell runs, and the commands about logins and ends; in a real notebook kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.cell import once
from tests.fakes.notebook import Notebook
from tests.magics.login_cells import CUT, REFUSED, RIGHT, value

pytestmark = pytest.mark.shared_places

LOAD = (
    "import sys, dataclasses; sys.path.insert(0, {root!r})\nfrom pathlib import Path\nfrom tests.fakes import asking_gateway\n"
    "gateway = asking_gateway.load(get_ipython())"
)
# A plain kernel's own word on the interrupt has let the magics think that all is well again.
LOST = "from remote_gpu.running import LinkLost\nfor each in get_ipython()._remote_gpu.parts.sessions.known(): each.connection.asides.outage = LinkLost('access_refused', 'x')"


@pytest.fixture(scope="module")
def notebook(module_places, request) -> Iterator[Notebook]:
    with Notebook(LOAD.format(root=str(request.config.rootpath))) as notebook:
        yield notebook


@pytest.fixture
def cut(notebook, module_places) -> Iterator[str]:
    """Code of a remote cell whose connection is lost, and that then waits until the login works; out of which nothing comes meanwhile."""
    works = module_places.base / "works"
    works.unlink(missing_ok=True)
    notebook.run("%%remote_gpu --no-sync\npass")
    notebook.run(f"gateway.works = Path({str(works)!r}); gateway._host('refused', {REFUSED!r}); gateway.change(link='lost')")
    notebook.run("gateway.begun = 0; gateway.answers.clear(); gateway.refused.clear()")
    yield CUT.format(text=REFUSED, works=str(works))
    works.touch()
    notebook.run("gateway._host('in'); gateway.change(link='connected')")
    assert notebook.run("%%remote_gpu --no-sync\n1").result == "1"


def test_a_running_cell_logs_in_with_a_question_and_goes_on(notebook, cut):
    cell = notebook.run(f"%%remote_gpu --no-sync\nprint('before')\n{cut}print('after')\n'the end'", answers=[RIGHT])
    assert cell.prompts == [("Login to host.example: (me@host.example) Password: ", True)]
    assert cell.stream("stderr").splitlines() == [REFUSED, "Logged in to host.example.", "Connected again."]
    assert (cell.stream("stdout"), cell.result) == ("before\nafter\n", "'the end'")
    assert RIGHT not in str(cell.messages)
    assert value(notebook, "gateway.begun") == 1


def test_a_cell_whose_user_does_not_answer_waits_on_and_the_stop_button_still_works(notebook, cut, module_places):
    works = Path(module_places.base / "works")
    refuse = once(lambda cell: cell.prompts, notebook.manager.interrupt_kernel)
    go = once(lambda cell: "output is kept" in cell.text, works.touch)
    cell = notebook.run(f"%%remote_gpu --no-sync\n{cut}print('after')", answers=["\0never"], when=lambda cell: [*refuse(cell), *go(cell)])
    said = cell.stream("stderr")
    assert "You did not answer, so the login to host.example was given up. This cell runs on there and its output is kept;" in said
    assert "`jupyter remote-gpu login plain` in a terminal" in said
    assert (cell.stream("stdout"), cell.error) == ("after\n", "")
    assert value(notebook, "gateway.refused, gateway.answers") == (["(me@host.example) Password:"], [])


def test_a_cell_that_nobody_can_be_asked_in_waits_on(notebook, cut, module_places):
    go = once(lambda cell: "output is kept" in cell.text, (module_places.base / "works").touch)
    cell = notebook.run(f"%%remote_gpu --no-sync\n{cut}print('after')", when=go)
    assert "nobody can answer here" in cell.stream("stderr")
    assert cell.stream("stderr").endswith("Connected again.\n")
    assert (cell.stream("stdout"), cell.error) == ("after\n", "")


def test_a_wrong_answer_is_said_and_the_cell_waits_on(notebook, cut, module_places):
    go = once(lambda cell: "output is kept" in cell.text, (module_places.base / "works").touch)
    cell = notebook.run(f"%%remote_gpu --no-sync\n{cut}", answers=["wrong"], when=go)
    assert "Permission denied (password). This cell runs on there" in cell.stream("stderr")
    assert (len(cell.prompts), cell.error) == (1, "")


def test_a_cell_that_begins_meanwhile_asks_first_and_fails_if_nobody_answers(notebook, cut):
    interrupt = once(lambda cell: "output is kept" in cell.text, notebook.manager.interrupt_kernel)
    assert notebook.run(f"%%remote_gpu --no-sync\n{cut}", when=interrupt).error == "KeyboardInterrupt"
    notebook.run(LOST)
    cell = notebook.run("%%remote_gpu --no-sync\n'not run'")
    assert (cell.error, cell.result) == ("AccessRefused", "")
    assert "`jupyter remote-gpu login plain`" in cell.traceback
    cell = notebook.run("%%remote_gpu --no-sync\n'run'", answers=[RIGHT])
    assert (len(cell.prompts), cell.result) == (1, "'run'")


def test_another_loss_is_told_and_nobody_is_asked(notebook, cut, module_places):
    go = once(lambda cell: "Too old" in cell.text, (module_places.base / "works").touch)
    code = cut.replace("access_refused", "version_mismatch").replace(REFUSED, "Too old.")
    cell = notebook.run(f"%%remote_gpu --no-sync\n{code}", answers=["x"], when=go)
    assert (cell.prompts, cell.error) == ([], "")


def test_login_asks_and_says_where(notebook, cut):
    cell = notebook.run("%remote_gpu login", answers=["wrong"])
    assert cell.error == "AccessRefused"
    assert "Permission denied (password)." in cell.traceback
    assert notebook.run("%remote_gpu login plain", answers=[RIGHT]).text == "Logged in to host.example.\n"
    assert notebook.run("%remote_gpu login --cluster plain").text == "Logged in to host.example.\n"


def test_logout_says_of_what(notebook, cut):
    assert notebook.run("%remote_gpu logout").text == "Logged out of host.example; sessions there go on.\n"
    assert value(notebook, "gateway.host.state") == "out"


def test_login_without_anybody_to_ask_names_the_command_line(notebook, cut):
    cell = notebook.run("%remote_gpu login")
    assert cell.error == "AccessRefused"
    assert "Run `jupyter remote-gpu login plain` in a terminal" in cell.traceback


def test_status_tells_the_time_left_and_a_login_that_does_not_work(notebook, cut):
    notebook.run(
        "import datetime; gateway.change(ends=(datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=80.5)).isoformat())"
    )
    said = notebook.run("%remote_gpu status").text
    assert re.search(r"Session 'default': plain · here · CPU only · idle, link lost · ends [\w :]*\d\d:\d\d, in 1 h 20 min\n", said)
    assert f"  login to host.example: needs you. {REFUSED}\n" in said
    heads, line = notebook.run("%remote_gpu sessions").text.splitlines()
    assert "time left" in heads
    assert line[heads.index("time left") :].startswith("1 h 20 min")
    notebook.run("gateway.change(ends='')")


def test_extend_says_the_new_end_and_a_refusal_in_the_schedulers_words(notebook, cut):
    cell = notebook.run("%remote_gpu extend --time 2h")
    assert cell.error == "NotAllowed"
    assert "Requested time limit is invalid" in cell.traceback
    assert 'File "' not in cell.traceback
    notebook.run("gateway.change(ends='2099-01-01T11:00:00Z')")
    said = notebook.run("%remote_gpu extend default").text
    assert re.fullmatch(r"Session 'default' on plain now ends 1 Jan \d\d:00, in \d+ h \d+ min\.\n", said)
    notebook.run("%remote_gpu extend --time 30")
    assert value(notebook, "gateway.extended") == [3600, 1800]
    notebook.run("gateway.change(ends='')")


def test_a_cell_speaks_of_a_near_end_once_and_its_record_has_the_end(notebook):
    notebook.run("%remote_gpu stop default")
    notebook.run("ends = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)).isoformat()")
    notebook.run(
        "old, gateway._granted = gateway._granted, lambda info: gateway._kept(dataclasses.replace(info, link='connected', ends=ends))"
    )
    first = notebook.run("%%remote_gpu --no-sync\n1")
    second = notebook.run("%%remote_gpu --no-sync\n1")
    notebook.run("del gateway._granted")
    assert re.fullmatch(r"Session 'default' on plain ends .*, in 4 min \d+ s\. %remote_gpu extend asks for more time\.\n", first.text)
    assert second.text == ""
    assert first.record["ends"] == second.record["ends"] == notebook.run("ends").result.strip("'")
