"""The sessions of this user on this machine, by their folders: which run, and how to speak to one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remote_gpu.errors import LinkProblem, NotWritable, UnknownSession, UsageProblem, from_problem
from remote_gpu.folders import MAX_SOCKET_PATH, node_folder, write_private
from remote_gpu.frames import PROTOCOL, FrameReader, Kind, encode, encode_json, preamble
from remote_gpu.node.names import SOCKET_NAME, STATE_NAME
from remote_gpu.node.spawn import alive, start_time

__all__ = ["call", "clear", "connect", "find", "lock_of", "locked", "running", "session_folder", "stop", "write_state"]

_SESSION = re.compile(r"[a-z0-9]{1,32}")
_TERM_GRACE = 4.0


def session_folder(session: str) -> Path:
    """Where the session's folder is (or would be). Raises `UsageProblem` for what is no session id, `NotWritable` for a long path."""
    if not _SESSION.fullmatch(session):
        message = f"{session!r} is not the id of a session."
        raise UsageProblem(message)
    folder = node_folder("s") / session
    if len(os.fsencode(folder / SOCKET_NAME)) > MAX_SOCKET_PATH:
        message = f"The path {folder / SOCKET_NAME} is too long for a socket."
        raise NotWritable(message, hint="Set JUPYTER_REMOTE_GPU_FOLDER to a shorter folder.")
    return folder


def write_state(folder: Path, session: str, cwd: str = "", name: str = "") -> dict[str, Any]:
    """Note in the session's folder which process minds it, its working folder and its name; returns what was written."""
    state = {
        "session": session,
        "name": name,
        "cwd": cwd,
        "pid": os.getpid(),
        "start_time": start_time(os.getpid()),
        "protocol": PROTOCOL,
        "started": time.time(),
    }
    write_private(folder / STATE_NAME, json.dumps(state))
    return state


def find(session: str) -> dict[str, Any] | None:
    """The state of a running session; None when there is none."""
    folder = session_folder(session)
    try:
        state = json.loads((folder / STATE_NAME).read_text())
        if alive(int(state["pid"]), float(state["start_time"])):
            return {**state, "folder": str(folder)}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def lock_of(session: str) -> Path:
    """The file that whoever makes or removes the session's folder holds."""
    folder = session_folder(session)
    return folder.with_name(f".{folder.name}.lock")


def clear(session: str) -> None:
    """Remove what a session left that does not run; the folder of one that is just being made has its lock held, and stays."""
    folder = session_folder(session)
    if folder.exists():
        with contextlib.suppress(BlockingIOError), locked(lock_of(session), wait=False):
            if find(session) is None:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it or raising `BlockingIOError`; who finds it removed by its last holder takes a new one."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            message = f"Cannot write {path}: {error.strerror}."
            raise NotWritable(message, hint="Set JUPYTER_REMOTE_GPU_FOLDER to a writable folder on the node.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def running() -> Iterator[dict[str, Any]]:
    """The states of all running sessions."""
    for folder in sorted(node_folder("s").iterdir()):
        if not _SESSION.fullmatch(folder.name):
            continue
        if (state := find(folder.name)) is not None:
            yield state
        else:
            clear(folder.name)


def connect(session: str) -> socket.socket:
    """A connection to the session's supervisor. Raises `UnknownSession` when there is none."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(str(session_folder(session) / SOCKET_NAME))
    except OSError as error:
        peer.close()
        message = f"The session {session} does not run on {os.uname().nodename}."
        raise UnknownSession(message) from error
    return peer


def call(session: str, method: str, params: dict[str, Any] | None = None, timeout: float = 10.0) -> dict[str, Any]:
    """One CALL to the session's supervisor. Raises `UnknownSession`, `LinkProblem`, or the error that it answers."""
    with connect(session) as peer:
        peer.settimeout(timeout)
        reader = FrameReader()
        try:
            peer.sendall(preamble() + encode(encode_json(Kind.CALL, {"id": 1, "method": method, "params": params or {}})))
            while data := peer.recv(65536):
                for frame in reader.feed(data):
                    if frame.kind is Kind.RESULT:
                        answer = frame.json()
                        if "error" in answer:
                            raise from_problem(answer["error"])
                        return dict(answer["result"])
        except OSError as error:
            message = f"The session {session} does not answer: {error}."
            raise LinkProblem(message) from error
    message = f"The session {session} ended before it answered."
    raise LinkProblem(message)


def stop(session: str) -> bool:
    """End a session and wait until nothing of it is left; False when it did not run."""
    state = find(session)
    if state is None:
        clear(session)
        return False
    pid, started = int(state["pid"]), float(state["start_time"])
    try:
        call(session, "stop")
    except (UnknownSession, LinkProblem):
        _signal(pid, signal.SIGTERM)
    if not _gone(pid, started, _TERM_GRACE):
        _signal(pid, signal.SIGKILL)  # the kernel's life pipe takes the kernel along
        _gone(pid, started, _TERM_GRACE)
    shutil.rmtree(session_folder(session), ignore_errors=True)
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _gone(pid: int, started: float, within: float) -> bool:
    deadline = time.monotonic() + within
    while alive(pid, started):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
