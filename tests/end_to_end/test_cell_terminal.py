"""Remote cells in IPython in a terminal, with nothing started beforehand."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

_COMMAND = ["-W", "ignore", "-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"]


class Terminal:
    """IPython behind a pseudo terminal."""

    def __init__(self) -> None:
        environment = {**os.environ, "TERM": "dumb"}
        self.child: pexpect.spawn[str] = pexpect.spawn(sys.executable, _COMMAND, env=environment, encoding="utf-8", timeout=60)
        self.number = 1
        self.child.expect_exact("In [1]: ")

    def send(self, text: str) -> None:
        self.child.sendline(text + ("\n\n" if "\n" in text else ""))

    def shown(self) -> str:
        """What came before the next prompt, without colours."""
        self.number += 1
        self.child.expect_exact(f"In [{self.number}]: ")
        return re.sub(r"\x1b\[[0-9;]*m", "", str(self.child.before)).replace("\r", "")

    def run(self, text: str) -> str:
        self.send(text)
        return self.shown()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    terminal.run("%load_ext remote_gpu")
    yield terminal
    terminal.run("%remote_gpu stop")
    terminal.child.sendline("exit")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()


def test_a_terminal_shows_results_prompts_errors_and_is_interrupted(terminal: Any) -> None:
    shown = terminal.run("%%remote_gpu\nkept = 6\nprint('product', kept * 7)\n'a result'")
    assert "product 42" in shown
    assert f"Out[{terminal.number - 1}]: 'a result'" in shown

    terminal.send("%%remote_gpu\ninput('name? ')")
    terminal.child.expect_exact("name? ")
    assert "'Ada'" in terminal.run("Ada")

    assert "ZeroDivisionError: division by zero" in terminal.run("%%remote_gpu\n1/0")
    assert "Did you mean --session?" in terminal.run("%%remote_gpu --sesion x\n1")

    terminal.send("%%remote_gpu\nimport time\nprint('sleep' + 'ing', flush=True)\ntime.sleep(60)")
    terminal.child.expect_exact("sleeping\r\n")
    terminal.child.sendintr()
    assert "KeyboardInterrupt" in terminal.shown()
    assert ": 6" in terminal.run("%%remote_gpu\nkept")
    assert "local" in terminal.run("%remote_gpu status")


def test_a_background_cell_leaves_the_terminal_free_and_goes_on_after_its_exit(places: Any) -> None:
    gate = places.base / "gate"
    terminal = Terminal()
    terminal.run("%load_ext remote_gpu")
    code = (
        f"import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('ended')\n'result'"
    )
    assert "<Job 1 (job): waiting for" in terminal.run(f"%%remote_gpu --background --name job\n{code}")
    terminal.run("any(iter(lambda: __import__('time').sleep(0.01) or 'begun' in job.output, None))")
    assert "42" in terminal.run("6 * 7")
    gate.touch()
    terminal.child.expect_exact("Job 1 (job): done after")
    assert "'result'" in terminal.run("job.result()")
    terminal.run("%%remote_gpu --background\nimport threading; threading.Event().wait(1000)")
    session = re.search(r"Session '([^']+)'", terminal.run("%remote_gpu status"))
    assert session is not None
    terminal.child.sendline("exit")
    terminal.child.expect_exact(f"Session '{session[1]}' goes on with a background cell")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    other = Terminal()
    other.run("%load_ext remote_gpu")
    assert "running" in other.run(f"%remote_gpu queue {session[1]}")
    other.run(f"%remote_gpu stop {session[1]}")
    other.child.sendline("exit")
    other.child.expect(pexpect.EOF)
    other.child.close()
