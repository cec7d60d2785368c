"""Arrays to a node and back, at the level of the data stream. Rivals: ipyparallel, Dask, and a raw loopback connection into fresh memory.

Each round sends other content, and what earlier rounds left on the node is removed first. Before each measurement as much memory is taken, touched and given
back: on a virtual machine, pages that its host does not hold ready cost ten times as much, whoever happens to get them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.notebook import notebook
from benchmarks.report import Row
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway
from remote_gpu.node import blobs
from remote_gpu.transfer.door import connect_data
from remote_gpu.transfer.transfers import Transfers

GIB = 1 << 30
SESSION = "bench-data"
_PEER = """
import socket, sys
import numpy as np
size = int(sys.argv[1])
peer = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
held = np.ones(size, np.uint8)
while word := peer.recv(1):
    if word == b"<":  # take it into fresh memory
        held = None
        held = np.empty(size, np.uint8)
        view, at = memoryview(held), 0
        while at < size:
            at += peer.recv_into(view[at:])
    else:
        peer.sendall(held)
    peer.sendall(b".")
"""
_KERNEL = """
import pickle, sys, time
import numpy as np, pandas as pd
sys.path.append(sys.argv[1])
from remote_gpu.node.serving import serve
array = np.random.default_rng(1).random(int(sys.argv[3]) // 8)
values = {"array": array, "frame": pd.DataFrame(np.random.default_rng(1).random((1_000_000, 10)))}
def encode(wanted):
    buffers = []
    head = pickle.dumps(values[wanted], protocol=5, buffer_callback=buffers.append)
    return {}, head, [buffer.raw() for buffer in buffers]
serve(sys.argv[2], encode)
print("ready", flush=True)
sys.stdin.read()
"""

Case = Callable[[], float]


def timed(action: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def ready(size: int) -> None:
    """Have the machine hold `size` bytes ready for whoever asks next."""
    np.ones(size // 8)


@contextlib.contextmanager
def raw(array: np.ndarray[Any, Any]) -> Iterator[dict[str, Case]]:
    """A process that takes the bytes of one TCP connection into fresh memory, and gives them back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer_process = subprocess.Popen([sys.executable, "-c", _PEER, str(array.nbytes), str(server.getsockname()[1])])
        peer, _ = server.accept()
    view = memoryview(array).cast("B")

    def push() -> None:
        peer.sendall(b"<")
        peer.sendall(view)
        assert peer.recv(1) == b"."

    def pull() -> None:
        peer.sendall(b">")
        fresh = memoryview(np.empty(array.nbytes, np.uint8))
        at = 0
        while at < len(fresh):
            at += peer.recv_into(fresh[at:])
        assert peer.recv(1) == b"."

    try:
        yield {"push": lambda: timed(push), "pull": lambda: timed(pull)}
    finally:
        peer.close()
        peer_process.wait()


@contextlib.contextmanager
def parallel(array: np.ndarray[Any, Any]) -> Iterator[dict[str, Case]]:
    """ipyparallel, one engine."""
    import ipyparallel

    with ipyparallel.Cluster(n=1, log_level=40) as client:
        view = client[0]
        view.block = True

        def push() -> None:
            view.push({"x": array})

        yield {"push": lambda: timed(push), "pull": lambda: timed(lambda: view.pull("x"))}


@contextlib.contextmanager
def dask(array: np.ndarray[Any, Any]) -> Iterator[dict[str, Case]]:
    """Dask, one worker process, bytes from client to worker without the scheduler."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        held: list[Any] = []

        def push() -> float:
            held.clear()
            client.run(lambda: None)
            began = time.perf_counter()
            held.append(client.scatter(array, direct=True, hash=False))
            return time.perf_counter() - began

        yield {"push": push, "pull": lambda: timed(lambda: client.gather(held[0], direct=True))}


class Ours:
    """The product's own stream: gateway, local cluster, data process; the kernel's side in a process with the arrays."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.gateway = Gateway(find_or_start_gateway())
        info = self.gateway.start_session(cluster="local", name=SESSION, cwd="/", wait=60)
        while info.state.upper() == "PENDING":
            info = self.gateway.session(info.id, wait=20, seen=info.state)
        self.session = info.id
        attachment = self.gateway.attach(info.id)
        self.transfers = Transfers(lambda: connect_data(self.gateway.record.socket, info.id, attachment.id))
        magics = str(Path(sys.modules["remote_gpu"].__file__ or "").resolve().parents[1])
        command = [sys.executable, "-c", _KERNEL, magics, info.folder, str(array.nbytes)]
        self.kernel = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.kernel.stdout is not None
        assert self.kernel.stdout.readline() == "ready\n"

    def push(self, value: Any) -> float:
        """Send it, as if for the first time."""
        for place in blobs.default_places():
            for path in Path(place.folder).glob("*-*"):
                path.unlink()
        return self.again(value)

    def again(self, value: Any) -> float:
        """Have it there."""

        def act() -> None:
            buffers: list[pickle.PickleBuffer] = []
            pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            self.transfers.put_missing([buffer.raw() for buffer in buffers])

        return timed(act)

    def pull(self, name: str) -> float:
        """Fetch it into fresh memory."""

        def act() -> None:
            fetched = self.transfers.fetch(name)
            pickle.loads(fetched.head, buffers=fetched.buffers)

        return timed(act)

    def close(self) -> None:
        """End all."""
        self.transfers.close()
        self.kernel.communicate()
        self.gateway.stop_session(SESSION)


def _peak(pids: list[int], action: Callable[[], Any]) -> list[float]:
    """How much more MB each process (and shared memory that it alone holds) took at its highest during `action`."""
    import psutil

    processes = [psutil.Process(pid) for pid in pids]
    before = [process.memory_info().rss for process in processes]
    highest, over = list(before), threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            for index, process in enumerate(processes):
                with contextlib.suppress(psutil.Error):
                    highest[index] = max(highest[index], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    action()
    over.set()
    thread.join()
    return [(most - first) / 1e6 for most, first in zip(highest, before, strict=True)]


def _memory(ours: Ours, size: int) -> list[Row]:
    import psutil

    goal, unit = f"≤ {64} MB over the {size / 1e6:.0f} MB of the object", "MB"
    (process,) = [each.pid for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[-2:] == ["data", ours.session]]
    ours.array[0] += 1
    here, there = _peak([os.getpid(), process], lambda: ours.push(ours.array))
    pull_here, pull_kernel = _peak([os.getpid(), ours.kernel.pid], lambda: ours.pull("array"))
    return [
        Row("memory of a push", "here, beside the array", unit, (here,), "", "≤ 64 MB"),
        Row("memory of a push", "the node's process, beside the blob", unit, (there,), "", "≤ 64 MB"),
        Row("memory of a pull", "here", unit, (pull_here,), "", goal),
        Row("memory of a pull", "the kernel, beside the array", unit, (pull_kernel,), "", "≤ 64 MB"),
    ]


_MAKE = """
import numpy as np, pandas as pd
array = np.random.default_rng(0).random({count})
frame = pd.DataFrame(np.random.default_rng(0).random((1_000_000, 10)))
try:
    import torch
    tensor = torch.rand({count}, dtype=torch.float64)
except ImportError:
    tensor = None
"""
_CHANGE = {"array": "array[0] += 1", "frame": "frame.iloc[0, 0] += 1", "tensor": "tensor[0] += 1"}


def _cells(quick: bool, size: int) -> list[Row]:
    """The same through cells: a changed object is read by one, an unchanged one again, and a remote one is fetched."""
    rows: list[Row] = []
    with notebook("%load_ext remote_gpu", "%%remote_gpu --session bench-cells\npass", _MAKE.format(count=size // 8)) as book:
        names = ["array", "frame", *([] if "True" in "".join(book.run("print(tensor is None)").text) else ["tensor"])]
        for name in names:
            sizes = 80_000_000 if name == "frame" else size
            sent, again, fetched = [], [], []
            book.run(f"%%remote_gpu --session bench-cells\nthere = {name}; there is None")
            for _ in range(2 if quick else 5):
                book.run(f"{_CHANGE[name]}\nnp.ones({size // 8})\nNone")
                sent.append(book.run(f"%%remote_gpu --session bench-cells\n{name} is None").total)
                again.append(book.run(f"%%remote_gpu --session bench-cells\n{name} is None").total)
                book.run(f"np.ones({size // 8})\nNone")
                fetched.append(book.run("copy = there.fetch(); del copy").total)
            note = f"{sorted(sent)[len(sent) // 2] / sorted(again)[len(again) // 2]:.1f} × as fast as the first time"
            for verb, values in (("sent with a cell", sent), ("fetched", fetched)):
                rates = tuple(sizes / value / 1e9 for value in values)
                base, goal = ("array", "≥ 0.77 × array") if name != "array" else ("", "")
                rows.append(Row(f"an object {verb}", name, "GB/s", rates, base, goal, f"{sizes / 1e6:.0f} MB"))
            rows.append(
                Row("unchanged object read by a cell again", name, "s", tuple(again), "", "" if name == "frame" else "≥ 8 × as fast", note)
            )
        book.run("%remote_gpu stop --session bench-cells")
    return rows


def measure(quick: bool = False) -> list[Row]:
    """All in one run, in turns."""
    size, count = (GIB // 8, 2) if quick else (GIB, 5)
    array = np.random.default_rng(0).random(size // 8)
    frame = pd.DataFrame(np.random.default_rng(0).random((1_000_000, 10)))
    found: dict[tuple[str, str], list[float]] = {}
    with raw(array) as tcp, parallel(array) as ipp, dask(array) as rival, contextlib.closing(Ours(array)) as ours:
        cases: dict[str, dict[str, Case]] = {
            "raw TCP": tcp,
            "ipyparallel": ipp,
            "Dask": rival,
            "remote_gpu": {"push": lambda: ours.push(array), "again": lambda: ours.again(array), "pull": lambda: ours.pull("array")},
            "remote_gpu, DataFrame": {"push": lambda: ours.push(frame), "pull": lambda: ours.pull("frame")},
        }
        for turn in range(count + 1):
            array[0], frame.iloc[0, 0] = turn, turn
            for who, verbs in cases.items():
                for verb, case in verbs.items():
                    if verb != "again":
                        ready(size)
                    seconds = case()
                    if turn:  # the first is for warming up
                        found.setdefault((verb, who), []).append(seconds)
        memory = _memory(ours, size)
    rows = []
    sizes = {"remote_gpu, DataFrame": 1_000_000 * 10 * 8}
    for (verb, who), values in found.items():
        rates = tuple(sizes.get(who, size) / value / 1e9 for value in values)
        base = "" if who == "raw TCP" else "raw TCP"
        goal = {"remote_gpu": "≥ 0.5 × raw TCP, ≥ Dask, ≥ 5 × ipyparallel", "remote_gpu, DataFrame": "≥ array / 1.3"}.get(who, "")
        if verb == "again":
            first = sorted(found["push", who])[len(values) // 2]
            note = f"{first / sorted(values)[len(values) // 2]:.1f} × as fast as the first time"
            rows.append(Row("1 GiB unchanged, sent again", who, "s", tuple(values), "", "≥ 8 × as fast", note))
        else:
            rows.append(Row(f"{verb} of 1 GiB of float64", who, "GB/s", rates, base, goal, f"worst {min(rates):.2f}"))
    return rows + memory + _cells(quick, size)
