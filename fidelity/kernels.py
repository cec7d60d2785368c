"""Runs a document's cells in a fresh kernel, all local or all remote, and keeps every message that belongs to a cell."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

__all__ = ["Kernels", "RECORD_MIME", "Ran", "Stopped", "TooSlow"]

RECORD_MIME = "application/vnd.jupyter-remote-gpu.run+json"
_START_TIME = 60.0
_LAST_WORDS = 0.25  # seconds of silence after the last cell: a message that is late belongs to its cell all the same
_EXIT_TIME = 10.0
_LOOK = 500  # milliseconds between two looks at the clock
_REMOTE = ("%load_ext remote_gpu", "%remote_gpu on")
_VARIABLES = (
    "PYTHONHASHSEED",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
    "OPENBLAS_*",
    "OMP_*",
    "MKL_*",
    "NVPL_*",
)  # that the kernels of both sides are to have, too


class Stopped(Exception):
    """The whole run was ended from outside."""


class TooSlow(Exception):
    """A document took longer than its limit."""


@dataclass(slots=True)
class Ran:
    """What one cell said: messages as (msg_type, content) in the order they came, and the content of the execute_reply."""

    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether the cell ran over there."""
        return any(RECORD_MIME in (content.get("data") or {}) for kind, content in self.said if kind == "display_data")


class Kernels:
    """A private set of Jupyter folders, in which kernels of the Python `python` are started one after another, several at a time.

    Local and remote kernels get one environment, and a headless gateway starts in the folders with the first remote cell.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        # Directly below /tmp and short: a Unix socket's path has room for about 100 bytes.
        self._base = Path(tempfile.mkdtemp(dir="/tmp", prefix="f"))
        self._numbers = iter(range(1_000_000))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        (self._base / "r").mkdir(mode=0o700)
        config = self._base / "jupyter_config_dir" / "jupyter_server_config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"RemoteGpu": {"environment": _VARIABLES}}), encoding="utf-8")
        names = ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
        folders = {name: str(self._base / name.lower()) for name in names}
        unwanted = {
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONPATH",
            "JUPYTER_REMOTE_GPU_GATEWAY",
            "JPY_PARENT_PID",
            "JPY_SESSION_NAME",
            "MPLBACKEND",
        }
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in unwanted},
            **folders,
            "JUPYTER_REMOTE_GPU_FOLDER": str(self._base / "r"),
            "PYTHONHASHSEED": "0",  # so that sets of strings are shown in one order
            "OMP_NUM_THREADS": "1",  # so that sums are made in one order
            "OPENBLAS_NUM_THREADS": "1",
        }

    def run(self, cells: Sequence[str], *, remote: bool, limit: float) -> list[Ran]:
        """Run `cells` in a fresh kernel and end it. Raises `TooSlow` after `limit` seconds, RuntimeError when the set-up fails."""
        with self._kernel() as client:
            book = _Book(client, time.monotonic() + _START_TIME, self._stopped)
            for line in _REMOTE if remote else ():
                book.prepare(line)
            book.deadline = time.monotonic() + limit
            for cell in cells:
                book.run(cell)
            book.drain()
            return book.ran

    @contextlib.contextmanager
    def _kernel(self) -> Iterator[BlockingKernelClient]:
        with self._lock:
            folder = self._base / f"k{next(self._numbers)}"
        work = folder / "w"
        work.mkdir(parents=True)
        file, _ = write_connection_file(str(folder / "c.json"), ip=str(folder / "s"), transport="ipc")
        command = [str(self._python), "-m", "ipykernel_launcher", "-f", file]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=self._environment, cwd=work, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        client = BlockingKernelClient(connection_file=file)
        client.load_connection_file()
        client.start_channels(hb=False)  # a start that takes longer than a heartbeat is no death
        try:
            client.wait_for_ready(timeout=_START_TIME)
            yield client
        finally:
            _end(process, client)
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """Let the runs that go on end with `Stopped`, within a second."""
        self._stopped.set()

    def close(self) -> None:
        """End the gateway (its sessions ended with their kernels) and remove the folders."""
        pids = list(self._gateways())
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _EXIT_TIME
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(self._base, ignore_errors=True)

    def _gateways(self) -> Iterator[int]:
        for record in Path(self._environment["JUPYTER_RUNTIME_DIR"]).glob("remote-gpu-gateway-*.json"):
            with contextlib.suppress(OSError, ValueError):
                yield int(json.loads(record.read_text(encoding="utf-8"))["pid"])


def _end(process: subprocess.Popen[bytes], client: BlockingKernelClient) -> None:
    client.shutdown()
    try:
        process.wait(_EXIT_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    client.stop_channels()


class _Book:
    """One kernel's cells. `deadline` is a time of the monotonic clock."""

    def __init__(self, client: BlockingKernelClient, deadline: float, stopped: threading.Event) -> None:
        self.ran: list[Ran] = []
        self.deadline = deadline
        self._client = client
        self._stopped = stopped
        self._cells: dict[str, Ran] = {}
        self._poller = zmq.Poller()
        self._channels = {name: getattr(client, f"{name}_channel").socket for name in ("iopub", "shell", "stdin")}
        for socket in self._channels.values():
            self._poller.register(socket, zmq.POLLIN)

    def prepare(self, code: str) -> None:
        """Run what is no cell of the document: it has no number."""
        ran = self._follow(self._client.execute(code, store_history=False))
        if ran.reply.get("status") != "ok":
            raise RuntimeError(f"{code!r} failed: {ran.reply.get('ename')}: {ran.reply.get('evalue')}")

    def run(self, code: str) -> None:
        """Run a cell as a frontend does, also after one that failed."""
        self.ran.append(self._follow(self._client.execute(code, stop_on_error=False)))

    def drain(self) -> None:
        """Take in messages of cells that are over, until none come."""
        while self._poller.poll(int(_LAST_WORDS * 1000)):
            self._take({})

    def _follow(self, request: str) -> Ran:
        ran = self._cells[request] = Ran()
        state: dict[str, bool] = {}
        while not (state.get(f"reply {request}") and state.get(f"idle {request}")):
            if self._stopped.is_set():
                raise Stopped
            if time.monotonic() > self.deadline:
                raise TooSlow
            self._poller.poll(_LOOK)
            self._take(state)
        return ran

    def _take(self, state: dict[str, bool]) -> None:
        ready = dict(self._poller.poll(0))
        for name, socket in self._channels.items():
            if socket not in ready:
                continue
            message = getattr(self._client, f"get_{name}_msg")(timeout=1)
            parent = str((message["parent_header"] or {}).get("msg_id"))
            kind, content = message["msg_type"], message["content"]
            ran = self._cells.get(parent)
            if kind == "input_request":
                self._client.input("q")
            if ran is None:
                continue
            if name == "shell":
                ran.reply = content
                state[f"reply {parent}"] = True
            elif kind == "status":
                state[f"idle {parent}"] = state.get(f"idle {parent}", False) or content["execution_state"] == "idle"
            elif kind != "execute_input":
                ran.said.append((kind, content))
