"""The cell suite on a `local` cluster: magic → gateway → front → link → supervisor → kernel, nothing started beforehand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.cell import CellContract, once
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import live_gateways

pytestmark = pytest.mark.shared_places

LOAD = "%load_ext remote_gpu"


@pytest.fixture(scope="module")
def notebook(module_places) -> Iterator[Notebook]:
    with Notebook(LOAD) as notebook:
        yield notebook
        for line in notebook.run("%remote_gpu sessions").text.splitlines()[1:]:
            notebook.run(f"%remote_gpu stop {line.split()[-1]}")


class TestLocalCell(CellContract):
    """Everything that the contract asks for."""

    def test_tracebacks_name_the_notebooks_cell(self, notebook):
        cell = self.remote(notebook, "1/0")
        assert f"In[{cell.reply['execution_count']}]" in notebook.run(
            f"import re; re.sub('\\x1b\\\\[[0-9;]*m', '', {cell.traceback!r})"
        ).result.replace(" ", "")

    def test_flushed_text_of_the_two_streams_keeps_its_order(self, notebook):
        cell = self.remote(notebook, "import sys\nprint('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\nprint('three')")
        assert [each["text"] for each in cell.outputs] == ["one\n", "two\n", "three\n"]

    def test_the_second_interrupt_leaves_the_cell_running_and_attach_brings_it_back(self, notebook):
        code = (
            "import os, time\nleft, said = 0, False\n"
            "while not os.path.exists({go!r}):\n    try:\n        if not said: said = print('first', flush=True) or True\n        time.sleep(0.5)\n"
            "    except KeyboardInterrupt:\n        print('held', flush=True)\n"
            "print('last', flush=True)\n'the end'"
        )
        go = Path(os.environ["JUPYTER_RUNTIME_DIR"]) / "go"
        interrupts = [
            once(lambda cell: "first" in cell.text, notebook.manager.interrupt_kernel),
            once(lambda cell: "held" in cell.text, notebook.manager.interrupt_kernel),
        ]
        cell = self.remote(notebook, code.format(go=str(go)), when=lambda cell: [action for when in interrupts for action in when(cell)])
        assert cell.error == "Detached"
        assert "%remote_gpu attach" in cell.traceback
        assert cell.record["state"] == "detached"
        back = notebook.run("%remote_gpu attach", when=once(lambda cell: True, go.touch))
        assert back.text == "last\n"
        assert back.result == "'the end'"
        assert back.record["state"] == "done"
        assert self.remote(notebook, "left").result == "0"

    def test_a_gateway_that_dies_during_a_cell_is_replaced_and_no_line_is_lost(self, notebook):
        code = "import time\nprint('begun', flush=True)\nfor n in range(40):\n    time.sleep(0.1)\n    print(n, flush=True)\n'over'"

        def kill() -> None:
            for record in live_gateways():
                os.kill(record.pid, signal.SIGKILL)

        cell = self.remote(notebook, code, when=once(lambda cell: "begun" in cell.text, kill))
        assert cell.stream("stdout").split() == ["begun", *map(str, range(40))]
        assert cell.result == "'over'"
        assert self.remote(notebook, "n").result == "39"

    def test_a_remote_kernel_that_is_killed_fails_the_cell_at_once_and_the_next_starts_anew(self, notebook):
        cell = self.remote(
            notebook, "import os, signal\nprint('alive', flush=True)\nimport time; time.sleep(0.3)\nos.kill(os.getpid(), signal.SIGKILL)"
        )
        assert cell.error == "KernelDied"
        assert "alive" in cell.text
        assert cell.record["state"] == "lost"
        fresh = self.remote(notebook, "'os' in globals()", "--no-sync")
        assert fresh.result == "False"
        assert "earlier variables are gone" in fresh.text

    def test_restart_gives_a_new_kernel(self, notebook):
        self.remote(notebook, "old = 1", "--no-sync")
        assert "new kernel" in notebook.run("%remote_gpu restart").text
        assert self.remote(notebook, "old").error == "NameError"

    def test_interrupt_as_a_command_reaches_a_cell_that_was_left(self, notebook):
        code = (
            "import time\nsaid = False\nwhile True:\n    try:\n        if not said: said = print('on', flush=True) or True\n        time.sleep(1)\n"
            "    except KeyboardInterrupt:\n        if held: raise\n        held = True\n        print('held', flush=True)"
        )
        interrupts = [
            once(lambda cell: "on" in cell.text, notebook.manager.interrupt_kernel),
            once(lambda cell: "held" in cell.text, notebook.manager.interrupt_kernel),
        ]
        cell = self.remote(notebook, "held = False\n" + code, when=lambda cell: [action for when in interrupts for action in when(cell)])
        assert cell.error == "Detached"
        assert "Interrupted" in notebook.run("%remote_gpu interrupt").text
        assert notebook.run("%remote_gpu attach").error == "KeyboardInterrupt"
        assert self.remote(notebook, "held").result == "True"

    def test_logs_and_status_tell_about_the_session(self, notebook):
        self.remote(notebook, "import os\nos.write(2, b'raw words\\n')")
        assert notebook.run("%remote_gpu logs").text
        assert "local" in notebook.run("%remote_gpu status").text

    def test_a_cell_on_a_stopped_session_starts_a_new_one(self, notebook):
        before = self.remote(notebook, "gone = 1", "--no-sync").record["session_id"]
        notebook.run("%remote_gpu stop")
        after = self.remote(notebook, "'gone' in globals()")
        assert (after.result, after.record["session_id"] != before) == ("False", True)


def test_attach_in_a_new_kernel_replays_what_the_dead_one_missed(module_places):
    go = module_places.base / "go2"
    code = (
        f"%%remote_gpu --session survivor\nimport os, time\nprint('seen', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "for n in range(100): print(n)\n'result'"
    )
    with Notebook(LOAD) as first:
        killed = once(lambda cell: "seen" in cell.text, first.kill)
        with pytest.raises((AssertionError, RuntimeError)):
            first.run(code, when=lambda cell: [*killed(cell), *([_Dead.stop] if not first.manager.is_alive() else [])])
    go.touch()
    with Notebook(LOAD) as second:
        cell = second.run("%remote_gpu attach survivor")
        assert cell.stream("stdout").split() == [str(n) for n in range(100)], cell.outputs
        assert cell.result == "'result'"
        assert cell.record["complete"]
        assert second.run("n").result == "99", "what the cell bound is here, too"
        assert second.run("%%remote_gpu --session survivor\nn").result == "99"
        second.run("%remote_gpu stop survivor")


def test_attach_without_a_trace_of_an_earlier_kernel_replays_the_last_cell_whole(module_places):
    with Notebook(LOAD) as first:
        first.run("%%remote_gpu --session whole\nprint('an earlier cell')")
        first.run("%%remote_gpu --session whole\nprint('the last cell')\n{}['missing']")
    for file in module_places.runtime.glob("remote-gpu-seen-*"):
        file.unlink()
    with Notebook(LOAD) as second:
        cell = second.run("%remote_gpu attach whole")
        assert cell.stream("stdout") == "the last cell\n"
        assert cell.error == "KeyError"
        second.run("%remote_gpu stop whole")


class _Dead:
    @staticmethod
    def stop() -> None:
        raise RuntimeError("the kernel is dead")
