"""Memory: the supervisor, and what the extension adds to a Jupyter server. Rival: a plain ipykernel's own size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.notebook import notebook
from benchmarks.report import Row
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

LOAD = "%load_ext remote_gpu"
LINES = 100_000


def megabytes(pid: int) -> float:
    """Resident memory of a process, in MB (10⁶ bytes)."""
    return psutil.Process(pid).memory_info().rss / 1e6


def server(extension: bool) -> float:
    """Resident MB of a Jupyter server that is up, with or without our extension."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JUPYTER_RUNTIME_DIR": folder}
        settings = {
            "jpserver_extensions": {"jupyter_remote_gpu": extension, "jupyterlab": False},
            "sock": f"{folder}/s",
            "root_dir": folder,
        }
        (Path(folder) / "c.json").write_text(json.dumps({"ServerApp": settings}))
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--config={folder}/c.json"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + 30
            while not list(Path(folder).glob("jpserver-*.json")):
                if process.poll() is not None or time.monotonic() > limit:
                    message = f"the server did not start (exit status {process.poll()})"
                    raise RuntimeError(message)
                time.sleep(0.1)
            time.sleep(2)
            return megabytes(process.pid)
        finally:
            process.terminate()
            process.wait()


def measure(quick: bool = False) -> list[Row]:
    """One session's supervisor and kernel; a server with and without us."""
    count = 1 if quick else 3
    gateway = Gateway(find_or_start_gateway())
    cell = "%%remote_gpu --session bench-memory\n"
    with notebook(LOAD, cell + "import os") as book:
        parent = int(book.run(cell + "print(os.getppid())").text[0])
        book.run(cell + f"for n in range({LINES}): print(n)")
        supervisor, kernels = megabytes(parent), [megabytes(child.pid) for child in psutil.Process(parent).children()]
        plain = megabytes(int(book.run("import os; print(os.getpid())").text[0]))
    gateway.stop_session("bench-memory")
    without, with_us = [], []
    for _ in range(count):
        without.append(server(extension=False))
        with_us.append(server(extension=True))
    return [
        Row("memory of a session", "supervisor", "MB", (supervisor,), "", "≤ 60 MB", f"after {LINES:,} lines"),
        Row("memory of a session", "remote kernel", "MB", tuple(kernels)),
        Row("memory of a session", "plain ipykernel", "MB", (plain,), "", "", "with the magics loaded"),
        Row("memory of a Jupyter server", "without the extension", "MB", tuple(without)),
        Row("memory of a Jupyter server", "with the extension", "MB", tuple(with_us), "without the extension", "≤ 40 MB more"),
    ]
