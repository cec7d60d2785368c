"""A node's data process without a gateway: the real command over a socket pair, a session folder made by hand, a kernel's side in a thread."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from remote_gpu.folders import node_folder
from remote_gpu.node import blobs
from remote_gpu.node.serving import Server, serve
from remote_gpu.transfer.frames import Op
from remote_gpu.transfer.transfers import Transfers

SESSION = "abcdefghij"
_START = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from remote_gpu.node.__main__ import main; main()"
_MAGICS = str(Path(__file__).resolve().parents[2] / "magics")


class DataNode:
    """One session on a node. `connect` opens a data stream; `cut` says after how many bytes each further one is killed."""

    def __init__(self, base: Path) -> None:
        self.cwd = base / "work"
        self.cwd.mkdir()
        self.folder = node_folder("s") / SESSION
        self.folder.mkdir(mode=0o700)
        (self.folder / "state.json").write_text(json.dumps({"session": SESSION, "cwd": str(self.cwd)}))
        self.processes: list[subprocess.Popen[bytes]] = []
        self._servers: list[Server] = []
        self.transfers = Transfers(self.connect)

    def connect(self) -> socket.socket:
        here, there = socket.socketpair()
        for each in (here, there):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        command = [sys.executable, "-I", "-S", "-c", _START, _MAGICS, "data", SESSION]
        with there:
            process = subprocess.Popen(command, stdin=there.fileno(), stdout=there.fileno(), env=dict(os.environ))
        self.processes.append(process)
        self._newest = here
        return here

    def kill(self) -> None:
        """Kill the newest data process without a word."""
        self.processes[-1].send_signal(signal.SIGKILL)
        self.processes[-1].wait()

    def cut(self) -> None:
        """Break the newest stream, as a network does; the kernel writes on until it notices."""
        self._newest.shutdown(socket.SHUT_RDWR)

    def serve(self, encode, generation: Callable[[], int] = lambda: 0) -> Server:
        server = serve(self.folder, encode, generation)
        self._servers.append(server)
        return server

    def close(self) -> None:
        self.transfers.close()
        for server in self._servers:
            server.close()
        for process in self.processes:
            process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
        blobs.forget_if_unused()


@contextlib.contextmanager
def data_node(base: Path) -> Iterator[DataNode]:
    node = DataNode(base)
    try:
        yield node
    finally:
        node.close()


def content(size: int, seed: int = 1) -> memoryview:
    return memoryview(random.Random(seed).randbytes(size))


def blob_messages(node: DataNode) -> list[int]:
    """The bytes of each PUT from now on."""
    sent: list[int] = []
    channel = node.transfers.attempts(lambda channel: channel)
    send = channel.send

    def noted(op, meta, body=b"", **more):
        if op is Op.PUT:
            sent.append(len(body))
        send(op, meta, body, **more)

    channel.send = noted
    return sent
