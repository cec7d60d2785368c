"""What a notebook kernel has seen of a session, kept where a later kernel finds it: one small 0600 file per kernel and session.

It is written in place with one system call, so that it may be written for each message, and read only by `%remote_gpu attach`
in another kernel. Fixed size: a half-written one is not JSON, and is passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from remote_gpu.discovery import process_start_time, runtime_folder

__all__ = ["Cursor", "CursorFile", "JobsFile", "last_seen", "newest_cursor", "orphaned_jobs"]

_SIZE = 512
_PREFIX = "remote-gpu-seen-"
_JOBS = "remote-gpu-jobs-"
_KEEP = 14 * 24 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class Cursor:
    """The execution `msg_id` was sent when journal number `start` was the last seen; `seq` is the last seen in all."""

    session: str
    msg_id: str = ""
    start: int | None = None
    seq: int | None = None
    over: bool = False


class CursorFile:
    """This kernel's cursor in one session."""

    def __init__(self, session: str) -> None:
        folder = runtime_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{_PREFIX}{session}-{os.getpid()}.json"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.cursor = Cursor(session)
        self.left = False  # the user left the execution: its cell has seen no more than this

    def write(self, cursor: Cursor) -> None:
        """Replace what the file says."""
        self.cursor = cursor
        data = {"session": cursor.session, "msg_id": cursor.msg_id, "start": cursor.start, "seq": cursor.seq, "over": cursor.over}
        text = json.dumps(data).encode()
        with contextlib.suppress(OSError):  # a full disk costs the next kernel a replay from further back, not this cell
            os.pwrite(self._file, text.ljust(_SIZE), 0)

    def seen(self, seq: int | None) -> None:
        """Move on to journal number `seq`."""
        if self.cursor.msg_id and not self.left:
            self.write(replace(self.cursor, seq=seq))

    def close(self, *, remove: bool = False) -> None:
        """Close the file; `remove` it when the session is over."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        if remove:
            self._path.unlink(missing_ok=True)


class JobsFile:
    """The ids and labels of this kernel's unfinished background cells in one session, for a kernel that comes after it."""

    def __init__(self, session: str) -> None:
        self._path = runtime_folder() / f"{_JOBS}{session}-{os.getpid()}.json"

    def write(self, jobs: Mapping[str, str]) -> None:
        """Replace what the file says; none is left without jobs."""
        with contextlib.suppress(OSError):  # a full disk costs a later kernel the output of these cells, not this one
            if not jobs:
                self._path.unlink(missing_ok=True)
                return
            new = self._path.with_suffix(".new")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(dict(jobs), file)
            new.replace(self._path)


def orphaned_jobs(session: str) -> dict[str, str]:
    """The unfinished background cells that kernels which are no more had in `session`: labels by id. They are the caller's now."""
    found: dict[str, str] = {}
    for path in runtime_folder().glob(f"{_JOBS}{session}-*.json"):
        pid = path.stem.rpartition("-")[2]
        if not pid.isdigit() or _lives(int(pid)):
            continue
        with contextlib.suppress(OSError, ValueError):
            about = path.lstat()
            if about.st_uid == os.getuid() and not about.st_mode & 0o077:
                found |= {str(name): str(label) for name, label in json.loads(path.read_text(encoding="utf-8")).items()}
            path.unlink(missing_ok=True)
    return found


def _lives(pid: int) -> bool:
    try:
        process_start_time(pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def newest_cursor(session: str) -> Cursor | None:
    """What some kernel saw last of `session`; very old files of any session are removed."""
    found: list[tuple[float, Cursor]] = []
    for path in runtime_folder().glob(f"{_PREFIX}*.json"):
        with contextlib.suppress(OSError):
            written = path.lstat().st_mtime
            if time.time() - written > _KEEP:
                path.unlink(missing_ok=True)
            elif path.name.startswith(f"{_PREFIX}{session}-") and (cursor := _read(path)) is not None:
                found.append((written, cursor))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def last_seen() -> dict[str, float]:
    """When a kernel of this user saw something of a session last, by the session's id; seconds since the epoch."""
    found: dict[str, float] = {}
    for path in runtime_folder().glob(f"{_PREFIX}*.json"):
        with contextlib.suppress(OSError):
            session = path.name.removeprefix(_PREFIX).rpartition("-")[0]
            found[session] = max(found.get(session, 0.0), path.lstat().st_mtime)
    return found


def _read(path: Path) -> Cursor | None:
    found = path.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Cursor(data["session"], data["msg_id"], data["start"], data["seq"], bool(data["over"]))
    except (ValueError, KeyError, TypeError):
        return None
