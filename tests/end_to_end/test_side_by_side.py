"""Several clients of one session at once, and who ends a session (the table in docs/explanation/how-it-works.md)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

pytestmark = [pytest.mark.shared_places, pytest.mark.slow]
LOAD = "%load_ext remote_gpu"
ON = "%%remote_gpu --session shared\n"


@pytest.fixture(scope="module")
def gateway(module_places):
    with Gateway(find_or_start_gateway()) as gateway:
        yield gateway


@pytest.fixture
def shared(gateway):
    """One session that the clients of a test share."""
    session = gateway.start_session(name="shared")
    yield session
    gateway.stop_session(session.id)


def said(client: BlockingKernelClient, code: str) -> str:
    """What `code` printed for this client."""
    text: list[str] = []
    client.execute_interactive(code, timeout=30, store_history=False, output_hook=lambda each: text.append(each["content"].get("text", "")))
    return "".join(text)


def client_of(gateway: Gateway, session_id: str, role: str = "owner") -> BlockingKernelClient:
    """Any Jupyter client, by a connection file of its own."""
    client = BlockingKernelClient(connection_file=str(gateway.attach(session_id, role=role).connection_file))
    client.load_connection_file()
    client.start_channels()
    return client


def test_two_notebooks_and_a_console_share_the_variables_and_each_gets_its_own_output(gateway, shared):
    with Notebook(LOAD) as one, Notebook(LOAD) as two:
        console = client_of(gateway, shared.id)
        try:
            assert one.run(f"{ON}x = 'from one'").error == ""
            assert two.run(f"{ON}print(x); y = 'from two'").text == "from one\n"
            assert said(console, "print(x, y)") == "from one from two\n"
            first, second = (
                one.send(f"{ON}import time\nfor n in range(20): print('one', n); time.sleep(.02)"),
                two.send(f"{ON}print('two', x)"),
            )
            assert one.run("", msg_id=first).text == "".join(f"one {n}\n" for n in range(20))
            assert two.run("", msg_id=second).text == "two from one\n"
        finally:
            console.stop_channels()


def test_a_notebook_that_joins_and_ends_does_not_end_the_session(gateway, shared):
    with Notebook(LOAD) as one:
        one.run(f"{ON}kept = 1")
    with Notebook(LOAD) as two:
        two.kill()
    with Notebook(LOAD) as three:
        assert three.run(f"{ON}print(kept)").text == "1\n"


def test_a_viewer_may_look_and_not_run(gateway, shared):
    viewer = client_of(gateway, shared.id, role="viewer")
    try:
        viewer.kernel_info()
        assert viewer.get_shell_msg(timeout=20)["content"]["status"] == "ok"
        viewer.execute("import os; os.abort()")
        assert viewer.get_shell_msg(timeout=20)["content"]["ename"] == "NotAllowed"
    finally:
        viewer.stop_channels()
    assert gateway.session(shared.id).state == "running"


def test_any_client_attaches_by_a_connection_file_that_the_command_line_makes(gateway, shared):
    command = [sys.executable, "-m", "jupyter_remote_gpu", "connect", "shared"]
    file = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    client = BlockingKernelClient(connection_file=file)
    client.load_connection_file()
    client.start_channels()
    try:
        assert said(client, "print('by any client')") == "by any client\n"
    finally:
        client.stop_channels()


def test_a_killed_remote_kernel_fails_the_cell_at_once_and_says_so(gateway, shared):
    with Notebook(LOAD) as book:
        cell = book.run(
            f"{ON}import os, signal\nprint('before', flush=True)\nimport time; time.sleep(0.5)\nos.kill(os.getpid(), signal.SIGKILL)"
        )
        assert (cell.text, cell.error) == ("before\n", "KernelDied")
        assert "killed" in cell.traceback
        assert book.run("%remote_gpu restart shared").reply["status"] == "ok"
        assert book.run(f"{ON}print('alive again')").text == "alive again\n"


def test_a_killed_gateway_is_replaced_and_the_cell_goes_on(gateway, module_places):
    with Notebook(LOAD) as book:
        request = book.send("%%remote_gpu --session survivor\nimport time\nfor n in range(60): print(n); time.sleep(.1)")
        killed = []

        def kill(cell):
            if not killed and "10\n" in cell.text:
                killed.append(find_or_start_gateway().pid)
                os.kill(killed[0], signal.SIGKILL)
            return ()

        cell = book.run("", msg_id=request, when=kill)
        assert killed
        assert not cell.error, cell.traceback
        assert [line for line in cell.stream("stdout").splitlines() if line.isdigit()] == [str(n) for n in range(60)]
        assert book.run("%remote_gpu stop survivor").reply["status"] == "ok"
    assert not list(Path(module_places.folder / "s").glob("*"))


def test_a_dead_notebook_kernel_misses_nothing(module_places):
    with Notebook(LOAD) as dead:
        request = dead.send("%%remote_gpu --session night\nimport time\nfor n in range(40): print(n); time.sleep(.1)")
        dead.messages_until(lambda each: each["parent_header"].get("msg_id") == request and "5\n" in each["content"].get("text", ""))
        dead.kill()
    with Notebook(LOAD) as new:
        cell = new.run("%remote_gpu attach night")
        seen = [int(line) for line in cell.stream("stdout").split() if line.isdigit()]
        assert seen == list(range(seen[0], 40))
        assert seen[0] <= 6
        assert new.run("%%remote_gpu --session night\nprint(n)").text == "39\n"
        new.run("%remote_gpu stop night")
