"""The folder of one relay, on a file system that a login node and a compute node share; what is large goes from one to the other in its files.

Nobody else may look into it, and neither end trusts what the other has put there: a folder or file that is not the user's own, a link, or anything
but a plain file is refused. Each end holds the folder by a descriptor, so nothing outside of it is ever read, written or removed. A file is written
once, under a number that is never used again, and nobody looks for it before its writer says that it is there: a file system that is reached over
a network may remember for minutes that there was none.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

from remote_gpu.errors import BadFrame, LinkProblem
from remote_gpu.node.spawn import alive, start_time

__all__ = ["LOGIN", "NODE", "Spool"]

LOGIN, NODE = "l", "n"
"""The two ends: what the first letter of a file's name says of who wrote it."""

_NAME = re.compile(r"[0-9a-f]{16}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FORGOTTEN = 900.0  # seconds that a folder is left alone whose relay may still be alive on another machine; it says so more often
_LATE = 5.0  # seconds that a file may take to be seen by the other machine
_LOOK = 0.01
_OWNER_LIMIT = 512


class Spool:
    """One end's view of the folder `path`. Raises OSError where the system does, and `LinkProblem` for a folder that is not private."""

    def __init__(self, path: Path, end: str) -> None:
        self.path = path
        self.above = path.parent.parent
        """The folder that was configured."""
        self._writes = end
        self._reads = NODE if end == LOGIN else LOGIN
        self._folder = _private(path)

    @classmethod
    def make(cls, scratch: Path) -> Spool:
        """The login's end: a new folder below `scratch`, with the file 0, which says whose it is. Removes those that were left behind."""
        base = scratch / f".jupyter-remote-gpu-{os.getuid()}"
        base.mkdir(0o700, exist_ok=True)
        os.close(_private(base))
        path = base / secrets.token_hex(8)
        path.mkdir(0o700)
        spool = cls(path, LOGIN)
        spool.write(0, memoryview(f"{_here()} {os.getpid()} {start_time(os.getpid()):.0f} {secrets.token_hex(16)}".encode()))
        _sweep(base, spool)
        return spool

    def write(self, number: int, data: memoryview) -> None:
        """A new file with `data`. Raises OSError, also when the disk is full or a quota used up; then there is none."""
        name = f"{self._writes}{number}"
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self._folder)
        try:
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)  # a network's file system tells only now what did not fit
        except OSError:
            self._remove(name)
            raise

    def open(self, number: int, size: int) -> int:
        """A descriptor of a file that the other end says it has written. Raises `BadFrame` when it is not what it should be."""
        name, deadline = f"{self._reads}{number}", time.monotonic() + _LATE
        while True:
            descriptor = -1
            with suppress(FileNotFoundError):
                descriptor = self._checked(name)
                if os.fstat(descriptor).st_size == size:
                    return descriptor
            if descriptor >= 0:
                os.close(descriptor)
            if time.monotonic() > deadline:
                raise BadFrame(f"{self.path}/{name} is not there, or is not of {size} bytes.")
            time.sleep(_LOOK)

    def read(self, number: int, size: int) -> bytes:
        """The small file that the other end says it has written."""
        descriptor = self.open(number, min(size, _OWNER_LIMIT))
        try:
            return os.read(descriptor, _OWNER_LIMIT)
        finally:
            os.close(descriptor)

    def used(self, number: int) -> None:
        """A file of the other end was read, and goes."""
        self._remove(f"{self._reads}{number}")

    def touch(self) -> None:
        """Say that it is in use."""
        with suppress(OSError):
            os.utime(self._folder)

    def remove(self) -> None:
        """Remove it with all its files."""
        _empty(self._folder)
        with suppress(OSError):
            self.path.rmdir()

    def owner(self) -> bytes:
        """What the file 0 of the login's end says."""
        descriptor = self._checked(f"{LOGIN}0")
        try:
            return os.read(descriptor, _OWNER_LIMIT)
        finally:
            os.close(descriptor)

    def changed(self) -> float:
        """When it was last in use, by the clock of its file system."""
        return os.fstat(self._folder).st_mtime

    def close(self) -> None:
        """Let go of it."""
        os.close(self._folder)

    def _checked(self, name: str) -> int:
        try:
            descriptor = os.open(name, _THERE, dir_fd=self._folder)
        except FileNotFoundError:
            raise
        except OSError as error:  # a symbolic link, say
            raise BadFrame(f"{self.path}/{name} is not a plain file: {error.strerror}.") from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_nlink != 1:
            os.close(descriptor)
            raise BadFrame(f"{self.path}/{name} is not a plain file of yours.")
        return descriptor

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._folder)


def _private(path: Path) -> int:
    """A descriptor of a folder that is this user's alone."""
    descriptor = os.open(path, _FOLDER)
    found = os.fstat(descriptor)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        os.close(descriptor)
        raise LinkProblem(f"The folder {path} is not private to you, so it is not used.", hint="Remove it.")
    return descriptor


def _empty(folder: int) -> None:
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)


def _sweep(base: Path, mine: Spool) -> None:
    """Remove the folders of relays that were killed: here, at once, and elsewhere when nobody has used them for long."""
    for path in base.iterdir():
        if path == mine.path or not _NAME.fullmatch(path.name):
            continue
        with suppress(OSError, LinkProblem):
            other = Spool(path, LOGIN)
            try:
                if _is_left(other, mine.changed()):
                    other.remove()
            finally:
                other.close()


def _is_left(spool: Spool, now: float) -> bool:
    if now - spool.changed() > _FORGOTTEN:
        return True
    try:
        where, _, rest = spool.owner().decode(errors="replace").partition(" ")
        pid, started, _ = rest.split()
        return where == _here() and not alive(int(pid), float(started))
    except (OSError, ValueError, LinkProblem):
        return False


def _here() -> str:
    """This machine, and the numbering of its processes: a container has its own."""
    space = 0
    with suppress(OSError):
        space = Path("/proc/self/ns/pid").stat().st_ino
    return f"{os.uname().nodename}/{space}"
