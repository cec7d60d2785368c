"""Pipes that hold more: each time one is full or empty its two ends take turns on the processor, and an array is long."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

__all__ = ["pipe", "widen"]

_SIZE = 1 << 20  # bytes; the system may allow less (pipe(7): /proc/sys/fs/pipe-max-size)
_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 1031)  # fcntl(2); Python has the name on Linux only, and elsewhere this is refused


def widen(descriptor: int) -> None:
    """Let the pipe behind `descriptor` hold 1 MiB where the system allows that; anything else is left as it is."""
    with suppress(OSError):
        fcntl.fcntl(descriptor, _SET_SIZE, _SIZE)


def pipe() -> tuple[int, int]:
    """A wide one, as `os.pipe`."""
    ends = os.pipe()
    widen(ends[1])
    return ends
