"""Says in a cell that the time of its session is nearly over: once when a tenth of it is left, once when ten minutes are."""

from __future__ import annotations

import contextlib
import sys
import time

from remote_gpu.attached import Attached
from remote_gpu.errors import RemoteGpuError
from remote_gpu.gateway import SessionInfo
from remote_gpu.sessions import Sessions
from remote_gpu.times import end_in_words, moment

__all__ = ["crossed", "warn_of_end"]

_SHARE = 10
_MINUTES = 600.0


def crossed(info: SessionInfo, now: float) -> set[tuple[str, str]]:
    """What is to be said of a session's end, each once: the end with what is left of it, in words."""
    ends, started = moment(info.ends), moment(info.started)
    left = ends - now
    if left <= 0:
        return set()
    marks = {"a tenth": bool(started) and left * _SHARE < ends - started, "ten minutes": left < _MINUTES}
    return {(info.ends, mark) for mark, reached in marks.items() if reached}


def warn_of_end(attached: Attached, sessions: Sessions) -> None:
    """As a cell begins: say it, if it is to be said and was not. The gateway is asked only then, for the end may have been moved."""
    if not attached.info.ends or not crossed(attached.info, time.time()) - attached.warned:
        return
    with contextlib.suppress(RemoteGpuError):  # else what is known must do
        attached.update(sessions.gateway.session(attached.info.id))
    info = attached.info
    marks = crossed(info, time.time())
    if marks - attached.warned:
        sys.stderr.write(f"Session {info.name!r} on {info.cluster} {end_in_words(info.ends)}. %remote_gpu extend asks for more time.\n")
        sys.stderr.flush()
    attached.warned |= marks
