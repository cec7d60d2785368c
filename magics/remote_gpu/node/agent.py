"""The agent: runs a gateway's commands on the machine that it was started on, for as long as the gateway's connection lasts.

It saves what each command would cost by itself over ssh: a round trip, a login shell with the user's start-up files, and the
cluster's prologue (``module load …``), whose environment it has. It keeps nothing and knows nothing of sessions.

Both sides speak lines of JSON. The agent begins with ``JRG {"hello": …}``, after whatever a login shell printed. A request has an
``id`` and one of ``run`` (an argument vector, with ``given`` for its stdin, ``limit`` in seconds and ``env``), ``write`` (a path, with
``text``), ``read`` (a path, with how many of its ``last`` bytes), ``remove`` (a list of paths), ``await`` (a path that is to appear within ``limit``
seconds) or nothing (a ping); its answer has the same ``id``. Requests are taken in order; commands and waits then go on side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remote_gpu.errors import RemoteGpuError, StartFailed
from remote_gpu.folders import private_folder, write_private

__all__ = ["SILENCE", "main"]

SILENCE = 120.0
"""Seconds without a request after which the agent ends: a gateway pings more often."""

_OUTPUT = 16 << 20
"""Bytes of a command's output that are handed on, and"""
_ERRORS = 16 << 10
"""of what it says on its error stream, the last ones."""

_SOON = 0.02  # seconds between the first looks for a file


def main(bundle: str) -> int:
    """Serve stdin and stdout until the gateway ends or is silent; returns an exit status."""
    out = os.dup(1)
    os.dup2(2, 1)  # what something prints must not get between the answers
    agent = _Agent(out)
    agent.say(b"JRG ", {"hello": _about(bundle)})
    for line in _lines(0):
        agent.take(line)
    return 0


def _lines(source: int) -> Iterator[bytes]:
    kept = b""
    while select.select([source], [], [], SILENCE)[0] and (data := os.read(source, 1 << 16)):
        *whole, kept = (kept + data).split(b"\n")
        yield from whole


def _about(bundle: str) -> dict[str, Any]:
    return {
        "node": os.uname().nodename,
        "uid": os.getuid(),
        "user": os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid()),
        "home": str(Path.home()),
        "arch": os.uname().machine,
        "python": sys.executable,
        "version": platform.python_version(),
        "library_path": os.environ.get("LD_LIBRARY_PATH", ""),
        "bundle": bundle,
    }


class _Agent:
    def __init__(self, out: int) -> None:
        self._out = out
        self._lock = threading.Lock()

    def say(self, mark: bytes, value: dict[str, Any]) -> None:
        """Write one line; a gateway that is gone needs no answer."""
        data = mark + json.dumps(value).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._out, data) :]

    def take(self, line: bytes) -> None:
        """Do what a line asks for, or begin it."""
        try:
            asked = json.loads(line)
            identity = asked["id"]
        except (ValueError, KeyError, TypeError):
            return
        action = next((action for name, action in _ACTIONS.items() if name in asked), _nothing)
        if action in _TAKE_TIME:
            threading.Thread(target=self._answer, args=(identity, action, asked), daemon=True).start()
        else:
            self._answer(identity, action, asked)

    def _answer(self, identity: Any, action: Any, asked: dict[str, Any]) -> None:
        try:
            answer = action(asked)
        except RemoteGpuError as error:
            answer = {"problem": error.problem()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            answer = {"problem": StartFailed(f"{os.uname().nodename} could not do this: {error}.").problem()}
        self.say(b"", {"id": identity, **answer})


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    """Run a command to its end or limit; one that is not there has the status that a shell gives, 127."""
    environment = {**os.environ, **{str(name): str(value) for name, value in (asked.get("env") or {}).items()}}
    try:
        done = subprocess.run(
            [str(word) for word in asked["run"]],
            input=str(asked.get("given") or "").encode(),
            capture_output=True,
            timeout=float(asked.get("limit") or 30),
            env=environment,
            check=False,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        return {"status": 127, "out": "", "err": f"{asked['run'][0]}: {error.strerror}"}
    except subprocess.TimeoutExpired as error:
        return {"status": None, "out": _text(error.stdout, _OUTPUT), "err": _text(error.stderr, _ERRORS)}
    return {"status": done.returncode, "out": _text(done.stdout, _OUTPUT), "err": _text(done.stderr, _ERRORS)}


def _text(data: bytes | None, limit: int) -> str:
    return (data or b"")[-limit:].decode(errors="replace")


def _write(asked: dict[str, Any]) -> dict[str, Any]:
    path = Path(asked["write"])
    private_folder(path.parent)
    write_private(path, str(asked["text"]))
    return {}


def _read(asked: dict[str, Any]) -> dict[str, Any]:
    """The end of a file; of one that is not there, nothing."""
    try:
        with open(asked["read"], "rb") as file:  # noqa: PTH123  a path of this machine's, as text
            file.seek(max(0, os.fstat(file.fileno()).st_size - int(asked.get("last") or _ERRORS)))
            return {"text": file.read().decode(errors="replace")}
    except FileNotFoundError:
        return {"text": ""}


def _remove(asked: dict[str, Any]) -> dict[str, Any]:
    for path in asked["remove"]:
        Path(path).unlink(missing_ok=True)
    return {}


def _await(asked: dict[str, Any]) -> dict[str, Any]:
    """Look for a file, soon at first and then twice a second, until it is there."""
    path, limit, pause, there = Path(asked["await"]), time.monotonic() + float(asked["limit"]), _SOON, False
    while not (there := path.exists()) and (left := limit - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.2, 0.5)
    return {"there": there}


def _nothing(_: dict[str, Any]) -> dict[str, Any]:
    return {}


_ACTIONS = {"run": _run, "write": _write, "read": _read, "remove": _remove, "await": _await}
_TAKE_TIME = (_run, _await)
