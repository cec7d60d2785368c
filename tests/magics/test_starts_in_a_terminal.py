"""What a terminal shows and asks while a session starts: IPython behind a pseudo terminal, with a gateway that has a queue and asks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import pexpect
import pytest

_COMMAND = ["-W", "ignore", "-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"]
_LOAD = (
    "import sys; sys.path.insert(0, {root!r}); from tests.fakes import asking_gateway; from tests.fakes.asking_gateway import Step; "
    "gateway = asking_gateway.load(get_ipython())"
)
_CELL = "%%remote_gpu --no-sync\n6 * 7\n\n"


class Terminal:
    """IPython behind a pseudo terminal."""

    def __init__(self, root: str) -> None:
        environment = {**os.environ, "TERM": "dumb"}
        self.child: pexpect.spawn[str] = pexpect.spawn(sys.executable, _COMMAND, env=environment, encoding="utf-8", timeout=90)
        self.child.setwinsize(40, 100)
        self.number = 1
        self.child.expect_exact("In [1]: ")
        self.run(_LOAD.format(root=root))

    def shown(self) -> str:
        """What came before the next prompt, without colours; carriage returns are kept."""
        self.number += 1
        self.child.expect_exact(f"In [{self.number}]: ")
        return re.sub(r"\x1b\[[0-9;]*m", "", str(self.child.before)).replace("\r\n", "\n")

    def run(self, text: str) -> str:
        self.child.sendline(text)
        return self.shown()


@pytest.fixture
def terminal(request) -> Iterator[Terminal]:
    terminal = Terminal(str(request.config.rootpath))
    yield terminal
    terminal.child.sendline("exit")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()


def test_a_terminal_redraws_one_line_asks_without_an_echo_and_stops_waiting(terminal):
    terminal.run(
        "gateway.steps = [Step('Submitted as Slurm job 42.'), Step(ask=('secret', 'Password:')), Step('Place 2 in the queue.'), Step('Place 1.')]"
    )
    terminal.child.sendline(_CELL)
    terminal.child.expect_exact("Login to host.example: Password: ")
    assert "\rplain: Submitted as Slurm job 42.\r\n" in terminal.child.before
    terminal.child.sendline("s3cret word")
    shown = terminal.shown()
    assert "s3cret" not in shown
    assert "\rplain: Place 2 in the queue.\rplain: Place 1." in shown
    assert re.search(r"\rplain: running on here after [\d.]+ s\. *\n", shown)
    assert f"Out[{terminal.number - 1}]: 42" in shown
    assert "['s3cret word']" in terminal.run("gateway.answers")

    terminal.run("%remote_gpu stop default")
    terminal.run("gateway.steps = [Step('Place 9 in the queue.', for_ever=True)]")
    terminal.child.sendline(_CELL)
    terminal.child.expect_exact("Place 9 in the queue.")
    terminal.child.sendintr()
    shown = terminal.shown()
    assert "StoppedWaiting: Stopped waiting for session 'default' on plain (Place 9 in the queue)." in shown
    assert "Traceback" not in shown
    assert "is cancelled" in terminal.run("%remote_gpu stop default")
