"""Processes by number and start time, and waiting with a deadline.

A number alone can be somebody else's by now; with the time at which its process started it cannot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator

__all__ = ["all_pids", "alive", "below", "command_line", "end", "inner_pid", "owner", "start_time", "wait_until"]


def all_pids() -> Iterator[int]:
    """The numbers of all processes of this machine."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(path: str) -> bytes:
    """The first page or more of a file in /proc; empty when there is none. (pathlib takes ten times as long, and this is asked often.)"""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the name (proc(5)): state, parent, …; empty when there is no such process."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _status(pid: int, key: bytes) -> list[int]:
    """The numbers behind `key` in /proc/PID/status."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(key):
            return [int(word) for word in line.split()[1:]]
    return []


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since the machine did; 0 when it has ended, also if nobody has waited for it yet."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in b"ZX" else 0


def alive(pid: int, started: int) -> bool:
    """Whether `pid` still is the process that started then."""
    return pid > 0 and start_time(pid) == started


def inner_pid(pid: int) -> int:
    """The number that `pid` has in its own PID namespace; 0 when it has ended."""
    return (_status(pid, b"NSpid:") or [0])[-1]


def owner(pid: int) -> int:
    """The real user id of `pid`; -1 when it has ended."""
    return (_status(pid, b"Uid:") or [-1])[0]


def command_line(pid: int) -> str:
    """The words of its command line, NUL between them; empty when it has ended."""
    return os.fsdecode(_read(f"/proc/{pid}/cmdline"))


def below(*pids: int) -> list[int]:
    """The children of `pids`, and theirs."""
    parents = {child: int(fields[1]) for child in all_pids() if (fields := _stat(child))}
    found, todo = [], [pid for pid in pids if pid > 1]  # 0 stands for "none" here, and would mean everything
    while todo:
        parent = todo.pop()
        children = [child for child, its in parents.items() if its == parent]
        found += children
        todo += children
    return found


def end(pids: Iterable[int], seconds: float = 0) -> None:
    """TERM to all, and KILL to those that are there after `seconds`; returns when all have ended (at most 10 s later)."""
    started = {pid: start for pid in pids if pid > 1 and (start := start_time(pid))}

    def left() -> list[int]:
        return [pid for pid, start in started.items() if alive(pid, start)]

    if seconds:
        _send(left(), signal.SIGTERM)
        wait_until(lambda: not left(), seconds)
    _send(left(), signal.SIGKILL)
    wait_until(lambda: not left(), 10)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """True as soon as the condition holds, false after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
