"""The test lab's hosts as a user's own, for benchmarks: the lab itself, private folders with a gateway that knows its clusters, a login, timings of ssh."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.lab import Lab
from tests.lab.plan import Owner

from benchmarks.report import Row
from jupyter_remote_gpu.clusters.logins import Logins
from remote_gpu.discovery import GatewayRecord, live_gateways

ROOT = Path(__file__).parent.parent
PATIENCE = 120.0
_SLOWS = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
"""Settings of whoever runs the benchmarks that make each Python start two to four times as long; a user has none of them."""


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A lab of its own, or the one that JUPYTER_REMOTE_GPU_LAB names."""
    if given := os.environ.get("JUPYTER_REMOTE_GPU_LAB"):
        yield Lab.open(Path(given))
        return
    mine = Lab.start(owned_by=Owner.of(os.getpid()))
    try:
        yield mine
    finally:
        mine.stop()


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """This process's environment, and that of its children, with `values` and without what makes Python slow."""
    before = dict(os.environ)
    os.environ.update(values)
    for name in _SLOWS:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(frozen=True, slots=True)
class Places:
    """Private folders of one user whose `clusters` are configured; processes below us find them in their environment."""

    base: Path

    @contextlib.contextmanager
    def gateway(self, log: Path | None = None) -> Iterator[GatewayRecord]:
        """A new gateway without a Jupyter server; `log` is where it writes down what it does (see `traced`). Logins outlive it, sessions are not stopped."""
        command = ["benchmarks.traced", str(log)] if log else ["jupyter_remote_gpu", "serve"]
        with (self.base / "gateway.log").open("ab") as said:
            process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + PATIENCE
            while (record := next((each for each in live_gateways() if each.pid == process.pid), None)) is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the gateway did not start: {(self.base / 'gateway.log').read_text()[-2000:]}")
                time.sleep(0.02)
            yield record
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    @staticmethod
    def master(host: str) -> str:
        """The socket of the login to `host`, as a gateway with these folders has it."""
        return asyncio.run(Logins().of(host).path())


def load(note: str = "") -> str:
    """A note with how busy the machine is."""
    return f"{note}{'; ' * bool(note)}load1 {os.getloadavg()[0]:.1f}"


def speed(count: int = 5) -> Row:
    """How fast the machine is now: a fixed loop of Python, which takes some 25 ms on a machine that does nothing else."""
    return Row("the machine now", "a loop of Python", "ms", tuple(_loop() for _ in range(count)), note=load())


def _loop() -> float:
    began, total = time.perf_counter(), 0
    for number in range(300_000):
        total += number * number
    return (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def places(lab: Lab, clusters: Mapping[str, Any]) -> Iterator[Places]:
    """Folders of a new user on this machine, who can reach the lab's hosts and is on a login node of bristol himself."""
    found = Places(Path(tempfile.mkdtemp(dir="/tmp", prefix="b")))
    cache = lab.folder / f"cache-{found.base.name}"
    folders = {"FOLDER": "r", "RUNTIME_DIR": "rt", "DATA_DIR": "data", "CONFIG_DIR": "config"}
    values = {f"JUPYTER_{'REMOTE_GPU_' if name == 'FOLDER' else ''}{name}": str(found.base / end) for name, end in folders.items()}
    values |= {"IPYTHONDIR": str(found.base / "ipython"), "XDG_CACHE_HOME": str(cache), "SLURM_CONF": str(lab.bristol.conf)}
    for folder in (cache, *(found.base / end for end in folders.values())):
        folder.mkdir(mode=0o700)
    (found.base / "config" / "jupyter_server_config.json").write_text(json.dumps({"RemoteGpu": {"clusters": clusters}}))
    with environment({**lab.environment, **values}):
        try:
            yield found
        finally:
            _end(found)
    shutil.rmtree(cache, ignore_errors=True)
    shutil.rmtree(found.base, ignore_errors=True)


def _end(found: Places) -> None:
    """Log out, and end the warm processes."""
    for path in (found.base / "r" / "m").glob("*"):
        subprocess.run(["ssh", "-S", str(path), "-O", "exit", "any"], capture_output=True, check=False)
    subprocess.run([sys.executable, "-m", "remote_gpu.node", "zygote", "stop"], capture_output=True, check=False)
