"""Starting a session: through the zygote of this Python, which is started first when there is none.

The zygote inherits its listening socket, so that a request can be sent to it before it has finished its imports, and two
starts at once meet at a lock. A warm start does without all this: see `remote_gpu.node.quick`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from remote_gpu.errors import StartFailed, StartTimedOut, UsageProblem
from remote_gpu.folders import node_folder
from remote_gpu.node import sessions
from remote_gpu.node.quick import START_TIMEOUT
from remote_gpu.node.spawn import command_for, exec_environment, point_to, zygote_path

__all__ = ["end_zygotes", "prewarm", "private_bytes", "run_here", "start", "with_environment"]

_OF_THE_LOGIN = ("SSH_", "XDG_SESSION_", "JRG_")
"""How variables begin that belong to the connection which a command came by; it is gone when the session still runs."""


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start the session that `request` describes (or find it running); returns what `start` prints."""
    request = with_environment(request)
    environment = request["env"]
    sessions.session_folder(str(request.get("session", "")))
    peer, warm = _ask_zygote(environment, request)
    with peer:
        answer = _answer(peer, environment)
    if answer.get("declined"):
        message = "This package was changed while the session started."
        raise StartFailed(message, hint="Try again.")
    return {**answer, "warm": warm and bool(answer.get("warm"))} if answer.get("ok") else answer


def prewarm(request: dict[str, Any]) -> dict[str, Any]:
    """Have a zygote for the environment of `request`, so that the next start is fast."""
    environment = with_environment(request)["env"]
    peer, warm = _ask_zygote(environment, {"ping": True})
    with peer:
        return {**_answer(peer, environment), "warm": warm}


def end_zygotes() -> dict[str, Any]:
    """End all zygotes of this user's base folder; sessions are not touched."""
    ended = 0
    for path in node_folder("z").glob("*.sock"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(5)
            peer.connect(str(path))
            peer.sendall(b'{"end": true}\n')
            peer.recv(4096)
            ended += 1
        path.unlink(missing_ok=True)
    for link in node_folder("z").glob("q-*"):
        link.unlink(missing_ok=True)
    return {"ok": True, "ended": ended}


def run_here(request: dict[str, Any]) -> None:
    """Become the session, in the foreground, with a clean environment: for a batch script. Does not return.

    The request travels to the new program by a pipe: it holds the environment, which is nobody else's business.
    """
    request = with_environment(request)
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    if os.fork() == 0:  # a pipe holds 64 KiB; who writes must not be who reads
        os.close(reading)
        with os.fdopen(writing, "w") as file:
            json.dump(request, file)
        os._exit(0)
    os.close(writing)
    command = command_for("run", "--request", str(reading))
    os.execve(command[0], command, exec_environment(request["env"]))  # noqa: S606  our own interpreter


def private_bytes(path: str) -> bytes:
    """The content of a file that is this user's and nobody else can read. Raises `StartFailed`."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise StartFailed(f"The file {path} is not private to you.", hint="Remove it, and start the session again.")
            return file.read()
    except OSError as error:
        message = f"{os.uname().nodename} cannot read {path}: {error.strerror}."
        raise StartFailed(message, hint="Do the compute nodes see your home folder?") from error


def with_environment(request: dict[str, Any]) -> dict[str, Any]:
    """`request` with all of the session's environment in its ``env``: what it names, over this process's own if it says ``inherit``."""
    environment = request.get("env") or {}
    if not isinstance(environment, dict):
        raise UsageProblem("The request's env must be an object.")
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_LOGIN)} if request.get("inherit") else {}
    return {**request, "env": {**own, **{str(name): str(value) for name, value in environment.items()}}, "inherit": False}


def _ask_zygote(environment: dict[str, str], request: dict[str, Any]) -> tuple[socket.socket, bool]:
    """Send `request` to the zygote; returns the connection to read the answer from, and whether it was there already."""
    path = zygote_path(environment)
    line = json.dumps(request).encode() + b"\n"
    for attempt in (1, 2):
        with sessions.locked(path.with_suffix(".lock")):
            peer = _connected(path)
            warm = peer is not None
            if peer is None:
                _spawn_zygote(path, environment)
                peer = _connected(path)
        if peer is None:
            break
        try:
            peer.sendall(line)
        except OSError:  # it ended just now, idle
            peer.close()
            if attempt == 1:
                continue
            break
        return peer, warm
    message = f"The process that starts sessions ends at once. It said: {_log_tail(path)}"
    raise StartFailed(message)


def _connected(path: Path) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(str(path))
    except OSError:
        peer.close()
        return None
    return peer


def _spawn_zygote(path: Path, environment: dict[str, str]) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(64)
        descriptor = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            subprocess.Popen(
                command_for("zygote", "--listen", str(listener.fileno())),
                env=exec_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
    point_to(path)


def _log_tail(path: Path) -> str:
    try:
        return path.with_suffix(".log").read_text(errors="replace").strip()[-2000:] or "nothing"
    except OSError:
        return "nothing"


def _answer(peer: socket.socket, environment: dict[str, str]) -> dict[str, Any]:
    from remote_gpu.node.zygote import receive_line

    peer.settimeout(START_TIMEOUT)
    try:
        line = receive_line(peer)
    except TimeoutError as error:
        message = f"The session did not start within {START_TIMEOUT:g} s on {os.uname().nodename}."
        raise StartTimedOut(message, hint="Is the file system with Python very slow just now? Try again.") from error
    except OSError:
        line = b""
    try:
        answer = json.loads(line)
    except ValueError as error:
        message = f"The session did not start on {os.uname().nodename}. It said: {_log_tail(zygote_path(environment))}"
        raise StartFailed(message) from error
    return dict(answer)
