"""The user's own clusters: one file, which all of his gateways read, and which may change while they run.

It is JSON: the names of clusters, each with its configuration, as in the setting ``RemoteGpu.clusters``. What it says decides where the user's
passwords are typed and what runs under his name, so a file that others may write is not believed. One that cannot be read is never written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.settings import check_cluster
from remote_gpu.discovery import runtime_folder
from remote_gpu.errors import NotWritable, RemoteGpuError, UsageProblem
from remote_gpu.folders import write_private

__all__ = ["ClusterFile", "parse"]

Configurations = Mapping[str, Mapping[str, Any]]

_BELIEVED = 1.0  # seconds until the file's date is looked at again
_OTHERS_WRITE = 0o002


class ClusterFile:
    """The file at `path`, which need not be there."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._problem: RemoteGpuError | None = None
        self._looked = float("-inf")
        self._stamp: tuple[int, ...] | None = None
        self._clusters: Configurations = {}

    @property
    def clusters(self) -> Configurations:
        """What it says, as of at most a second ago; the same object while that is the same."""
        self._look(_BELIEVED)
        return self._clusters

    @property
    def problem(self) -> RemoteGpuError | None:
        """Why it cannot be used as it is; `clusters` are then what was read before."""
        self._look(_BELIEVED)
        return self._problem

    def change(self, name: str, configuration: Mapping[str, Any] | None) -> None:
        """Give the cluster `name` this configuration, or None: take it out. All others stay as they are in the file now.

        Raises `UsageProblem` for a file that is damaged, which then stays as it is, and `NotWritable`.
        """
        with _alone():
            found = dict(_read(self.path))
            if configuration is None:
                found.pop(name, None)
            else:
                found[name] = dict(configuration)
            _write(self.path, found)
        self._look()

    def _look(self, believed: float = 0) -> None:
        if self._clock() - self._looked < believed:
            return
        self._looked, before = self._clock(), self._stamp
        self._stamp = _stamp(self.path)
        if self._stamp == before and self._problem is None:
            return
        try:
            self._clusters, self._problem = _read(self.path), None
        except RemoteGpuError as problem:
            self._problem = problem


def parse(text: str, path: Path) -> dict[str, dict[str, Any]]:
    """The clusters of a file's `text`; raises `UsageProblem` that names the file and the line of what is wrong."""
    try:
        found = json.loads(text or "{}", object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        raise _damaged(path, error.lineno, f"{error.msg} (column {error.colno})") from error
    except _TwiceError as error:
        raise _damaged(path, _line_of(text, error.name, last=True), f"{error.name!r} stands there twice") from error
    if not isinstance(found, dict):
        raise _damaged(path, 1, "it is no object with the names of clusters")
    for name, configuration in found.items():
        check_cluster(f"{path}, line {_line_of(text, name)},", name, configuration)
    return found


class _TwiceError(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found


def _damaged(path: Path, line: int, what: str) -> UsageProblem:
    message = f"The file of your clusters, {path}, is damaged in line {line}: {what}. It was left as it is."
    return UsageProblem(message, hint="Mend it, or move it away.", file=str(path), line=line)


def _line_of(text: str, name: str, *, last: bool = False) -> int:
    """The line in which `name` stands as JSON has it; 1 when it is written in another way."""
    word = json.dumps(name)
    place = text.rfind(word) if last else text.find(word)
    return text.count("\n", 0, max(0, place)) + 1


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            _check_owner(path, os.fstat(file.fileno()))
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        message = f"The file of your clusters, {path}, cannot be read: {getattr(error, 'strerror', None) or error}."
        raise UsageProblem(message, hint="Mend its permissions, or move it away.", file=str(path)) from error
    return parse(text, path)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & _OTHERS_WRITE:
        message = f"The file of your clusters, {path}, is not used: somebody else can write it."
        raise UsageProblem(message, hint=f"Look at what it says, then run `chmod 600 {path}`; it must be yours.", file=str(path))


def _write(path: Path, clusters: Configurations) -> None:
    real = path.resolve()  # where the file is a link, say into a folder of dot files, the link stays
    try:
        real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        message = f"Cannot make the folder {real.parent}: {error.strerror}."
        raise NotWritable(message, hint="Set RemoteGpu.clusters_file to a place where you can write.") from error
    write_private(real, json.dumps(clusters, indent=2) + "\n")


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of all gateways of this user that write the file."""
    folder = runtime_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "remote-gpu-clusters.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotWritable(f"Cannot write in {folder}: {error.strerror}.", hint="Set JUPYTER_RUNTIME_DIR to a writable folder.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
