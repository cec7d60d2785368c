"""A small disk that several machines of a lab see at once: each has its mounts for itself, so one mount is moved into each."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.machines import Machine

__all__ = ["small_disk"]

# open_tree(2) and move_mount(2): a copy of a mount is taken here and put into the mount namespace of another process.
_MOVE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    found = libc.syscall(number, *words)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found
source, target, pid = sys.argv[1:]
space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
tree = call(428, -100, source.encode(), 1 | os.O_CLOEXEC)
if libc.setns(space, 0x20000):
    raise OSError(ctypes.get_errno(), "setns")
call(429, tree, b"", -100, target.encode(), 4)
"""


@contextlib.contextmanager
def small_disk(lab: Lab, machines: Sequence[Machine], kilobytes: int) -> Iterator[Path]:
    """A folder of alice's in the lab that is a file system of its own, the same on all `machines`."""
    folder = lab.folder / f"disk-{time.monotonic_ns()}"
    folder.mkdir()
    user = lab.alice
    options = f"size={kilobytes}k,mode=700,uid={user.uid},gid={user.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    there: list[Machine] = []
    try:
        for machine in machines:
            subprocess.run([sys.executable, "-c", _MOVE, str(folder), str(folder), str(machine.init)], check=True)
            there.append(machine)
        yield folder
    finally:
        for machine in there:
            machine.run(["umount", "--lazy", str(folder)])
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()
