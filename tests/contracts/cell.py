"""What a remote cell does, wherever it runs: a suite for every way from a notebook to a node.

A test class inherits `CellContract` and has a module-scoped fixture `notebook` with the magics loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.notebook import Cell, Notebook


def once(condition: Any, *actions: Any) -> Any:
    """For `Notebook.run(when=…)`: the actions, the first time that the condition holds."""
    done: list[bool] = []

    def when(cell: Cell) -> Any:
        if not done and condition(cell):
            done.append(True)
            return actions
        return ()

    return when


def asked_again(condition: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether `condition` comes true within some tries: a question to a remote kernel that has no answer within 0.3 s is given up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


class CellSmoke:
    """What is tried on each way to a node: a case for each thing that a way could break."""

    def remote(self, notebook: Notebook, code: str, options: str = "", **more: Any) -> Cell:
        return notebook.run(f"%%remote_gpu {options}\n{code}", **more)

    def test_a_cell_runs_in_another_process_that_the_next_cell_finds_again(self, notebook):
        cell = self.remote(notebook, "import os\nkept = 41\nos.getpid()")
        remote = cell.result
        assert remote.isdigit(), (cell.text, cell.traceback, cell.reply, cell.record)
        assert remote != notebook.run("import os; os.getpid()").result
        assert self.remote(notebook, "kept + 1, os.getpid()").result == f"(42, {remote})"

    def test_both_streams_come_in_order(self, notebook):
        code = "import sys\nfor n in range(50):\n    print('out', n, flush=True)\n    print('err', n, file=sys.stderr, flush=True)"
        cell = self.remote(notebook, code)
        assert cell.stream("stdout").splitlines() == [f"out {n}" for n in range(50)]
        assert cell.stream("stderr").splitlines() == [f"err {n}" for n in range(50)]
        assert cell.record["lines"] == 100

    def test_many_lines_arrive_once_and_in_order(self, notebook):
        cell = self.remote(notebook, "for n in range(20000): print(n)")
        got = cell.stream("stdout").split()
        assert got == [str(n) for n in range(20000)], (
            len(got),
            got[:3],
            got[-3:],
            cell.error,
            cell.traceback,
            cell.stream("stderr"),
            cell.record,
        )

    def test_text_is_shown_while_the_cell_runs(self, notebook):
        code = "import threading\nprint('begun', flush=True)\nthreading.Event().wait(60)"
        cell = self.remote(notebook, code, when=once(lambda cell: "begun" in cell.text, notebook.manager.interrupt_kernel))
        assert cell.error == "KeyboardInterrupt"

    def test_rich_output_keeps_every_mime_type(self, notebook):
        code = "from IPython.display import HTML, display\ndisplay({'text/plain': 'p', 'text/html': '<b>h</b>', 'application/x-own+json': {'a': [1]}}, raw=True)"
        assert self.remote(notebook, code).bundles() == [{"text/plain": "p", "text/html": "<b>h</b>", "application/x-own+json": {"a": [1]}}]

    def test_a_display_is_updated_also_by_a_later_cell(self, notebook):
        code = (
            "from IPython.display import HTML, display\nhandle = display(HTML('first'), display_id='same')\nhandle.update(HTML('second'))"
        )
        shown = self.remote(notebook, code)
        assert shown.bundles()[0]["text/html"] == "second"
        self.remote(notebook, "handle.update(HTML('third'))")
        assert shown.bundles()[0]["text/html"] == "third"
        notebook.run("from IPython.display import HTML, display; local = display(HTML('mine'), display_id='same')")
        assert shown.bundles()[0]["text/html"] == "third"

    def test_input_and_getpass_ask_here(self, notebook):
        code = "import getpass\nprint('before')\nname = input('name? ')\nword = getpass.getpass('word? ')\nname, word"
        cell = self.remote(notebook, code, answers=["Ada", "secret"])
        assert cell.prompts == [("name? ", False), ("word? ", True)]
        assert cell.result == "('Ada', 'secret')"
        assert cell.text == "before\n"

    def test_an_error_has_the_remote_name_traceback_and_line(self, notebook):
        cell = self.remote(notebook, "\ndef f():\n    return {}['key']\nf()")
        assert cell.error == "KeyError"
        assert cell.reply["status"] == "error"
        assert cell.reply["evalue"] == "'key'"
        assert "\x1b[" in cell.traceback
        assert cell.record["state"] == "failed"
        assert [each["type"] for each in cell.outputs].count("error") == 1
        assert "remote_gpu/" not in cell.traceback
        plain = notebook.run(f"import re; re.sub('\\x1b\\\\[[0-9;]*m', '', {cell.traceback!r})").result
        assert "line 5" in plain
        assert "line 4" in plain

    def test_run_all_stops_at_an_error(self, notebook):
        first = notebook.send("%%remote_gpu --no-sync\nimport time; time.sleep(0.5); 1/0")  # the next one is in the queue by then
        second = notebook.send("print('not run')")
        assert notebook.run("", msg_id=first).error == "ZeroDivisionError"
        reply = notebook.client.get_shell_msg(timeout=30)
        assert (reply["parent_header"]["msg_id"], reply["content"]["status"]) == (second, "aborted")

    def test_the_stop_button_interrupts_and_keeps_the_variables(self, notebook):
        code = "import time\nkept = 7\nprint('sleeping', flush=True)\ntime.sleep(60)"
        cell = self.remote(notebook, code, when=once(lambda cell: "sleeping" in cell.text, notebook.manager.interrupt_kernel))
        assert cell.error == "KeyboardInterrupt"
        assert cell.record["state"] == "interrupted"
        assert self.remote(notebook, "kept").result == "7"

    def test_completion_sees_remote_names_and_local_ones_elsewhere(self, notebook):
        self.remote(notebook, "remote_only_name = 1", "--no-sync")
        notebook.run("from remote_gpu import completion as asking\nasking._FIRST_LIMIT = asking._LIMIT = 60\nlocal_only_name = 1")
        assert asked_again(lambda: "remote_only_name" in notebook.ask("complete", "%%remote_gpu\nremote_on")["matches"])
        assert "remote_only_name" not in notebook.ask("complete", "remote_on")["matches"]
        assert "local_only_name" in notebook.ask("complete", "local_on")["matches"]

    def test_a_widget_is_shown_and_answers(self, notebook):
        code = "import ipywidgets\nslider = ipywidgets.IntSlider(value=3)\nslider.observe(lambda change: print('moved to', change['new']), 'value')\nslider"
        cell = self.remote(notebook, code)
        assert cell.error == "", cell.traceback
        view = next(bundle for bundle in cell.bundles() if "application/vnd.jupyter.widget-view+json" in bundle)
        comm_id = view["application/vnd.jupyter.widget-view+json"]["model_id"]
        assert any(each["content"]["comm_id"] == comm_id and each["msg_type"] == "comm_open" for each in notebook.comms)
        content = {"comm_id": comm_id, "data": {"method": "update", "state": {"value": 5}, "buffer_paths": []}}
        message = notebook.client.session.msg("comm_msg", content)
        notebook.client.shell_channel.send(message)
        heard = []
        notebook.messages_until(lambda each: heard.append(each) or (_is_idle(each) and _parent(each) == message["header"]["msg_id"]))
        mine = [each for each in heard if _parent(each) == message["header"]["msg_id"]]
        assert "moved to 5" in "".join(each["content"].get("text", "") for each in mine)
        assert self.remote(notebook, "slider.value").result == "5"

    def test_the_record_says_where_the_cell_ran(self, notebook):
        record = self.remote(notebook, "print('a line')").record
        assert {"session", "session_id", "cluster", "node", "gpu", "run_s", "started", "ended", "lines", "complete", "state"} <= set(record)
        assert (record["state"], record["lines"], record["complete"]) == ("done", 1, True)

    def test_names_cross_small_ones_and_a_large_array(self, notebook):
        notebook.run("import numpy as np\nfactor, large = 3, np.arange(2_000_000)")
        cell = self.remote(notebook, "double = [2 * factor]\ntotal = int(large.sum())\nmade = large + 1")
        assert not cell.error, cell.traceback
        assert notebook.run("double, total, int(made.fetch()[-1])").result == "([6], 1999999000000, 2000000)"


class CellContract(CellSmoke):
    """The whole of it."""

    def test_text_on_both_streams_keeps_its_order_without_a_flush(self, notebook):
        cell = self.remote(notebook, "import sys\nfor n in range(20):\n    print('out', n)\n    print('err', n, file=sys.stderr)")
        assert cell.text.splitlines() == [f"{name} {n}" for n in range(20) for name in ("out", "err")]

    def test_the_last_expression_bears_the_local_number(self, notebook):
        cell = self.remote(notebook, "'a' * 3")
        result = next(each for each in cell.outputs if each["type"] == "execute_result")
        assert (result["data"]["text/plain"], result["execution_count"]) == ("'aaa'", cell.reply["execution_count"])

    def test_a_plot_is_shown_inline(self, notebook):
        cell = self.remote(notebook, "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()")
        assert any("image/png" in bundle for bundle in cell.bundles())

    def test_output_is_cleared_and_the_record_stays(self, notebook):
        code = "from IPython.display import clear_output\nfor n in range(5):\n    clear_output(wait=True)\n    print(n)"
        cell = self.remote(notebook, code)
        assert cell.text.split()[-1] == "4"
        assert cell.record["state"] == "done"

    def test_a_progress_bar_is_one_bar(self, notebook):
        cell = self.remote(notebook, "from tqdm import tqdm\nfor n in tqdm(range(30)): pass")
        assert cell.text.count("\n") == 1
        assert "30/30" in cell.text.rpartition("\r")[2]

    def test_input_without_a_frontend_that_answers_fails_as_it_does_locally(self, notebook):
        assert self.remote(notebook, "input('nobody? ')").error == "StdinNotImplementedError"

    def test_await_magics_and_shell_commands_run_remotely(self, notebook):
        assert self.remote(notebook, "import asyncio\nawait asyncio.sleep(0.01)\n'slept'").result == "'slept'"
        assert self.remote(notebook, "%who_ls").error == ""
        assert self.remote(notebook, "marker = 'x1'\n!echo shell-$((40+2)) {marker}").text.split() == ["shell-42", "x1"]
        assert self.remote(notebook, "%%bash\necho from bash").text == "from bash\n"

    def test_a_syntax_error_is_shown_as_such(self, notebook):
        cell = self.remote(notebook, "x = = 1")
        assert cell.error == "SyntaxError"
        assert "x = = 1" in cell.traceback

    def test_a_prompt_can_be_interrupted(self, notebook):
        cell = self.remote(
            notebook,
            "kept = 8\ninput('stop me ')",
            when=once(lambda cell: cell.prompts, notebook.manager.interrupt_kernel),
            answers=["\0never"],
        )
        assert cell.error == "KeyboardInterrupt"
        assert self.remote(notebook, "kept").result == "8"

    def test_a_page_of_help_goes_to_the_pager(self, notebook):
        self.remote(notebook, "def documented():\n    'Help for the user.'")
        cell = self.remote(notebook, "documented?")
        assert "Help for the user." in cell.reply["payload"][0]["data"]["text/plain"]

    def test_the_remote_code_can_set_the_next_input(self, notebook):
        cell = self.remote(notebook, "get_ipython().set_next_input('x = 2')")
        assert cell.reply["payload"][0]["text"] == "x = 2"

    def test_inspection_sees_remote_objects(self, notebook):
        self.remote(notebook, "def explained():\n    'Help for the user.'", "--no-sync")
        assert asked_again(lambda: notebook.ask("inspect", "%%remote_gpu\nexplained")["found"])
        found = notebook.ask("inspect", "%%remote_gpu\nexplained")
        assert "Help for the user." in found["data"]["text/plain"]
        assert not notebook.ask("inspect", "explained")["found"]

    def test_verbs_options_and_names_are_completed(self, notebook):
        self.remote(notebook, "pass")
        assert "status" in notebook.ask("complete", "%remote_gpu sta")["matches"]
        assert "--session" in notebook.ask("complete", "%%remote_gpu --se")["matches"]
        assert notebook.ask("complete", "%%remote_gpu --cluster ")["matches"]
        assert notebook.ask("complete", "%remote_gpu stop ")["matches"]

    def test_on_makes_following_cells_remote_until_off(self, notebook):
        remote = self.remote(notebook, "import os\nos.getpid()").result
        notebook.run("%remote_gpu on")
        try:
            assert notebook.run("import os\nos.getpid()").result == remote
            assert notebook.run("%%local\nimport os\nos.getpid()").result not in ("", remote)
            assert notebook.run("%remote_gpu status").text
            assert notebook.run("1/0").error == "ZeroDivisionError"
            assert notebook.run("await __import__('asyncio').sleep(0)\nos.getpid()").result == remote
            notebook.client.is_complete("def f():\n    pass\n\nf()")
            assert notebook.client.get_shell_msg(timeout=30)["content"]["status"] == "complete"
        finally:
            notebook.run("%remote_gpu off")
        assert notebook.run("import os\nos.getpid()").result != remote

    def test_sessions_have_variables_of_their_own(self, notebook):
        assert self.remote(notebook, "apart = 1", "--session one --no-sync").error == ""
        assert self.remote(notebook, "apart", "--session two").error == "NameError"
        assert self.remote(notebook, "apart", "--session=one").result == "1"
        assert "one" in notebook.run("%remote_gpu sessions").text
        assert "one" in notebook.run("%remote_gpu sessions --all").text
        for name in ("one", "two"):
            assert "stopped" in notebook.run(f"%remote_gpu stop {name}").text

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("%%remote_gpu --sesion a\n1", "Did you mean --session?"),
            ("%%remote_gpu --gpus many\n1", "number"),
            ("%%remote_gpu --session\n1", "needs a value"),
            ("%%remote_gpu --session 'a\n1", "quotation mark"),
            ("%%remote_gpu status\n1", "%remote_gpu status"),
            ("%remote_gpu stats", "Did you mean status?"),
            ("%remote_gpu clusters now", "takes no name"),
            ("%remote_gpu use", "needs a name"),
            ("%remote_gpu stop one --session two", "One name is enough"),
            ("%remote_gpu use nowhere", "no session and no cluster"),
            ("%%remote_gpu --cluster nowhere\n1", "nowhere"),
            ("%remote_gpu stop nothing", "nothing"),
        ],
    )
    def test_a_mistake_is_one_sentence(self, notebook, code, said):
        cell = notebook.run(code)
        assert said in cell.text
        assert cell.text.startswith("UsageError: ")
        assert cell.reply["ename"] == "UsageError"

    def test_help_is_shown_without_running_the_cell(self, notebook):
        cell = self.remote(notebook, "print('not run')", "--help")
        assert "--session NAME" in cell.text
        assert "not run" not in cell.text
        assert "attach" in notebook.run("%remote_gpu help").text

    def test_a_threads_output_after_the_cell_goes_to_its_cell(self, notebook):
        code = "import threading\nthreading.Timer(0.3, lambda: print('late line')).start()"
        cell = self.remote(notebook, code)
        parent = cell.messages[0]["parent_header"]["msg_id"]
        late = notebook.messages_until(lambda message: "late line" in message["content"].get("text", ""))
        assert late["parent_header"]["msg_id"] == parent

    def test_an_output_widget_is_told_the_local_cells_request(self, notebook):
        cell = self.remote(notebook, "import ipywidgets\nout = ipywidgets.Output()\nwith out: print('inside')")
        told = [each["content"]["data"].get("state", {}).get("msg_id") for each in cell.messages if each["msg_type"] == "comm_msg"]
        assert [each for each in told if each is not None] == [_parent(cell.messages[0]), ""]
        assert cell.text == "inside\n"


def _is_idle(message: dict[str, Any]) -> bool:
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


def _parent(message: dict[str, Any]) -> str:
    return str(message["parent_header"].get("msg_id"))
