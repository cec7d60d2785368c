"""``jupyter remote-gpu clusters …`` and ``login`` in a terminal and without one, with hosts of the tests' own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from tests.fakes.ssh import FakeSsh

from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

pytestmark = pytest.mark.shared_places

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def ssh(module_places):
    made = FakeSsh(module_places.base / "ssh", JUPYTER_REMOTE_GPU_FOLDER=str(module_places.folder))
    for name in ("box", "guarded"):
        made.host(name).command("python3", f'exec {sys.executable} "$@"')
    made.host("bare")
    made.host("liar").command("python3", """[ "$1" = -B ] && echo "JRG-PYTHON|$4|3.12.1|7.0.0|no|$4 /usr" """)
    (made.folder / "guarded" / "password").write_text(PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", made.path)
        yield made


@pytest.fixture(autouse=True)
def _clean(ssh, module_places):
    """The gateway, and no cluster but local and no login but those that a test makes."""
    find_or_start_gateway()
    yield
    with Gateway(find_or_start_gateway()) as gateway:
        for login in gateway.logins():
            gateway.end_login(login.host)
    (module_places.base / "config/remote-gpu-clusters.json").unlink(missing_ok=True)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "jupyter_remote_gpu", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=110, stdin=subprocess.DEVNULL)


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.said = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "jupyter_remote_gpu", *words])

    def until(self, text: str, seconds: float = 60) -> str:
        """Read until it has said `text`; returns all that it said."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    data = os.read(self._terminal, 65536)
                except OSError:  # it ended
                    data = b""
                assert data, self.said
                self.said += data.decode()
        return self.said

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def end(self, seconds: float = 60) -> int:
        """Its exit status, once it ended by itself."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if select.select([self._terminal], [], [], 0.05)[0]:
                    self.said += os.read(self._terminal, 65536).decode()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self._terminal)
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail(f"it did not end: {self.said}")


@pytest.mark.slow
def test_a_cluster_is_added_with_yes_and_shown_tested_and_removed():
    added = run("clusters", "add", "box", "--ssh", "box", "--yes", "--json")
    assert added.returncode == 0, added.stderr
    told = json.loads(added.stdout)
    assert (told["cluster"], told["config"]["kind"], told["test"]["cluster"]) == ("box", "ssh", "box")
    assert "Logging in to box." in added.stderr
    assert [cluster["name"] for cluster in json.loads(run("clusters", "--json").stdout)] == ["local", "box"]
    shown = run("clusters", "show", "box").stdout
    assert "one of yours" in shown
    assert "host     box" in shown
    tested = run("clusters", "test", "box")
    assert tested.returncode == 0
    assert {"login", "start", "kernel", "cell", "round"} <= {line.split()[0] for line in tested.stdout.splitlines() if line}
    assert run("clusters", "remove", "box").stdout == "Removed box.\n"
    again = run("clusters", "remove", "box")
    assert (again.returncode, "no cluster 'box'" in again.stderr) == (1, True)


def test_what_a_host_offers_is_shown_and_what_is_in_the_way():
    looked = run("clusters", "look", "bare")
    assert looked.returncode == 1
    assert "internet" in looked.stdout
    assert "This is in the way: No Python with ipykernel 7 was found on bare; found was none at all." in looked.stdout
    assert json.loads(run("clusters", "look", "bare", "--json").stdout)["proposal"]["bootstrap"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clusters", "add", "x", "--ssh", "box"], "Nobody can answer here. With --yes"),
        (["clusters", "add", "local", "--ssh", "box", "--yes"], "has a cluster 'local' already"),
        (["clusters", "add", "x", "--ssh", "nowhere", "--yes"], "nowhere cannot be reached"),
        (["clusters", "add", "x", "--ssh", "box", "--slurm", "--yes"], "There is no sbatch on box"),
        (["clusters", "add", "x", "--ssh", "box", "--prologue", "no-such-command", "--yes"], "no-such-command"),
        (["clusters", "add", "x", "--ssh", "bare", "--yes"], "Install uv there"),
        (["clusters", "add", "x", "--ssh", "guarded", "--yes"], "`jupyter remote-gpu login guarded` in a terminal"),
        (["clusters", "show", "locl"], "Did you mean 'local'?"),
        (["clusters", "remove", "local"], "server's configuration"),
        (["clusters", "test", "nothing"], "no cluster 'nothing'"),
        (["login", "local"], "needs no login"),
        (["login", "guarded"], "nobody can answer here"),
        (["extend", "nothing"], "no remote session 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_status_1(words, said):
    done = run(*words)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    assert [cluster["name"] for cluster in json.loads(run("clusters", "--json").stdout)] == ["local"]


def test_a_login_is_answered_in_the_terminal_and_the_answer_is_not_shown():
    terminal = Terminal("login", "guarded")
    terminal.until("password:")
    terminal.type(f"{PASSWORD}\n")
    assert terminal.end() == 0, terminal.said
    assert "Logged in to guarded." in terminal.said
    assert PASSWORD not in terminal.said
    assert run("logout", "guarded").stdout == "Logged out of guarded; sessions there go on.\n"


def test_a_wrong_answer_is_told_and_is_not_asked_again_by_itself():
    terminal = Terminal("clusters", "look", "guarded")
    terminal.until("password:")
    terminal.type("guess\n")
    assert terminal.end() == 1
    assert "was refused" in terminal.said
    assert terminal.said.count("password:") == 1


def test_ctrl_c_answers_no_question_and_cancels_the_task():
    terminal = Terminal("clusters", "add", "guarded", "--ssh", "guarded")
    terminal.until("password:")
    terminal.type("\x03")
    assert terminal.end() == 1
    assert "Cancelling." in terminal.said
    with Gateway(find_or_start_gateway()) as gateway:
        assert not gateway.login("guarded").prompts
        assert gateway.login("guarded").state != "trying"


@pytest.mark.slow
def test_a_cluster_is_added_by_answers_in_the_terminal():
    terminal = Terminal("clusters", "add", "guarded", "--ssh", "guarded")
    terminal.until("password:")
    terminal.type(f"{PASSWORD}\n")
    terminal.until("add it as guarded?")
    terminal.type("maybe\n")
    terminal.until("(yes/no) [yes] maybe\r\nRun a test")
    terminal.type("y\n")
    assert terminal.end(100) == 0, terminal.said
    assert "guarded is a cluster now" in terminal.said
    assert "guarded" in [cluster["name"] for cluster in json.loads(run("clusters", "--json").stdout)]


def test_a_proposal_may_be_declined():
    terminal = Terminal("clusters", "add", "box", "--ssh", "box")
    terminal.until("add it as box?")
    terminal.type("no\n")
    assert terminal.end() == 1
    assert "Nothing was written." in terminal.said


@pytest.mark.parametrize(("answer", "status"), [("no", 1), ("yes", 0)])
def test_a_test_that_fails_is_told_with_its_step_and_nothing_is_written_without_a_wish(answer, status):
    terminal = Terminal("clusters", "add", "liar", "--ssh", "liar")
    terminal.until("add it as liar?")
    terminal.type("yes\n")
    terminal.until("Add liar all the same?", 100)
    assert "The test failed at its step 'start'" in terminal.said
    terminal.type(f"{answer}\n")
    assert terminal.end() == status
    assert ("liar" in run("clusters", "--json").stdout) == (answer == "yes")


def test_options_that_the_kind_of_cluster_does_not_know_are_told():
    done = run("clusters", "add", "box", "--ssh", "box", "--account", "dri", "--yes")
    assert (done.returncode, "unknown setting 'account'" in done.stderr) == (1, True)


def test_a_damaged_file_of_clusters_is_named_with_its_line(module_places):
    file = module_places.base / "config/remote-gpu-clusters.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text('{\n"a": {"kind": "local"},\n}')
    deadline = time.monotonic() + 20
    while f"{file}, is damaged in line 3" not in (done := run("clusters")).stderr:  # a gateway believes for a second what it read
        assert time.monotonic() < deadline, done.stderr
    assert done.returncode == 0
    assert "local" in done.stdout
    refused = run("clusters", "add", "x", "--ssh", "box", "--no-test", "--yes")
    assert (refused.returncode, "line 3" in refused.stderr) == (1, True)
    assert file.read_text().endswith(",\n}")
