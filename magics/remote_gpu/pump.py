"""The one extra thread in the user's kernel: it owns every ZMQ socket of ours and hands what arrives to its connection.

Other threads never touch a socket: they give the thread something to do with `call` and wait for the answer on a queue. So
output that comes after a cell has ended (a thread's prints, a widget's answer) takes the same path as a cell's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import zmq

__all__ = ["Member", "Pace", "Pump"]

log = logging.getLogger("remote_gpu")
_IDLE = 1.0  # seconds between two looks at whether gateways still live, while cells run


class Member(Protocol):
    """What the pump drives. All methods are called on its thread only."""

    def receive(self, now: float) -> None:
        """Take in everything that waits on the sockets."""

    def wanted(self) -> tuple[zmq.Socket[bytes], ...]:
        """The sockets to wait for now; fewer while output is paced."""

    def tick(self, now: float) -> float | None:
        """Do what is due by the clock; returns when something is due next (monotonic seconds), or None."""

    def close(self) -> None:
        """Close the sockets."""


class Pace:
    """How fast text may go to a browser. jupyter_server drops output above 1 MB/s of text or 1,000 messages/s, without a word.

    `limited` False (no such server in between) lets everything through.
    """

    def __init__(self, *, limited: bool, bytes_per_second: float = 800_000, messages_per_second: float = 700) -> None:
        self.limited = limited
        self._rates = (bytes_per_second, messages_per_second)
        self._left = [rate * 1.5 for rate in self._rates]
        self._then = time.monotonic()

    def spend(self, size: int) -> None:
        """Note one message of `size` bytes."""
        if self.limited:
            self._left[0] -= size
            self._left[1] -= 1

    def ready_at(self, now: float) -> float:
        """When the next message may go; `now` or earlier means at once."""
        if not self.limited:
            return now
        passed, self._then = now - self._then, now
        self._left = [min(left + passed * rate, rate * 1.5) for left, rate in zip(self._left, self._rates, strict=True)]
        return now + max(0.0, *(-left / rate for left, rate in zip(self._left, self._rates, strict=True)))


class Pump:
    """A thread that starts with its first member and ends with `stop`."""

    def __init__(self, *, limited: bool = False) -> None:
        self.pace = Pace(limited=limited)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._members: list[Member] = []
        self._commands: deque[Callable[[], None]] = deque()
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._stopping = False
        self._thread: threading.Thread | None = None

    def call(self, command: Callable[[], None]) -> None:
        """Have the thread run `command` soon; any thread may ask."""
        self._commands.append(command)
        with contextlib.suppress(BlockingIOError, OSError):  # a full pipe wakes it as well; a closed one has no thread to wake
            os.write(self._wake_out, b"!")

    def add(self, member: Member) -> None:
        """Drive `member` from now on; on the pump's thread only."""
        self._members.append(member)

    def remove(self, member: Member) -> None:
        """Close `member` and forget it; on the pump's thread only."""
        if member in self._members:
            self._members.remove(member)
            member.close()

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="remote_gpu", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and close everything; the remote sessions are not touched."""
        self._stopping = True
        if self._thread is not None and self._thread.is_alive():
            self.call(lambda: None)
            self._thread.join(timeout=5)
        self._thread = None
        for descriptor in (self._wake_in, self._wake_out):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _run(self) -> None:
        while not self._stopping:
            self._wait()
            while self._commands:
                self._guarded(self._commands.popleft())
            now = time.monotonic()
            for member in tuple(self._members):
                self._guarded(lambda member=member, now=now: member.receive(now))  # type: ignore[misc]
        for member in tuple(self._members):
            self.remove(member)
        self.context.destroy(linger=0)

    def _wait(self) -> None:
        now = time.monotonic()
        due = [moment for member in tuple(self._members) if (moment := member.tick(now)) is not None]
        timeout = max(0, int((min(due) - now) * 1000) + 1) if due else None
        poller = zmq.Poller()
        poller.register(self._wake_in, zmq.POLLIN)
        for member in self._members:
            for socket in member.wanted():
                poller.register(socket, zmq.POLLIN)
        if any(each == self._wake_in for each, _ in poller.poll(timeout)):
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_in, 4096)

    @staticmethod
    def _guarded(work: Callable[[], None]) -> None:
        # The thread serves all sessions of the notebook, so it must outlive whatever one message makes fail.
        try:
            work()
        except Exception:
            log.exception("remote_gpu could not handle a message")
