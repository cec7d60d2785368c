"""A relay without a cluster: the real `data-relay` and the real `data`, and between them a step that counts what goes through its stdin and stdout."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fakes.data import _MAGICS, _START, SESSION, DataNode

__all__ = ["COMMAND", "RelayNode", "relay_node"]

COMMAND = [sys.executable, "-I", "-S", "-c", _START, _MAGICS]
"""The node's half; a verb follows."""

_STEP = """
import json, os, subprocess, sys, threading
log, command = sys.argv[1], sys.argv[2:]
process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
counted = {"pid": process.pid, "in": 0, "out": 0}
def note():
    with open(log + ".new", "w") as file:
        json.dump(counted, file)
    os.replace(log + ".new", log)
def copy(name, source, target):
    try:
        while data := os.read(source, 65536):
            counted[name] += len(data)
            while data:
                data = data[os.write(target, data):]
    except OSError:
        pass
    os.close(target)
note()
threading.Thread(target=copy, args=("in", 0, os.dup(process.stdin.fileno())), daemon=True).start()
process.stdin.close()
copy("out", process.stdout.fileno(), os.dup(1))
status = process.wait()
note()
sys.exit(status)
"""


class RelayNode(DataNode):
    """A `DataNode` that is reached by a relay. `login` and `node` limit how large a file each end may write, in KiB (0: not at all)."""

    def __init__(self, base: Path, login: int = 0, node: int = 0) -> None:
        super().__init__(base)
        self.scratch = base / "scratch"
        self.scratch.mkdir()
        self.log = base / "step.json"
        self.errors = base / "errors"
        self.before = [*_limited(login)]
        self.step = [*_limited(node), sys.executable, "-c", _STEP, str(self.log), *COMMAND, "data", SESSION]

    @property
    def own(self) -> Path:
        """Where the relays of this user have their folders."""
        return self.scratch / f".jupyter-remote-gpu-{os.getuid()}"

    @property
    def folders(self) -> list[Path]:
        """Those that there are."""
        return list(self.own.iterdir()) if self.own.exists() else []

    @property
    def counted(self) -> dict[str, int]:
        """What went through the newest step: bytes "in" and "out"; complete when it has ended. "pid" is the node's process."""
        found: dict[str, int] = json.loads(self.log.read_text())
        return found

    def connect(self) -> socket.socket:
        here, there = socket.socketpair()
        for each in (here, there):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        command = [*self.before, *COMMAND, "data-relay", str(self.scratch), *self.step]
        with there, self.errors.open("ab") as errors:
            process = subprocess.Popen(command, stdin=there.fileno(), stdout=there.fileno(), stderr=errors, env=dict(os.environ))
        self.processes.append(process)
        self._newest = here
        return here


def _limited(kib: int) -> Sequence[str]:
    return ["bash", "-c", f'ulimit -Sf {kib or "unlimited"}; exec "$@"', "bash"]


@contextlib.contextmanager
def relay_node(base: Path, login: int = 0, node: int = 0) -> Iterator[RelayNode]:
    made = RelayNode(base, login, node)
    try:
        yield made
    finally:
        made.close()
