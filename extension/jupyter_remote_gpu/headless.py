"""The gateway without a Jupyter server: one per user, on a Unix socket only, for kernels that no server of ours started.

It is jupyter_server with this extension alone, without its web server: the extension's own socket is the only door. A lock, held as
long as the process lives, makes it the only one; it ends itself when nobody needs it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Sequence

from remote_gpu.discovery import GatewayRecord, headless_log, live_gateways, runtime_folder
from remote_gpu.errors import NotWritable, StartFailed, StartTimedOut

__all__ = ["running", "serve", "start_in_background"]

_LOG_LIMIT = 1 << 20  # bytes after which the log starts anew at the next start
_LOOKS_PER_SECOND = 50


def running() -> GatewayRecord | None:
    """The headless gateway of this user, if one runs."""
    return next((record for record in live_gateways() if record.kind == "headless"), None)


def serve(arguments: Sequence[str] = (), *, idle: float, lock: int | None = None) -> int:
    """Be the gateway, until a signal or `idle` seconds without session and request; returns the exit status.

    `arguments` are jupyter_server's (``--RemoteGpu.…``). Raises `StartFailed` when another one runs.
    """
    held = _take_lock() if lock is None else lock
    if held is None:
        other = running()
        raise StartFailed(
            f"A gateway runs already{f' as process {other.pid}' if other else ''}.", hint="One is enough for all your notebooks."
        )
    # jsonschema takes this one if it is there, for a check of IRIs that nothing here has; its import builds a grammar, for longer than
    # all of the rest of the start together.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from jupyter_remote_gpu.headless_server import run

    try:
        run(list(arguments), idle)
    finally:
        os.close(held)
    return 0


def start_in_background(arguments: Sequence[str] = (), *, idle: float, timeout: float) -> GatewayRecord:
    """The user's headless gateway, started if there is none, however many ask at once.

    Raises `StartFailed` with the last words of its log when it ends at once, `StartTimedOut` after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    child = 0
    while True:
        if record := running():
            return record
        if child == 0 and (lock := _take_lock()) is not None:
            child = _fork(arguments, idle, lock)
        if child and (status := _ended(child)) is not None and (record := running()) is None:
            raise StartFailed(f"The gateway ended at once with status {status}. {_last_words()}")
        if time.monotonic() > deadline:
            raise StartTimedOut(f"The gateway did not start within {timeout:g} s. {_last_words()}", hint=f"Its log is {headless_log()}.")
        time.sleep(1 / _LOOKS_PER_SECOND)


def _take_lock() -> int | None:
    """The open lock file, or None while another process has it. The lock goes with the last process that has it open."""
    folder = runtime_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "remote-gpu-headless.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotWritable(f"Cannot write in {folder}: {error.strerror}.", hint="Set JUPYTER_RUNTIME_DIR to a writable folder.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _fork(arguments: Sequence[str], idle: float, lock: int) -> int:
    """Start the gateway as a process of its own; the parent ends soon and leaves it to init."""
    child = os.fork()
    if child:
        os.close(lock)
        return child
    try:
        os.setsid()
        os.chdir("/")
        _write_to_log()
        os._exit(serve(arguments, idle=idle, lock=lock))
    except SystemExit as end:  # its reason is in the log already
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:  # noqa: BLE001  the child must never return into its parent's code
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def _write_to_log() -> None:
    path = headless_log()
    size = path.stat().st_size if path.exists() else 0
    anew = os.O_TRUNC if size > _LOG_LIMIT else os.O_APPEND
    log = os.open(path, os.O_WRONLY | os.O_CREAT | anew | os.O_NOFOLLOW, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)


def _ended(child: int) -> int | None:
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _last_words(lines: int = 3) -> str:
    try:
        text = headless_log().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join(line.strip() for line in text.strip().splitlines()[-lines:])
