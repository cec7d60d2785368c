"""`%remote_gpu queue` and `%remote_gpu cancel`: the cells that run and wait in a session, whoever sent them."""

from __future__ import annotations

import datetime as dt
import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remote_gpu.arguments import LineError, VerbLine
from remote_gpu.attached import Attached
from remote_gpu.background.background import Background
from remote_gpu.background.jobs import Job
from remote_gpu.errors import RemoteGpuError
from remote_gpu.gateway import SessionInfo
from remote_gpu.listing import columns
from remote_gpu.record import duration
from remote_gpu.running import Running
from remote_gpu.sessions import Sessions

__all__ = ["QueueVerbs", "code_of"]

_CODE = 6


def code_of(msg_id: str) -> str:
    """A short name of a cell that is no job of this notebook's, the same wherever it is shown."""
    return hashlib.sha256(msg_id.encode()).hexdigest()[:_CODE]


class QueueVerbs:
    """Those of one notebook kernel."""

    def __init__(self, sessions: Sessions, background: Background) -> None:
        self._sessions = sessions
        self._background = background

    def show(self, info: SessionInfo) -> None:
        """Print the queue of a session."""
        cells = self._sessions.gateway.queue(info.id)
        if not cells:
            sys.stdout.write(f"Nothing runs or waits in session {info.name!r}.\n")
            return
        rows = [self._row(info, cell) for cell in cells]
        sys.stdout.write(f"Session {info.name!r} on {info.cluster}\n" + columns(("job", "state", "for", "cell", "from", ""), rows))

    def orphans(self, info: SessionInfo, skip: str) -> tuple[Running, ...]:
        """See `Background.orphans`."""
        return self._background.orphans(info, skip)

    def adopt(self, attached: Attached, orphans: Sequence[Running]) -> None:
        """See `Background.adopt`."""
        self._background.adopt(attached, orphans)

    def cancel(self, line: VerbLine, named: Callable[[VerbLine], SessionInfo]) -> None:
        """Cancel a job of this notebook's by number or name, or any cell of a session by the name that `show` gives it."""
        word = line.words[0]
        job = self._background.find(word)
        if job is not None:
            self._cancel_job(job)
            return
        info = named(line)
        cell = next((each for each in self._sessions.gateway.queue(info.id) if code_of(str(each["id"])) == word), None)
        if cell is None:
            raise LineError(f"There is no job {word!r} here, and nothing of that name runs or waits in session {info.name!r}.")
        was = self._sessions.gateway.cancel(info.id, str(cell["id"]))
        sys.stdout.write(_told(f"The cell {word}", was))

    def _cancel_job(self, job: Job) -> None:
        waited = job.state == "waiting"
        if job.cancel():
            sys.stdout.write(_told(str(job), "waiting" if waited else "running"))
        else:
            sys.stdout.write(f"{job} is over already: {job.state}.\n")

    def _row(self, info: SessionInfo, cell: Mapping[str, Any]) -> tuple[object, ...]:
        identity = str(cell["id"])
        job = self._background.of(identity)
        attached = self._sessions.by_id(info.id)
        own = job is not None or (attached is not None and identity in attached.connection.running)
        since = duration(max(0.0, time.time() - _moment(str(cell.get("begun") or cell["since"]))))
        number = f"[{cell['cell']}]" if cell.get("cell") is not None else ""
        client = "this notebook" if own else str(cell.get("client") or "another client")
        called = str(cell.get("job") or "")
        name = job.label if job is not None else code_of(identity)
        code = job.code if job is not None else f"job {called} there" if called else ""
        return name, cell["state"], since, number, client, code


def _told(what: str, was: str) -> str:
    if was == "over":
        return f"{what} is over already.\n"
    return f"{what} is interrupted.\n" if was == "running" else f"{what} is cancelled: it will not run.\n"


def _moment(time_of: str) -> float:
    try:
        return dt.datetime.fromisoformat(time_of).timestamp()
    except ValueError as error:
        raise RemoteGpuError(f"The gateway told a time that is none: {time_of!r}.") from error
