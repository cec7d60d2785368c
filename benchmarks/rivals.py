"""What people do without us: a plain ipykernel on the cluster's machine, and jupyter_client at five ports that ssh forwards."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from benchmarks.notebook import Notebook
from benchmarks.remote import PATIENCE

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_count = itertools.count()


class Reached(Notebook):
    """A kernel that runs already, reached by the ports of `info`; `run` as for a notebook's."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.client = BlockingKernelClient()
        self.client.load_connection_info(info)
        self.client.start_channels()
        self._greet()

    def close(self) -> None:
        """Leave it."""
        self.client.stop_channels()

    def _greet(self) -> None:
        """Wait until it answers and its output is heard, without the pauses of `wait_for_ready`."""
        poller, heard, deadline = zmq.Poller(), set(), time.monotonic() + PATIENCE
        channels = {self.client.shell_channel.socket: "shell", self.client.iopub_channel.socket: "iopub"}
        for each in channels:
            poller.register(each, zmq.POLLIN)
        while heard != {"shell", "iopub"}:
            if time.monotonic() > deadline:
                raise TimeoutError("the rival's kernel does not answer")
            self.client.kernel_info()
            for each, _ in poller.poll(100):
                each.recv_multipart()
                heard.add(channels[each])
        while ready := poller.poll(20):
            for each, _ in ready:
                each.recv_multipart()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def launcher(python: str, file: str) -> list[str]:
    """The command of a plain kernel that writes its connection file to `file`."""
    return [python, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "--ip=127.0.0.1", "-f", file]


def over(host: str, master: str, command: str, text: str = "") -> str:
    """What a shell command says on `host`, by a channel of the login `master`; "" as the host is this machine."""
    argv = ["ssh", "-S", master, "-o", "BatchMode=yes", host, command] if host else ["sh", "-c", command]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def described(host: str, master: str, file: str) -> dict[str, Any]:
    """The content of a kernel's connection file, as soon as it is there."""
    wait = f"while ! grep -q '}}' {shlex.quote(file)} 2>/dev/null; do sleep 0.02; done; cat {shlex.quote(file)}"
    info: dict[str, Any] = json.loads(over(host, master, wait))
    return info


@contextlib.contextmanager
def by_forwards(host: str, master: str, info: dict[str, Any], address: str = "127.0.0.1") -> Iterator[Reached]:
    """The kernel of `info` behind five forwards that the login is asked for."""
    ports = free_ports(len(PORTS))
    ways = [word for near, name in zip(ports, PORTS, strict=True) for word in ("-L", f"127.0.0.1:{near}:{address}:{info[name]}")]
    if host:
        subprocess.run(["ssh", "-S", master, "-O", "forward", *ways, host], check=True, capture_output=True)
    try:
        with contextlib.closing(Reached({**info, **(dict(zip(PORTS, ports, strict=True)) if host else {})})) as book:
            yield book
    finally:
        if host:
            subprocess.run(["ssh", "-S", master, "-O", "cancel", *ways, host], check=False, capture_output=True)


@contextlib.contextmanager
def by_connection(host: str, info: dict[str, Any], words: Sequence[str], *rest: str) -> Iterator[Reached]:
    """The same by a connection of its own: ``ssh -N -L …`` has no session channel, ``ssh -T -L … cat`` has one."""
    ports = free_ports(len(PORTS))
    ways = [word for near, name in zip(ports, PORTS, strict=True) for word in ("-L", f"127.0.0.1:{near}:127.0.0.1:{info[name]}")]
    argv = ["ssh", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ExitOnForwardFailure=yes", *words, *ways, host, *rest]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            with contextlib.closing(Reached({**info, **dict(zip(PORTS, ports, strict=True))})) as book:
                yield book
        finally:
            process.terminate()


def batch_job(host: str, master: str, python: str, folder: str, options: Sequence[str]) -> tuple[float, str, float]:
    """(milliseconds from asking Slurm for a plain kernel to the first output of its first cell, through five forwards; its job, which is cancelled; the
    time of day when sbatch had answered).
    """
    file = f"{folder}/rival-{os.getpid()}-{next(_count)}.json"
    script = f"#!/bin/sh\nexec {shlex.join(launcher(python, file))}\n"
    began = time.perf_counter()
    job = over(host, master, shlex.join(["sbatch", "--parsable", f"--output={file}.log", *options]), script).split(";")[0].strip()
    submitted = time.time()
    try:
        with by_forwards(host, master, described(host, master, file)) as book:
            book.run("print(1)")
            return (time.perf_counter() - began) * 1000, job, submitted
    finally:
        over(host, master, f"scancel {job}; rm -f {file} {file}.log")


@contextlib.contextmanager
def background(host: str, master: str, python: str, folder: str) -> Iterator[dict[str, Any]]:
    """A plain kernel that was started there in the background; what its connection file says."""
    file = f"{folder}/rival-{os.getpid()}-{next(_count)}.json"
    began = f"{shlex.join(launcher(python, file))} </dev/null >/dev/null 2>&1 & echo $!"
    pid = over(host, master, began).strip()
    try:
        yield described(host, master, file)
    finally:
        over(host, master, f"kill -9 {pid}; rm -f {file}")
