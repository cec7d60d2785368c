"""The zygote: a warm process that has ipykernel imported, and forks a supervisor for each session that is asked for.

It is a convenience and never a parent that anybody needs: sessions are detached from it at once, it may be killed at any
time, and it ends by itself when it was not asked for half an hour or its socket was removed. It is one process, one thread,
without ZMQ context and without open files but its socket, so that forking it is safe.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from remote_gpu.errors import NoKernelPackage, RemoteGpuError, StartFailed
from remote_gpu.folders import node_folder, private_folder
from remote_gpu.node import sessions
from remote_gpu.node.gpus import Gpu, all_gpus, gpu_report
from remote_gpu.node.names import LOG_NAME
from remote_gpu.node.spawn import detach_stdio, keep_only, make_private_files, replace_environment, zygote_path

if TYPE_CHECKING:
    from remote_gpu.node.supervisor import Supervisor

__all__ = ["IDLE", "Scout", "main", "need_first", "receive_line", "run_session", "serve", "warm_up"]

IDLE = 1800.0
"""Seconds without a request after which the zygote ends."""

_CHECK_EVERY = 5.0
_WARM_UP_AFTER = 2.0  # seconds of quiet: whoever started this process waits for a session, and needs the processor
_LOOK = 12.0  # seconds that a driver may take to tell of its GPUs
_REQUEST_LIMIT = 4 * 1024**2
_NEEDED = ("zmq", "jupyter_client", "ipykernel.kernelapp", "remote_gpu.node.kernel", "remote_gpu.node.supervisor")
_FIRST = ("zmq", "remote_gpu.node.supervisor")
"""What a session needs to listen. The first one is not kept waiting for the rest: it imports that while its gateway attaches."""

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
    _need(*_NEEDED)
    for name in _LATE:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()


def need_first() -> None:
    """Import what a session needs to listen, and see that the rest is there. Raises `NoKernelPackage`."""
    _need(*_FIRST)


def _is_warm() -> bool:
    return "remote_gpu.node.kernel" in sys.modules


def _need(*names: str) -> None:
    try:
        for name in names:
            importlib.import_module(name)
        if importlib.util.find_spec("ipykernel") is None:
            raise ImportError("No module named 'ipykernel'")
    except ImportError as error:
        message = f"The Python on this node, {sys.executable}, cannot run a kernel, because it lacks ipykernel or a part of it: {error}."
        raise NoKernelPackage(message, hint=f"Install it there: {sys.executable} -m pip install ipykernel") from error


class Scout:
    """Looks for GPUs once, in a child of its own: a driver's library is not to be in a process that forks."""

    def __init__(self) -> None:
        self._gpus: list[Gpu] | None = None
        self._reading, writing = os.pipe()
        if os.fork() == 0:
            self._look(writing)
        os.close(writing)

    def found(self) -> list[Gpu]:
        """All GPUs of this machine; waits when they are still looked for."""
        if self._gpus is None:
            self._gpus = []
            ready, _, _ = select.select([self._reading], [], [], _LOOK)
            with os.fdopen(self._reading, "rb") as file:
                text = file.read() if ready else b""
            with contextlib.suppress(ValueError, TypeError):
                self._gpus = [Gpu(**each) for each in json.loads(text)]
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
        return self._gpus

    @staticmethod
    def _look(writing: int) -> NoReturn:
        try:
            os.write(writing, json.dumps([asdict(gpu) for gpu in all_gpus()]).encode())
        finally:
            os._exit(0)


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
    scout = Scout()
    try:
        need_first()
    except NoKernelPackage as error:
        failure = error
        path.unlink(missing_ok=True)  # try anew next time: it may be installed by then
    last = time.monotonic()
    while time.monotonic() - last < IDLE:
        ready, _, _ = select.select([listener], [], [], 0 if failure else _CHECK_EVERY if _is_warm() else _WARM_UP_AFTER)
        if ready:
            peer, _ = listener.accept()
            with peer:
                last = time.monotonic()
                if not _handle(peer, listener, scout, failure):
                    break
        elif failure is not None or not _still_ours(path, inode):
            return
        elif not _is_warm():
            failure = _warmed(path)
    path.unlink(missing_ok=True)


def _warmed(path: Path) -> RemoteGpuError | None:
    try:
        warm_up()
    except NoKernelPackage as error:
        path.unlink(missing_ok=True)
        return error
    return None


def _still_ours(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _handle(peer: socket.socket, listener: socket.socket, scout: Scout, failure: RemoteGpuError | None) -> bool:
    """Answer one request; False when it asks the zygote to end."""
    peer.settimeout(10)
    try:
        request = json.loads(receive_line(peer) or b"null")
    except (OSError, ValueError):
        return True
    if not isinstance(request, dict) or "session" not in request:
        if failure is None and not _is_warm() and isinstance(request, dict) and "ping" in request:
            failure = _warmed(Path(listener.getsockname()))
        _answer(peer, {"ok": failure is None, "pid": os.getpid()} | ({} if failure is None else {"problem": failure.problem()}))
        return not (isinstance(request, dict) and request.get("end"))
    if failure is not None:
        _answer(peer, {"ok": False, "problem": failure.problem()})
        return True
    environment = request.get("env") or {}
    if not isinstance(environment, dict) or zygote_path(environment).name != Path(listener.getsockname()).name:
        _answer(peer, {"declined": True})  # born in another environment, or before an upgrade
        return True
    gpus = scout.found()
    middle = os.fork()
    if middle == 0:
        _detach(peer, listener, request, gpus)
    os.waitpid(middle, 0)
    return True


def _answer(peer: socket.socket, value: dict[str, Any]) -> None:
    try:
        peer.sendall(json.dumps(value).encode() + b"\n")
    except OSError:  # who asked is gone
        return


def _detach(peer: socket.socket, listener: socket.socket, request: dict[str, Any], gpus: list[Gpu]) -> NoReturn:
    """In the first child: fork again, so that the session has no parent but init."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    listener.close()
    answered = peer.detach()
    keep_only(answered)
    peer = socket.socket(fileno=answered)
    code = run_session(request, lambda value: _answer_once(peer, value), gpus)
    os._exit(code)


def _answer_once(peer: socket.socket, value: dict[str, Any]) -> None:
    _answer(peer, value)
    peer.close()


def run_session(request: dict[str, Any], answer: Any, gpus: list[Gpu], *, detached: bool = True) -> int:
    """Be the supervisor of the session that `request` describes until it is over; returns an exit code.

    `answer` is called once, with what `start` prints: as soon as the session listens, or with the problem.
    """
    try:
        found = sessions.session_folder(str(request["session"]))
        with sessions.locked(sessions.lock_of(found.name)):
            state = sessions.find(found.name)
            if state is not None:
                answer({"ok": True, **state, **_about(request, gpus), "warm": True, "existing": True})
                return 0
            shutil.rmtree(found, ignore_errors=True)  # what a dead one left
            about = _about(request, gpus)
            supervisor, state = _set_up(request, found, about, detached=detached)
    except RemoteGpuError as error:
        answer({"ok": False, "problem": error.problem()})
        return 1
    except (OSError, ValueError, TypeError, KeyError) as error:
        answer({"ok": False, "problem": StartFailed(f"The session could not be set up on this node: {error}.").problem()})
        return 1
    answer({"ok": True, **state, **about, "warm": _is_warm()})
    supervisor.run(prepare=None if _is_warm() else warm_up)
    return 0


def _about(request: dict[str, Any], gpus: list[Gpu]) -> dict[str, Any]:
    return {"node": os.uname().nodename, "python": platform.python_version(), **gpu_report(request.get("env") or {}, gpus)}


def _set_up(request: dict[str, Any], folder: Path, about: dict[str, Any], *, detached: bool) -> tuple[Supervisor, dict[str, Any]]:
    from remote_gpu.node.calls import SessionPlan
    from remote_gpu.node.supervisor import Supervisor

    environment = {str(name): str(value) for name, value in (request.get("env") or {}).items()}
    private_folder(folder)
    replace_environment(environment)
    cwd = _enter(request.get("cwd"), folder.name, at_home=bool(request.get("at_home")))
    make_private_files()
    if detached:
        detach_stdio(folder / LOG_NAME)
    name = str(request.get("name") or "")
    state = {**sessions.write_state(folder, folder.name, cwd, name), "folder": str(folder)}
    plan = SessionPlan(
        folder.name,
        environment,
        cwd,
        float(request.get("idle_timeout") or 0),
        float(request.get("unattended_timeout") or 0),
        int(request.get("journal_limit") or 0),
        {**state, **about},
    )
    return Supervisor(plan, folder), state


def _enter(cwd: str | None, session: str, *, at_home: bool) -> str:
    """Go to `cwd`; when there is none such here, to the home folder or to one of the session's own. Returns where we are."""
    for wanted in (cwd, str(Path.home()) if at_home else None):
        if wanted:
            with contextlib.suppress(OSError):
                os.chdir(wanted)
                return str(Path.cwd())
    os.chdir(node_folder("w", session))
    return str(Path.cwd())


def main(descriptor: int) -> None:
    """The zygote process: serves the listening socket `descriptor` that it was born with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    keep_only(descriptor)
    sys.path[:] = [entry for entry in sys.path if entry]
    serve(socket.socket(fileno=descriptor))
