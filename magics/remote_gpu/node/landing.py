"""Where a blob arrives: a file that grows window by window, so that a transfer which was cut goes on where it was.

On a memory file system the price of a page is higher than that of the byte that it holds: 1.7 GB/s at most in pages of 4 KiB. A window is
therefore made of huge pages first where the system can (MADV_COLLAPSE, Linux 6.1), and read into directly: 4.4 GB/s, which is what a loopback
connection brings. Everywhere else it is written in the ordinary way.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from typing import Any

from remote_gpu.transfer.frames import BLOCK, WINDOW, Reader

__all__ = ["Landing"]

_HUGE = 2 << 20
_COLLAPSE = 25  # MADV_COLLAPSE, asm-generic/mman-common.h


class Landing:
    """The file `path`, to be filled with `size` bytes from `offset` on. Raises `BlockingIOError` when another process fills it."""

    def __init__(self, path: str, size: int, *, huge: bool) -> None:
        self.path = path
        self.size = size
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise
        there = os.fstat(self._descriptor).st_size
        # A window is begun by making the file longer, and only when the one before it is full.
        self.offset = max(0, min(there, size) - 1) // WINDOW * WINDOW
        self._pages = _HugePages() if huge and size >= _HUGE else None
        self._view: memoryview | None = None
        self._start = self._end = self.offset

    def receive(self, reader: Reader, count: int) -> None:
        """Take `count` bytes from the stream. Raises OSError (ENOSPC) when the file system is full."""
        buffer = memoryview(bytearray(min(count, BLOCK)))
        while count:
            piece = self._next(count)
            if piece is None:
                piece = buffer[: min(count, len(buffer), self._end - self.offset)]
                reader.fill(piece)
                self._write(piece)
            else:
                reader.fill(piece)
                self.offset += len(piece)
            count -= len(piece)

    def put(self, data: memoryview) -> None:
        """Take these bytes."""
        while data:
            self._next(len(data))
            part = data[: self._end - self.offset]
            self._write(part)
            data = data[len(part) :]

    def finish(self, path: str) -> None:
        """All of it is there: give it its name."""
        os.replace(self.path, path)
        self.close()

    def close(self, *, remove: bool = False) -> None:
        """Let go of the file; what is there stays for the next attempt, unless `remove`."""
        self._view = None
        if self._pages is not None:
            self._pages.close()
            self._pages = None
        if self._descriptor >= 0:
            if remove:
                with suppress(FileNotFoundError):
                    os.unlink(self.path)
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: memoryview) -> None:
        while data:
            count = os.pwrite(self._descriptor, data, self.offset)
            self.offset += count
            data = data[count:]

    def _next(self, count: int) -> memoryview | None:
        """Where to read up to `count` bytes to; None when they must be written."""
        if self.offset >= self._end:
            self._begin_window()
        at = self.offset - self._start
        if self._view is None or at >= len(self._view):
            return None
        return self._view[at : at + count]

    def _begin_window(self) -> None:
        self._start, self._end = self._end, min(self._end + WINDOW, self.size)
        os.ftruncate(self._descriptor, self._end)
        self._view = None
        whole = (self._end - self._start) // _HUGE * _HUGE
        if self._pages is not None and whole:
            for at in range(self._start, self._start + whole, _HUGE):
                os.pwrite(self._descriptor, b"\0", at)  # an empty range is not made huge
            self._view = self._pages.window(self._descriptor, self._start, whole)
            if self._view is None:
                self._pages.close()
                self._pages = None


class _HugePages:
    """Maps one window of a file at a time, in huge pages; on a system without them it gives None."""

    def __init__(self) -> None:
        self._base = self._length = 0
        self._libc: Any = None
        try:
            import ctypes

            self._ctypes = ctypes
            self._libc = libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
            libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        except (ImportError, OSError, AttributeError):
            self._libc = None

    def window(self, descriptor: int, offset: int, length: int) -> memoryview | None:
        """The file's bytes from `offset` on, `length` of them (a multiple of 2 MiB), ready to be written to."""
        libc = self._libc
        if libc is None or os.uname().sysname != "Linux":
            return None
        if not self._base and not self._reserve():
            return None
        start = (self._base + _HUGE - 1) // _HUGE * _HUGE
        flags = mmap.MAP_SHARED | 0x10  # MAP_FIXED: over our own reservation
        if libc.mmap(start, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, offset) != start:
            return None
        if libc.madvise(start, length, _COLLAPSE) != 0:
            return None
        return memoryview((self._ctypes.c_char * length).from_address(start)).cast("B")

    def _reserve(self) -> bool:
        size = WINDOW + _HUGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
        found = self._libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        if found is None or found == self._ctypes.c_void_p(-1).value:
            return False
        self._base, self._length = found, size
        return True

    def close(self) -> None:
        """Unmap; views that were given must not be used any more."""
        if self._base:
            self._libc.munmap(self._base, self._length)
            self._base = 0
