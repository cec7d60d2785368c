"""The verbs of the command line; see `remote_gpu.node.__main__`, which knows a quicker way for some."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from remote_gpu.errors import RemoteGpuError, StartFailed, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_NO_SESSION = 3
_OLDEST_PYTHON = (3, 10)


def main(words: list[str], usage: str, given: bytes | None) -> None:
    """Run one verb; exits as `__main__.main` says. `given` is what was already read of stdin, if anything was."""
    if sys.version_info < _OLDEST_PYTHON:
        have, need = (".".join(map(str, version[:2])) for version in (sys.version_info, _OLDEST_PYTHON))
        hint = "Set the cluster's python to a newer one."
        _print({"ok": False, "problem": StartFailed(f"{sys.executable} is Python {have}; a session needs {need}.", hint=hint).problem()})
        sys.exit(1)
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb == "attach" and rest:
        sys.exit(_attach(rest[0]))
    if verb == "zygote" and rest[:1] == ["--listen"]:
        from remote_gpu.node import zygote

        zygote.main(int(rest[1]))
        return
    if verb == "run" and rest[:1] == ["--request"]:
        with os.fdopen(int(rest[1])) as file:
            sys.exit(_run(json.load(file)))
    action = _ACTIONS.get(verb)
    if action is None:
        sys.stderr.write(usage)
        sys.exit(2)
    try:
        answer = action(rest, given)
    except RemoteGpuError as error:
        answer = {"ok": False, "problem": error.problem()}
    except OSError as error:
        answer = {"ok": False, "problem": StartFailed(f"{verb} failed on {os.uname().nodename}: {error}.").problem()}
    _print(answer)
    sys.exit(0 if answer.get("ok") else 1)


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"JRG {json.dumps(answer)}\n")
    sys.stdout.flush()


def _request(given: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads((sys.stdin.buffer.read() if given is None else given) or b"{}")
    except ValueError as error:
        raise UsageProblem("The request on stdin is not JSON.") from error
    if not isinstance(value, dict):
        raise UsageProblem("The request on stdin is not a JSON object.")
    return value


def _one(rest: list[str]) -> str:
    if len(rest) != 1:
        raise UsageProblem("Name one session.")
    return rest[0]


def _start(_: list[str], given: bytes | None) -> dict[str, Any]:
    from remote_gpu.node import launch

    return launch.start(_request(given))


def _run_anew(rest: list[str], given: bytes | None) -> dict[str, Any]:
    from remote_gpu.node import launch

    request = _request(launch.private_bytes(rest[0]) if rest else given)
    if request.get("inherit"):  # this process was born with the environment that the session is to have
        sys.exit(_run(launch.with_environment(request)))
    launch.run_here(request)
    return {"ok": False}


def _status(rest: list[str], _: bytes | None) -> dict[str, Any]:
    from remote_gpu.node import sessions

    return {"ok": True, **sessions.call(_one(rest), "status")}


def _list(*_: object) -> dict[str, Any]:
    from remote_gpu.node import sessions

    return {"ok": True, "sessions": list(sessions.running())}


def _stop(rest: list[str], _: bytes | None) -> dict[str, Any]:
    from remote_gpu.node import sessions

    return {"ok": True, "stopped": sessions.stop(_one(rest))}


def _gpus(*_: object) -> dict[str, Any]:
    from remote_gpu.node import gpus

    return {"ok": True, "node": os.uname().nodename, **gpus.gpu_report()}


def _zygote(rest: list[str], given: bytes | None) -> dict[str, Any]:
    from remote_gpu.node import launch

    return launch.end_zygotes() if rest == ["stop"] else launch.prewarm(_request(given))


_ACTIONS: dict[str, Callable[[list[str], bytes | None], dict[str, Any]]] = {
    "start": _start,
    "run": _run_anew,
    "status": _status,
    "list": _list,
    "stop": _stop,
    "gpus": _gpus,
    "zygote": _zygote,
}


def _attach(session: str) -> int:
    """The quick way failed: say why, or go on here."""
    from remote_gpu.node.pump import pump
    from remote_gpu.node.sessions import connect

    try:
        peer = connect(session)
    except RemoteGpuError as error:
        sys.stderr.write(f"{error}\n")
        return _NO_SESSION
    with peer:
        pump(peer.fileno())
    return 0


def _print_cold(answer: dict[str, Any]) -> None:
    _print({**answer, "warm": False} if answer.get("ok") else answer)


def _run(request: dict[str, Any]) -> int:
    """Be the session; it listens before it has imported all that a kernel needs, so that its gateway can attach meanwhile."""
    from remote_gpu.node import zygote

    gpus = zygote.Scout()
    try:
        zygote.need_first()
    except RemoteGpuError as error:
        _print({"ok": False, "problem": error.problem()})
        return 1
    return zygote.run_session(request, _print_cold, gpus.found(), detached=False)
