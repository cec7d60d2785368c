"""Which gateway serves this process? And: start one where there is none.

A gateway announces itself with a *runtime file*: JSON of mode 0600 in Jupyter's runtime folder, named after its process.
The file is trusted because of who owns it and who can read it, and believed only while the process that wrote it lives.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

from remote_gpu.errors import GatewayUnavailable, NotAllowed, StartFailed, StartTimedOut
from remote_gpu.folders import write_private

__all__ = [
    "GATEWAY_VARIABLE",
    "GatewayRecord",
    "announce",
    "find_gateway",
    "find_or_start_gateway",
    "headless_log",
    "live_gateways",
    "process_start_time",
    "read_record",
    "runtime_folder",
]

GATEWAY_VARIABLE = "JUPYTER_REMOTE_GPU_GATEWAY"
"""The environment variable with the path of the runtime file; a gateway sets it for its kernels and terminals."""

_PREFIX = "remote-gpu-gateway-"
_PARENT_VARIABLE = "JPY_PARENT_PID"  # a kernel's: the process id of the Jupyter server that started it
_NOT_FOR_A_GATEWAY = (GATEWAY_VARIABLE, _PARENT_VARIABLE, "JPY_SESSION_NAME", "JPY_INTERRUPT_EVENT", "MPLBACKEND")


@dataclass(frozen=True, slots=True)
class GatewayRecord:
    """What a gateway's runtime file says. `secret` authenticates on `socket`; `choices` is a file whose time changes with any choice."""

    file: Path
    socket: Path
    secret: str
    pid: int
    start_time: int | None
    version: str
    kind: str
    host: str = ""
    choices: Path | None = None

    def __repr__(self) -> str:
        return f"GatewayRecord(kind={self.kind!r}, pid={self.pid}, socket={str(self.socket)!r})"


def runtime_folder() -> Path:
    """Jupyter's runtime folder of this user."""
    return Path(jupyter_runtime_dir())


def headless_log() -> Path:
    """Where a gateway that runs in the background writes its log."""
    return runtime_folder() / "remote-gpu-headless.log"


def process_start_time(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot, and so who it is: numbers of processes are used again.

    None where the system has no ``/proc``. Raises `ProcessLookupError` when there is no such process, or only its remains (a zombie).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        os.kill(pid, 0)
        return None
    fields = text.rpartition(")")[2].split()  # the name before the last ")" may itself hold blanks and brackets
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return int(fields[19])


def _lives(record: GatewayRecord) -> bool:
    try:
        started = process_start_time(record.pid)
    except PermissionError:  # alive, and another user's: then it is not the process that wrote our file
        return False
    except ProcessLookupError:
        return False
    same = None in (started, record.start_time) or started == record.start_time
    return same and record.socket.exists()


def _check_owner(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        message = f"The gateway's runtime file {path} belongs to another user (uid {found.st_uid}), so it is not used."
        raise NotAllowed(message, hint=f"Remove it, or unset {GATEWAY_VARIABLE}.")
    if found.st_mode & 0o077:
        message = f"The gateway's runtime file {path} can be read by others (mode {found.st_mode & 0o777:04o}), so it is not used."
        raise NotAllowed(message, hint="Remove it and start the gateway again: its secret may be known.")


def read_record(path: Path) -> GatewayRecord | None:
    """The gateway that `path` announces, or None when it is gone; a file that it left behind is removed.

    Raises `NotAllowed` when the file belongs to another user or others can read it.
    """
    try:
        _check_owner(path)
        record = _parse(path, json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)  # files are written in one step, so this one was never whole
        return None
    if record.host not in ("", socket.gethostname()):
        return None  # a home folder shared between machines: that gateway lives, but elsewhere
    if _lives(record):
        return record
    path.unlink(missing_ok=True)
    return None


def _parse(path: Path, data: Any) -> GatewayRecord:
    if not isinstance(data, dict):
        raise TypeError(path)
    started = data.get("start_time")
    return GatewayRecord(
        file=path,
        socket=Path(data["socket"]),
        secret=str(data["secret"]),
        pid=int(data["pid"]),
        start_time=None if started is None else int(started),
        version=str(data.get("version", "")),
        kind=str(data.get("kind", "server")),
        host=str(data.get("host", "")),
        choices=Path(data["choices"]) if data.get("choices") else None,
    )


def announce(*, socket_path: Path, secret: str, kind: str, version: str, choices: Path | None = None) -> Path:
    """Write this process's runtime file and return its path; the gateway removes the file when it stops.

    Raises `NotWritable` when the runtime folder refuses.
    """
    folder = runtime_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{_PREFIX}{os.getpid()}.json"
    record = {
        "socket": str(socket_path),
        "secret": secret,
        "pid": os.getpid(),
        "start_time": process_start_time(os.getpid()),
        "host": socket.gethostname(),
        "version": version,
        "kind": kind,
        "choices": str(choices) if choices else None,
    }
    write_private(path, json.dumps(record))
    return path


def live_gateways() -> Iterator[GatewayRecord]:
    """Every gateway of this user on this machine, newest first; other users' files are passed over."""
    files = sorted(runtime_folder().glob(f"{_PREFIX}*.json"), key=_written, reverse=True)
    for path in files:
        try:
            record = read_record(path)
        except (NotAllowed, PermissionError):
            continue
        if record is not None:
            yield record


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def find_gateway() -> GatewayRecord | None:
    """The gateway of this process, or None.

    First the one that the environment names, then the Jupyter server that started this kernel, then the user's headless
    gateway. Raises `NotAllowed` when one of the first two has a runtime file that cannot be trusted.
    """
    named = os.environ.get(GATEWAY_VARIABLE)
    if named and (record := read_record(Path(named))):
        return record
    parent = os.environ.get(_PARENT_VARIABLE, "")
    if parent.isdigit() and (record := read_record(runtime_folder() / f"{_PREFIX}{parent}.json")):
        return record
    return next((record for record in live_gateways() if record.kind == "headless"), None)


def find_or_start_gateway(timeout: float = 30) -> GatewayRecord:
    """The gateway of this process; a headless one is started when there is none.

    However many processes ask at once, one gateway starts. Raises `StartFailed` with the gateway's own words when it does
    not come up, `StartTimedOut` after `timeout` seconds, `GatewayUnavailable` when this Python lacks the server's half.
    """
    return find_gateway() or _start_headless(timeout)


def _start_headless(timeout: float) -> GatewayRecord:
    _check_installed()
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_A_GATEWAY}
    command = [sys.executable, "-m", "jupyter_remote_gpu", "serve", "--background", f"--timeout={timeout:g}"]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout + 5, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"The gateway did not start within {timeout:g} s."
        raise StartTimedOut(message, hint=f"Its log is {headless_log()}.") from error
    except OSError as error:
        message = f"The gateway cannot be started with {sys.executable}: {error.strerror}."
        raise StartFailed(message) from error
    record = next((record for record in live_gateways() if record.kind == "headless"), None)
    if record is None:
        words = done.stderr.strip() or f"The command ended with status {done.returncode}."
        message = f"The gateway did not start. {words}"
        raise StartFailed(message, hint=f"Its log is {headless_log()}; `jupyter remote-gpu doctor` checks the set-up.")
    return record


def _check_installed() -> None:
    missing = [name for name in ("jupyter_server", "jupyter_remote_gpu") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"No gateway runs, and this Python ({sys.executable}) cannot start one: it has no {' and no '.join(missing)}."
        hint = f"Install it: `{sys.executable} -m pip install jupyter-remote-gpu`. Or open the notebook in a Jupyter server that has it."
        raise GatewayUnavailable(message, hint=hint)
