"""A remote session is an ordinary kernel for programs that know nothing of us, each in its own process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pexpect
import pytest
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import AsyncKernelManager, KernelManager, start_new_kernel

from remote_gpu.discovery import find_gateway
from remote_gpu.gateway import Gateway

pytestmark = pytest.mark.shared_places
KERNEL = "remote-gpu-local"
TIME = 30


@pytest.fixture(autouse=True)
def _no_session_is_left(places, wait_until):
    yield
    record = find_gateway()
    if record is not None:
        with Gateway(record) as gateway:
            assert wait_until(lambda: all(session.over for session in gateway.sessions()), 10)
    assert wait_until(lambda: not list((places.folder / "s").glob("*")), 10)
    assert wait_until(lambda: not list((places.folder / "f").glob("*")), 5)


@pytest.fixture
def kernel(module_places):
    manager, client = start_new_kernel(kernel_name=KERNEL, startup_timeout=TIME)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel()


def said(client: BlockingKernelClient, code: str) -> tuple[str, str]:
    """(status, everything printed) of `code`."""
    text: list[str] = []

    def hook(message):
        if message["msg_type"] == "stream":
            text.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=TIME, output_hook=hook, store_history=False)
    return reply["content"]["status"], "".join(text)


def test_a_synchronous_manager_starts_and_ends_it(kernel):
    manager, client = kernel
    assert said(client, "print(6 * 7)") == ("ok", "42\n")
    assert manager.is_alive()


def test_its_output_arrives_whole_and_in_order(kernel):
    _, client = kernel
    _, text = said(client, "for n in range(5000): print(n)")
    assert text.split() == [str(n) for n in range(5000)]


def test_a_restart_clears_the_memory_and_keeps_the_session(kernel):
    manager, client = kernel
    said(client, "x = 1")
    before = manager.get_connection_info()
    session = manager.provisioner.session_id
    manager.restart_kernel()
    client.wait_for_ready(timeout=TIME)
    assert said(client, "print('x' in globals())") == ("ok", "False\n")
    assert manager.get_connection_info() == before
    assert manager.provisioner.session_id == session


def test_a_client_that_comes_after_a_restart_is_served(kernel):
    manager, _ = kernel
    manager.restart_kernel(now=True)
    late = manager.client()
    late.start_channels()
    try:
        late.wait_for_ready(timeout=TIME)
        assert said(late, "print('here')") == ("ok", "here\n")
    finally:
        late.stop_channels()


def test_an_interrupt_stops_the_cell_and_keeps_the_state(kernel):
    manager, client = kernel
    said(client, "x = 5")
    started = threading.Event()

    def hook(message):
        if message["msg_type"] == "stream":
            started.set()

    interrupter = threading.Thread(target=lambda: started.wait(TIME) and manager.interrupt_kernel())
    interrupter.start()
    code = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    reply = client.execute_interactive(code, timeout=TIME, output_hook=hook, store_history=False)
    interrupter.join()
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert said(client, "print(x)") == ("ok", "5\n")


def test_a_kernel_that_died_is_seen_as_dead(kernel, wait_until):
    manager, client = kernel
    client.execute("import os; os.kill(os.getpid(), 9)")
    assert wait_until(lambda: not manager.is_alive(), TIME)


async def _runs_one_cell():
    manager = AsyncKernelManager(kernel_name=KERNEL)
    await manager.start_kernel()
    client: AsyncKernelClient = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=TIME)
        reply = await client.execute_interactive("1 + 1", timeout=TIME)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        await manager.shutdown_kernel()


def test_an_asynchronous_manager_starts_and_ends_it(module_places):
    asyncio.run(_runs_one_cell())


def test_an_environment_variable_of_this_process_does_not_cross(module_places, monkeypatch):
    monkeypatch.setenv("CANARY_TOKEN", "sing")
    manager = KernelManager(kernel_name=KERNEL)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIME)
        assert said(client, "import os; print(os.environ.get('CANARY_TOKEN'))") == ("ok", "None\n")
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def test_two_kernels_live_side_by_side(kernel):
    manager, client = kernel
    other, second = start_new_kernel(kernel_name=KERNEL, startup_timeout=TIME)
    try:
        said(client, "who = 'first'")
        said(second, "who = 'second'")
        assert said(client, "print(who)")[1] == "first\n"
        assert other.provisioner.session_id != manager.provisioner.session_id
    finally:
        second.stop_channels()
        other.shutdown_kernel(now=True)
    assert manager.is_alive()


def test_nbclient_runs_a_notebook_with_it(places):
    path = places.base / "n.ipynb"
    cells = [nbformat.v4.new_code_cell("x = 20"), nbformat.v4.new_code_cell("print(x + 1)\nx * 2")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", f"--kernel_name={KERNEL}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    outputs = nbformat.read(path, 4).cells[1].outputs
    assert [output.get("text") or output["data"]["text/plain"] for output in outputs] == ["21\n", "40"]


def test_nbclient_sees_a_cell_that_fails(places):
    path = places.base / "f.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    command = [sys.executable, "-m", "jupyter", "execute", f"--kernel_name={KERNEL}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr


def test_jupyter_console_works_with_it_and_its_end_is_the_sessions_end(places):
    command = [sys.executable, ["-m", "jupyter_console", f"--kernel={KERNEL}", "--simple-prompt", "--no-confirm-exit"]]
    console = pexpect.spawn(*command, timeout=60, encoding="utf-8", env={**os.environ, "TERM": "dumb"})
    try:
        console.expect(r"In \[\d+\]:")
        console.sendline("print(6 * 7)")
        console.expect(r"\b42\b")
        console.sendline("exit()")
        console.expect(pexpect.EOF)
    finally:
        console.close(force=True)


COUNT = """import time, pathlib
for n in range(160):
    print(n, flush=True)
    if n == 20:
        pathlib.Path({flag!r}).touch()
    time.sleep(0.02)
print('end')"""


def test_a_gateway_that_is_killed_under_a_running_cell_costs_nbclient_nothing(places, wait_until):
    times = 2
    path, flag = places.base / "c.ipynb", places.base / "flag"
    sources = ["x = 1", COUNT.format(flag=str(flag)), "x + 1"] * times
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", f"--kernel_name={KERNEL}", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for _ in range(times):
            assert wait_until(flag.exists, TIME)
            flag.unlink()
            record = find_gateway()
            os.kill(record.pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    done = nbformat.read(path, 4).cells
    for _, count, last in zip(*[iter(done)] * 3, strict=True):
        assert "".join(output["text"] for output in count.outputs).split() == [str(n) for n in range(160)] + ["end"]
        assert last.outputs[0]["data"]["text/plain"] == "2"


def test_its_kernelspec_is_listed_like_any_other(places):
    done = subprocess.run([sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"], capture_output=True, text=True, timeout=60)
    spec = json.loads(done.stdout)["kernelspecs"][KERNEL]["spec"]
    assert spec["interrupt_mode"] == "message"
    assert Path(spec["argv"][0]).name == "jupyter-remote-gpu"
