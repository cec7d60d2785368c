"""Whose a session is: a notebook's, a process's own, or everybody's who names it; and when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

pytestmark = [pytest.mark.shared_places, pytest.mark.slow]

LOAD = "%load_ext remote_gpu"
PID = "%%remote_gpu\nimport os\nos.getpid()"


@pytest.fixture(scope="module")
def gateway(module_places):
    with Gateway(find_or_start_gateway()) as gateway:
        yield gateway


def alive(gateway: Gateway) -> list[str]:
    return [each.name for each in gateway.sessions() if not each.over]


def gone(gateway: Gateway, *names: str) -> bool:
    deadline = time.monotonic() + 20
    while set(names) & set(alive(gateway)) and time.monotonic() < deadline:
        gateway.session(names[0], wait=0.5, seen="running")
    return not set(names) & set(alive(gateway))


def named(book: Notebook) -> str:
    return str(book.run(PID).record["session"])


def test_two_kernels_without_a_notebook_share_nothing_and_take_their_sessions_with_them(gateway):
    with Notebook(LOAD) as one, Notebook(LOAD) as two:
        assert one.run("%%remote_gpu\nx = 1").error == ""
        assert two.run("%%remote_gpu\nx").error == "NameError"
        names = (named(one), named(two))
        assert len(set(names)) == 2
        assert all(name.startswith("kernel-") and name in alive(gateway) for name in names)
    assert gone(gateway, *names)


def test_what_the_first_remote_cell_needs_is_imported_while_the_kernel_is_idle(module_places):
    loaded = "import sys; print('remote_gpu.parts' in sys.modules)"
    with Notebook() as book:
        book.run(f"{LOAD}\n{loaded}")
        deadline = time.monotonic() + 20
        while "True" not in (seen := book.run(loaded).text) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "True" in seen


def test_the_session_of_a_killed_kernel_stays_and_the_next_one_may_go_on_in_it(gateway):
    with Notebook(LOAD) as first:
        first.run("%%remote_gpu\nkept = 5\nprint('said')")
        name = named(first)
        first.kill()
    assert name in alive(gateway)
    with Notebook(LOAD) as second:
        cell = second.run("%remote_gpu attach")
        assert name in cell.text, cell.text + cell.traceback
        assert second.run("%%remote_gpu\nkept").result == "5"
        other = second.run("%remote_gpu stop").text
        assert name in other
    assert gone(gateway, name)


def test_a_named_session_outlives_all_who_use_it(gateway):
    with Notebook(LOAD) as book:
        assert book.run("%%remote_gpu --session ours\nx = 1").error == ""
    assert "ours" in alive(gateway)
    gateway.stop_session("ours")


def test_a_cell_that_the_user_left_running_outlives_its_kernel(gateway):
    code = "import time\nwhile True:\n    try: print('on', flush=True); time.sleep(60); break\n    except KeyboardInterrupt: print('held', flush=True)"
    with Notebook(LOAD) as book:
        seen: list[str] = []

        def when(cell):
            for word in ("on", "held"):
                if word in cell.text and word not in seen:
                    seen.append(word)
                    return [book.manager.interrupt_kernel]
            return []

        cell = book.run(f"%%remote_gpu\n{code}", when=when)
        assert cell.error == "Detached"
        name = cell.record["session"]
    assert name in alive(gateway)
    gateway.stop_session(name)


@pytest.mark.parametrize("variable", ["__vsc_ipynb_file__", "JPY_SESSION_NAME"])
def test_a_notebooks_session_outlives_its_kernel(gateway, tmp_path, variable):
    path = str(tmp_path / f"train-{variable.strip('_').lower()}.ipynb")
    told = {"JPY_SESSION_NAME": path} if variable.isupper() else {}
    first = () if variable.isupper() else (f"{variable} = {path!r}",)
    with Notebook(*first, LOAD, environment=told) as book:
        pid, name = book.run(PID).result, named(book)
    assert name == Path(path).stem
    assert name in alive(gateway)
    with Notebook(*first, LOAD, environment=told) as book:
        assert book.run(PID).result == pid
        book.run("%remote_gpu stop")


def test_a_kernel_started_from_a_notebooks_cell_is_not_that_notebook(gateway, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JPY_SESSION_NAME", str(tmp_path / "outer.ipynb"))
        code = "from tests.fakes.notebook import Notebook\nwith Notebook('%load_ext remote_gpu') as book: print(book.run('%%remote_gpu\\n1').record['session'])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
        )
    assert done.stdout.startswith("kernel-"), done.stderr


def test_two_runs_of_one_notebook_by_nbclient_start_from_nothing_each(gateway, tmp_path):
    cells = [LOAD, "%%remote_gpu\nassert 'x' not in globals()\nx = 1", "%%remote_gpu\nx"]
    before = alive(gateway)
    for _ in range(2):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
        assert book.cells[-1].outputs[-1]["data"]["text/plain"] == "1"
    assert gone(gateway, *(set(alive(gateway)) - set(before)) or {"none"})


def test_a_papermill_run_is_named_after_its_notebook_and_is_its_own(gateway):
    told = {"PAPERMILL_INPUT_PATH": "/home/amira/train.v2.ipynb"}
    with Notebook(LOAD, environment=told) as one, Notebook(LOAD, environment=told) as two:
        names = (named(one), named(two))
        assert len(set(names)) == 2
        assert all(name.startswith("train.v2-") for name in names)
    assert gone(gateway, *names)


def test_the_exit_of_a_kernel_is_not_held_up_by_a_gateway_that_hangs(gateway):
    code = (
        "import os, signal\nfrom IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
        "from remote_gpu import magics\nmagics.load(shell)\nshell.run_cell_magic('remote_gpu', '', '1')\n"
        "print(shell._remote_gpu.parts.sessions.known()[0].info.name)\n"
        f"os.kill({find_or_start_gateway().pid}, signal.SIGSTOP)"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    finally:
        os.kill(find_or_start_gateway().pid, 18)
    assert (done.returncode, done.stderr) == (0, "")
    gateway.stop_session(done.stdout.split()[-1])  # the lease would do it, too
