"""Private folders: short, owned by this user, closed to everybody else.

Sockets and keys live in them. A Unix socket's path is limited to about 104 bytes (``sun_path`` in unix(7)), so the
folders lie directly below the temporary folder and have short names.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from remote_gpu.base import MAX_SOCKET_PATH, base_folder
from remote_gpu.errors import NotWritable

__all__ = ["MAX_SOCKET_PATH", "check_private", "node_folder", "private_folder", "write_private"]


def check_private(path: Path) -> None:
    """Raise `NotWritable` unless `path` is a real folder of this user that nobody else can enter."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        message = f"The folder {path} is not private: it must be a folder that you own, with mode 0700."
        raise NotWritable(message, hint="Remove it, or set JUPYTER_REMOTE_GPU_FOLDER to another folder.")


def private_folder(path: Path) -> Path:
    """Make `path` (and its parents) with mode 0700, or check it when it is there; returns `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        message = f"Cannot make the folder {path}: {error.strerror}."
        raise NotWritable(message, hint="Set JUPYTER_REMOTE_GPU_FOLDER to a writable folder.") from error
    check_private(path)
    return path


def node_folder(*names: str) -> Path:
    """A private folder below this machine's base folder, made when missing: ``/tmp/jrg-UID/NAME/…``."""
    folder = private_folder(Path(base_folder()))
    for name in names:
        folder = private_folder(folder / name)
    return folder


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` atomically with mode 0600; raises `NotWritable` when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        message = f"Cannot write {path}: {error.strerror}."
        raise NotWritable(message, hint="Free some space, or choose another folder.") from error
