"""The supervisor's side of one kernel process: its fork, its five sockets, its signatures, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from remote_gpu.folders import write_private
from remote_gpu.frames import Lane, Message
from remote_gpu.node import wire
from remote_gpu.node.spawn import bundle_path

__all__ = ["KernelProcess", "KernelState", "oom_kills"]

_IDENTITY = b"supervisor"
_PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
_DEADLY = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
_LAST_WORDS = 0.2
_CHANNELS = {Lane.SHELL: "shell", Lane.CONTROL: "control", Lane.STDIN: "stdin"}


@dataclass(frozen=True)
class KernelState:
    """What ATTACHED and EVENT tell of the kernel; the link-protocol page has the values."""

    state: str
    pid: int
    started: float
    incarnation: int
    reason: str = ""
    text: str = ""
    exit_code: int | None = None
    signal: int | None = None

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def oom_kills() -> int:
    """How many processes of this cgroup the system killed for memory so far; 0 where it does not tell."""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                file = Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                file = Path("/sys/fs/cgroup/memory") / path.lstrip("/") / "memory.oom_control"
            else:
                continue
            for entry in file.read_text().splitlines():
                if entry.startswith("oom_kill "):
                    return int(entry.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


class KernelProcess:
    """One incarnation of the kernel. `start` forks; nothing here blocks.

    `bound` turns true when its sockets are bound and connected to, `ready` when it serves and its output is subscribed.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path, incarnation: int, environment: dict[str, str]) -> None:
        self._context = context
        self._folder = folder
        self._environment = environment
        self._key = secrets.token_hex(32).encode()
        self.state = KernelState("starting", 0, time.time(), incarnation)
        self.sockets: dict[Lane, zmq.Socket[bytes]] = {}
        self.ready_descriptor = -1
        self._monitors: list[zmq.Socket[bytes]] = []
        self._life = -1
        self._told_ready = False
        self._subscribed = False
        self.asked = ""
        """Why the kernel is to end, in words, once somebody asked for it."""
        self._oom_before = oom_kills()

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group's."""
        return self.state.pid

    @property
    def ready(self) -> bool:
        """Whether requests may be sent to it without losing an answer."""
        return self._told_ready and self._subscribed

    @property
    def running(self) -> bool:
        """Whether its process has not ended yet."""
        return self.state.state != "ended"

    def start(self) -> None:
        """Fork it."""
        from remote_gpu.node.kernel import become_kernel

        connection = self._write_connection_file()
        ready_read, ready_write = os.pipe()
        life_read, self._life = os.pipe()
        pid = os.fork()
        if pid == 0:
            become_kernel(connection, self._environment, bundle_path(), self.state.incarnation, ready_write, life_read)
        os.close(ready_write)
        os.close(life_read)
        os.set_blocking(ready_read, False)
        self.ready_descriptor = ready_read
        with contextlib.suppress(OSError):  # it was faster, or ended already
            os.setpgid(pid, pid)
        self.state = replace(self.state, pid=pid)

    def on_ready(self) -> bool:
        """Read the ready pipe; True while it stays open."""
        try:
            data = os.read(self.ready_descriptor, 8)
        except BlockingIOError:
            return True
        if b"b" in data:
            self._connect()
        self._told_ready = self._told_ready or b"r" in data
        if not data or self._told_ready:
            os.close(self.ready_descriptor)
            self.ready_descriptor = -1
            return False
        return True

    def serves(self) -> None:
        """Note that it takes requests from now on."""
        self.state = replace(self.state, state="idle")

    def subscribed(self) -> None:
        """Note that something arrived on iopub: the subscription works."""
        self._subscribed = True

    def probe(self) -> None:
        """Ask for something that makes the kernel publish, which proves the subscription (kernels without a welcome message)."""
        self.send(Lane.CONTROL, Message([], wire.make_parts("kernel_info_request", {})))

    def send(self, lane: Lane, message: Message) -> None:
        """Sign a message and hand it to the kernel's socket. Never blocks: the socket takes all."""
        socket = self.sockets[lane]
        parts = message.parts
        frames = [*message.identities, wire.DELIMITER, wire.sign(self._key, parts), *parts]
        large = any(len(part) > 65536 for part in parts[4:]) or len(parts[3]) > 65536  # noqa: PLR2004  copying is cheaper below
        socket.send_multipart(frames, copy=not large)

    def receive(self, lane: Lane) -> Message | None:
        """The next message of a channel, its signature checked and taken off; None when there is none.

        Messages with a wrong signature are skipped.
        """
        socket = self.sockets.get(lane)
        while socket is not None:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            found = wire.split(frames, self._key)
            if found is not None:
                return Message(found[0], list(found[1]))
        return None

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and its children (its process group)."""
        if self.running and self.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def ask_to_end(self, why: str, *, restart: bool) -> None:
        """Ask the kernel to end in order; the caller kills it when it does not."""
        self.asked = self.asked or why
        self.signal(signal.SIGINT)
        if self.sockets:
            self.send(Lane.CONTROL, Message([], wire.make_parts("shutdown_request", {"restart": restart})))
        else:
            self.signal(signal.SIGKILL)

    def reap(self) -> bool:
        """Whether the process ended just now; `state` says how."""
        if not self.running:
            return False
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0
        if pid == 0:
            return False
        self._await_last_words()
        code = os.waitstatus_to_exitcode(status)
        reason, text = self._verdict(code)
        self.state = replace(
            self.state,
            state="ended",
            reason=reason,
            text=text,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
        )
        return True

    def close(self) -> None:
        """Close what is open; the closing of the life pipe kills what is left of the process group."""
        for descriptor in (self.ready_descriptor, self._life):
            if descriptor >= 0:
                os.close(descriptor)
        self.ready_descriptor = self._life = -1
        for socket in self.sockets.values():
            socket.disable_monitor()
            socket.close(linger=0)
        self.sockets.clear()
        self._monitors.clear()
        for name in [*(f"k{self.state.incarnation}-{port}" for port in range(1, 7)), "kernel.json"]:
            (self._folder / name).unlink(missing_ok=True)

    def _await_last_words(self) -> None:
        """Wait until all that the dead process sent has arrived; its sockets are closed, so that takes no time."""
        deadline = time.monotonic() + _LAST_WORDS
        for monitor in self._monitors:
            monitor.poll(max(0, int((deadline - time.monotonic()) * 1000)))

    def _verdict(self, code: int) -> tuple[str, str]:
        if self.asked:
            return "asked", self.asked
        if code == -signal.SIGKILL and oom_kills() > self._oom_before:
            return "out_of_memory", "The remote kernel was killed because its memory limit was reached."
        if code == -signal.SIGKILL:
            return "killed", "The remote kernel was killed (SIGKILL); perhaps the node ran out of memory."
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            verb, reason = ("crashed", "crashed") if -code in _DEADLY else ("was killed", "killed")
            return reason, f"The remote kernel {verb} ({name})."
        if code == 0 and self._told_ready:
            return "asked", "The remote kernel ended by itself."
        return "crashed", f"The remote kernel ended by itself with exit code {code}{'' if self._told_ready else ' while it started'}."

    def _write_connection_file(self) -> Path:
        path = self._folder / "kernel.json"
        info: dict[str, Any] = {
            "transport": "ipc",
            "ip": str(self._folder / f"k{self.state.incarnation}"),
            "key": self._key.decode(),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "remote_gpu",
            **{f"{name}_port": port for name, port in _PORTS.items()},
        }
        write_private(path, json.dumps(info))
        return path

    def _connect(self) -> None:
        base = f"ipc://{self._folder / f'k{self.state.incarnation}'}"
        for lane, name in _CHANNELS.items():
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.IDENTITY, _IDENTITY)
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.LINGER, 0)
            self._open(lane, socket, f"{base}-{_PORTS[name]}")
        iopub = self._context.socket(zmq.SUB)
        iopub.setsockopt(zmq.RCVHWM, 0)
        iopub.setsockopt(zmq.LINGER, 0)
        iopub.setsockopt(zmq.SUBSCRIBE, b"")
        self._open(Lane.IOPUB, iopub, f"{base}-{_PORTS['iopub']}")

    def _open(self, lane: Lane, socket: zmq.Socket[bytes], address: str) -> None:
        self._monitors.append(socket.get_monitor_socket(zmq.EVENT_DISCONNECTED))
        socket.connect(address)
        self.sockets[lane] = socket
