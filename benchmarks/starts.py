"""Starts: the first cell of a session beside the cold start of a plain ipykernel; a second session; a restart."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

from benchmarks.notebook import notebook
from benchmarks.report import Row
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

LOAD = "%load_ext remote_gpu"
WARMS_UP = 5.0
"""Seconds after which a node's warm process is ready for the next start: it waits until the first session is up."""

_names = itertools.count()


def plain_start() -> float:
    """Milliseconds from spawning a plain ipykernel to the first output of its first cell (no wait_for_ready)."""
    start = time.perf_counter()
    with notebook() as book:
        book.run("print(1)")
        return (time.perf_counter() - start) * 1000


def first_cell(keep: list[str]) -> float:
    """Milliseconds from running a remote cell for which no session exists to its first output."""
    name = f"bench-{os.getpid()}-{next(_names)}"
    keep.append(name)
    with notebook(LOAD) as book:
        return book.run(f"%%remote_gpu --session {name}\nprint(1)").first * 1000


def restart(gateway: Gateway, session: str) -> float:
    """Milliseconds of a restart, until the new kernel is ready."""
    start = time.perf_counter()
    gateway.restart(session)
    return (time.perf_counter() - start) * 1000


def measure(quick: bool = False) -> list[Row]:
    """Cold, warm and restart; every session that was made is stopped."""
    count = 3 if quick else 9
    gateway = Gateway(find_or_start_gateway())
    made: list[str] = []
    plain, cold = [], []
    try:
        for _ in range(count):  # by turns, so that a drift of the machine touches all alike
            plain.append(plain_start())
            cool_down()
            cold.append(first_cell(made))
        time.sleep(WARMS_UP)
        first_cell(made)
        warm = [first_cell(made) for _ in range(count)]
        again = [restart(gateway, made[-1]) for _ in range(count)]
    finally:
        for name in made:
            gateway.stop_session(name)
    case = "first cell, no session yet"
    return [
        Row(case, "plain ipykernel, cold", "ms", tuple(plain)),
        Row(case, "remote_gpu, cold node", "ms", tuple(cold), "plain ipykernel, cold", "≤ 1.3 ×"),
        Row(case, "remote_gpu, warm node", "ms", tuple(warm), "plain ipykernel, cold", "≤ 150 ms"),
        Row("restart", "remote_gpu", "ms", tuple(again), "", "≤ 150 ms"),
    ]


def cool_down() -> None:
    """End the node's warm process, as after a long pause."""
    subprocess.run([sys.executable, "-m", "remote_gpu.node", "zygote", "stop"], check=True, capture_output=True)
