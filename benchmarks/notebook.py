"""A real notebook kernel, driven as a front end drives it, with clocks: cell in, outputs out, idle seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

PATIENCE = 120.0


@dataclass(slots=True)
class Run:
    """What one cell did: seconds to its first output and to its end, and the outputs themselves."""

    first: float = 0.0
    total: float = 0.0
    text: list[str] = field(default_factory=list)
    displays: int = 0
    shown: dict[str, str] = field(default_factory=dict)
    """The last text of each display: ipyparallel streams into one that it updates."""
    error: str = ""
    arrivals: list[tuple[float, str]] = field(default_factory=list)


class Notebook:
    """One ipykernel with a client; `run` executes a cell and waits for both its reply and idle."""

    def __init__(self, kernel_name: str = "python3") -> None:
        self.started = time.perf_counter()
        self.manager = KernelManager(kernel_name=kernel_name)
        self.manager.start_kernel()
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str) -> Run:
        """Execute `code`; raises RuntimeError when the cell fails."""
        run = Run()
        client = self.client
        shell, iopub = client.shell_channel.socket, client.iopub_channel.socket
        poller = zmq.Poller()
        poller.register(shell, zmq.POLLIN)
        poller.register(iopub, zmq.POLLIN)
        start = time.perf_counter()
        request = client.execute(code)
        waiting = {"reply", "idle"}
        while waiting:
            ready = dict(poller.poll(PATIENCE * 1000))
            if not ready:
                raise TimeoutError(code)
            if iopub in ready:
                message = client.get_iopub_msg(timeout=1)
                if message["parent_header"].get("msg_id") == request:
                    self._take(run, message, time.perf_counter() - start, waiting)
            if shell in ready and client.get_shell_msg(timeout=1)["parent_header"].get("msg_id") == request:
                waiting.discard("reply")
        run.total = time.perf_counter() - start
        if run.error:
            raise RuntimeError(run.error)
        return run

    @staticmethod
    def _take(run: Run, message: dict[str, Any], when: float, waiting: set[str]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            run.text.append(content["text"])
            run.arrivals.append((time.time(), content["text"]))
            run.first = run.first or when
        elif kind in ("display_data", "execute_result", "update_display_data"):
            run.displays += kind != "update_display_data"
            run.shown[str(content.get("transient", {}).get("display_id"))] = str(content["data"].get("text/plain", ""))
        elif kind == "error":
            run.error = f"{content['ename']}: {content['evalue']}"
        elif kind == "status" and content["execution_state"] == "idle":
            waiting.discard("idle")


@contextmanager
def notebook(*setup: str, kernel_name: str = "python3") -> Iterator[Notebook]:
    """A notebook kernel that has run the `setup` cells."""
    book = Notebook(kernel_name)
    try:
        if setup:
            book.client.wait_for_ready(timeout=PATIENCE)  # a cell that comes before the subscription would wait for its idle in vain
        for cell in setup:
            book.run(cell)
        yield book
    finally:
        book.close()


def rounds(count: int, cases: dict[str, Callable[[], float]], warm_up: int = 3) -> dict[str, tuple[float, ...]]:
    """Each case in turn, `count` times after a warm-up, so that a drift of the machine touches all alike."""
    for _ in range(warm_up):
        for measure in cases.values():
            measure()
    values: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(count):
        for name, measure in cases.items():
            values[name].append(measure())
    return {name: tuple(found) for name, found in values.items()}
