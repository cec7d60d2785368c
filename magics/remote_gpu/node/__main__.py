"""The command line of the node's half: ``python -m remote_gpu.node VERB``.

====================  ==========================================================================================
``start``             start the session described by JSON on stdin, return when it listens
``run``               the same in the foreground, until the session is over (for batch scripts)
``attach SESSION``    carry a gateway's stream between stdin/stdout and the session
``status SESSION``    ask a session how it is
``list``              all sessions of this user on this machine
``stop SESSION``      end a session and remove all that it left
``gpus``              this machine's GPUs
``zygote [stop]``     have a warm process ready for the next start (JSON on stdin, as for start), or end all
====================  ==========================================================================================

Every verb but ``attach`` prints one line, ``JRG {json}``, whatever a login shell printed before; exit 0 when it says "ok".
"""

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


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; exits with 0 (fine), 1 (a problem, told as JSON), 2 (usage) or 3 (`attach`: no such session)."""
    words = sys.argv[1:] if arguments is None else arguments
    if sys.version_info < _OLDEST_PYTHON:
        have, need = (".".join(map(str, version[:2])) for version in (sys.version_info, _OLDEST_PYTHON))
        hint = "Set the cluster's python to a newer one."
        _print({"ok": False, "problem": StartFailed(f"{sys.executable} is Python {have}; a session needs {need}.", hint=hint).problem()})
        sys.exit(1)
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb == "attach" and len(rest) == 1:
        sys.exit(_attach(rest[0]))
    if verb == "zygote" and rest[:1] == ["--listen"]:
        from remote_gpu.node import zygote

        zygote.main(int(rest[1]))
        return
    if verb == "run" and rest[:1] == ["--request"]:
        sys.exit(_run(int(rest[1])))
    action = _ACTIONS.get(verb)
    if action is None:
        sys.stderr.write(__doc__ or "")
        sys.exit(2)
    try:
        answer = action(rest)
    except RemoteGpuError as error:
        answer = {"ok": False, "problem": error.problem()}
    except OSError as error:
        answer = {"ok": False, "problem": StartFailed(f"{verb} failed on {os.uname().nodename}: {error}.").problem()}
    _print(answer)
    sys.exit(0 if answer.get("ok") else 1)


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"JRG {json.dumps(answer)}\n")
    sys.stdout.flush()


def _request() -> dict[str, Any]:
    try:
        value = json.loads(sys.stdin.read() or "{}")
    except ValueError as error:
        raise UsageProblem("The request on stdin is not JSON.") from error
    if not isinstance(value, dict):
        raise UsageProblem("The request on stdin is not a JSON object.")
    return value


def _one(rest: list[str]) -> str:
    if len(rest) != 1:
        raise UsageProblem("Name one session.")
    return rest[0]


def _start(_: list[str]) -> dict[str, Any]:
    from remote_gpu.node import launch

    return launch.start(_request())


def _run_anew(_: list[str]) -> dict[str, Any]:
    from remote_gpu.node import launch

    launch.run_here(_request())
    return {"ok": False}


def _status(rest: list[str]) -> dict[str, Any]:
    from remote_gpu.node import sessions

    return {"ok": True, **sessions.call(_one(rest), "status")}


def _list(_: list[str]) -> dict[str, Any]:
    from remote_gpu.node import sessions

    return {"ok": True, "sessions": list(sessions.running())}


def _stop(rest: list[str]) -> dict[str, Any]:
    from remote_gpu.node import sessions

    return {"ok": True, "stopped": sessions.stop(_one(rest))}


def _gpus(_: list[str]) -> dict[str, Any]:
    from remote_gpu.node import gpus

    return {"ok": True, "node": os.uname().nodename, **gpus.gpu_report()}


def _zygote(rest: list[str]) -> dict[str, Any]:
    from remote_gpu.node import launch

    return launch.end_zygotes() if rest == ["stop"] else launch.prewarm(_request())


_ACTIONS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "start": _start,
    "run": _run_anew,
    "status": _status,
    "list": _list,
    "stop": _stop,
    "gpus": _gpus,
    "zygote": _zygote,
}


def _attach(session: str) -> int:
    from remote_gpu.node.pump import pump
    from remote_gpu.node.sessions import connect

    try:
        peer = connect(session)
    except RemoteGpuError as error:
        sys.stderr.write(f"{error}\n")
        return _NO_SESSION
    with peer:
        pump(peer)
    return 0


def _run(descriptor: int) -> int:
    from remote_gpu.node import launch, zygote

    with os.fdopen(descriptor) as file:
        request = json.load(file)
    try:
        zygote.warm_up()
    except RemoteGpuError as error:
        _print({"ok": False, "problem": error.problem()})
        return 1
    return zygote.run_session(request, lambda answer: _print(launch.complete(answer, request)), detached=False)


if __name__ == "__main__":
    main()
