"""The zygote: a warm process that has ipykernel imported, and forks a supervisor for each session that is asked for.

It is a convenience and never a parent that anybody needs: sessions are detached from it at once, it may be killed at any
time, and it ends by itself when it was not asked for half an hour or its socket was removed. It is one process, one thread,
without ZMQ context and without open files but its socket, so that forking it is safe.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from remote_gpu.errors import NoKernelPackage, RemoteGpuError, StartFailed
from remote_gpu.folders import private_folder
from remote_gpu.node.names import LOG_NAME
from remote_gpu.node.sessions import session_folder, write_state
from remote_gpu.node.spawn import detach_stdio, keep_only, replace_environment

__all__ = ["IDLE", "main", "receive_line", "run_session", "serve", "warm_up"]

IDLE = 1800.0
"""Seconds without a request after which the zygote ends."""

_CHECK_EVERY = 5.0
_REQUEST_LIMIT = 4 * 1024**2
_NEEDED = ("zmq", "jupyter_client", "ipykernel.kernelapp", "remote_gpu.node.kernel", "remote_gpu.node.supervisor")
_LATE = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "psutil",
    "pdb",
    "pydoc",
    "sqlite3",
    "tornado.platform.asyncio",
    "uuid",
)
"""What ipykernel imports only while it starts; a missing one does no harm. Not matplotlib: it would double the memory."""


def warm_up() -> None:
    """Import what a kernel needs. Raises `NoKernelPackage` when this Python lacks it."""
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError as error:
        message = f"The Python on this node, {sys.executable}, cannot run a kernel: {error}."
        raise NoKernelPackage(message, hint=f"Install it there: {sys.executable} -m pip install ipykernel") from error
    for name in _LATE:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()


def receive_line(peer: socket.socket) -> bytes:
    """Everything up to the first newline (or the end)."""
    data = b""
    while b"\n" not in data and len(data) < _REQUEST_LIMIT:
        piece = peer.recv(65536)
        if not piece:
            break
        data += piece
    return data.partition(b"\n")[0]


def serve(listener: socket.socket) -> None:
    """Answer requests on `listener` (one line of JSON each) until idle. A failure to import is told to the first one."""
    path = Path(listener.getsockname())
    inode = path.stat().st_ino
    failure: RemoteGpuError | None = None
    try:
        warm_up()
    except NoKernelPackage as error:
        failure = error
        path.unlink(missing_ok=True)  # try anew next time: it may be installed by then
    last = time.monotonic()
    while time.monotonic() - last < IDLE:
        ready, _, _ = select.select([listener], [], [], 0 if failure else _CHECK_EVERY)
        if ready:
            peer, _ = listener.accept()
            with peer:
                last = time.monotonic()
                if not _handle(peer, listener, failure):
                    break
        elif failure is not None or not _still_ours(path, inode):
            return
    path.unlink(missing_ok=True)


def _still_ours(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _handle(peer: socket.socket, listener: socket.socket, failure: RemoteGpuError | None) -> bool:
    """Answer one request; False when it asks the zygote to end."""
    peer.settimeout(10)
    try:
        request = json.loads(receive_line(peer) or b"null")
    except (OSError, ValueError):
        return True
    if not isinstance(request, dict) or "session" not in request:
        _answer(peer, {"ok": failure is None, "pid": os.getpid()} | ({} if failure is None else {"problem": failure.problem()}))
        return not (isinstance(request, dict) and request.get("end"))
    if failure is not None:
        _answer(peer, {"ok": False, "problem": failure.problem()})
        return True
    middle = os.fork()
    if middle == 0:
        _detach(peer, listener, request)
    os.waitpid(middle, 0)
    return True


def _answer(peer: socket.socket, value: dict[str, Any]) -> None:
    try:
        peer.sendall(json.dumps(value).encode() + b"\n")
    except OSError:  # who asked is gone
        return


def _detach(peer: socket.socket, listener: socket.socket, request: dict[str, Any]) -> NoReturn:
    """In the first child: fork again, so that the session has no parent but init."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    listener.close()
    answered = peer.detach()
    keep_only(answered)
    peer = socket.socket(fileno=answered)
    code = run_session(request, lambda value: _answer_once(peer, value))
    os._exit(code)


def _answer_once(peer: socket.socket, value: dict[str, Any]) -> None:
    _answer(peer, value)
    peer.close()


def run_session(request: dict[str, Any], answer: Any, *, detached: bool = True) -> int:
    """Be the supervisor of the session that `request` describes until it is over; returns an exit code.

    `answer` is called once, with what `start` prints: as soon as the session listens, or with the problem.
    """
    from remote_gpu.node.calls import SessionPlan
    from remote_gpu.node.supervisor import Supervisor

    try:
        session = str(request["session"])
        environment = {str(name): str(value) for name, value in (request.get("env") or {}).items()}
        folder = private_folder(session_folder(session))
        replace_environment(environment)
        cwd = _enter(request.get("cwd"))
        os.umask(0o077)
        if detached:
            detach_stdio(folder / LOG_NAME)
        plan = SessionPlan(
            session,
            environment,
            cwd,
            float(request.get("idle_timeout") or 0),
            float(request.get("unattended_timeout") or 0),
            int(request.get("journal_limit") or 0),
        )
        supervisor = Supervisor(plan, folder)
        state = write_state(folder, session)
    except RemoteGpuError as error:
        answer({"ok": False, "problem": error.problem()})
        return 1
    except (OSError, ValueError, TypeError, KeyError) as error:
        answer({"ok": False, "problem": StartFailed(f"The session could not be set up on this node: {error}.").problem()})
        return 1
    answer({"ok": True, **state, "folder": str(folder), "cwd": cwd})
    supervisor.run()
    return 0


def _enter(cwd: str | None) -> str:
    """Go to `cwd`, or to the home folder when it does not exist here; returns where we are."""
    for folder in (cwd, os.environ.get("HOME"), "/"):
        if folder:
            try:
                os.chdir(folder)
            except OSError:
                continue
            break
    return str(Path.cwd())


def main(descriptor: int) -> None:
    """The zygote process: serves the listening socket `descriptor` that it was born with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    keep_only(descriptor)
    sys.path[:] = [entry for entry in sys.path if entry]
    serve(socket.socket(fileno=descriptor))
