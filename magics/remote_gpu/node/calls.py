"""What a gateway may ask of a session (CALL frames), and the plan that the session was started with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote_gpu.frames import Kind
from remote_gpu.node import wire
from remote_gpu.node.attachments import Attachments
from remote_gpu.node.connection import Connection
from remote_gpu.node.job import Job
from remote_gpu.node.journal import DEFAULT_LIMIT, Journal
from remote_gpu.node.keeper import Keeper
from remote_gpu.node.names import LOG_NAME

__all__ = ["Calls", "SessionPlan"]

_REMEMBERED = 100
_LOG_BYTES = 256 * 1024


@dataclass(frozen=True)
class SessionPlan:
    """What a session is started with; times in seconds (0 = never), sizes in bytes."""

    session: str
    env: dict[str, str] = field(repr=False)
    cwd: str = ""
    idle_timeout: float = 0.0
    unattended_timeout: float = 0.0
    journal_limit: int = DEFAULT_LIMIT
    about: dict[str, Any] = field(default_factory=dict)
    """Where it runs: node, python, arch, gpus, process and folder; each gateway that connects is told."""


class Calls:
    """Answers CALLs; `end` begins the end of the session. A call that was sent again after a cut is not done twice."""

    def __init__(
        self,
        plan: SessionPlan,
        folder: Path,
        journal: Journal,
        attachments: Attachments,
        keeper: Keeper,
        job: Job,
        end: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._journal = journal
        self._attachments = attachments
        self._keeper = keeper
        self._job = job
        self._end = end
        self._started = time.time()
        self._waiting: list[tuple[Connection, Any]] = []
        self._answered: dict[Any, dict[str, Any]] = {}
        self._methods: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "status": self._status,
            "log": self._log,
            "interrupt": lambda _: self._signal({"signum": int(signal.SIGINT)}),
            "signal": self._signal,
            "queue": lambda _: {"cells": self._keeper.queue()},
            "cancel": lambda params: {"was": self._keeper.cancel(str(params["id"]))},
            "restart": self._restart,
            "end_kernel": self._end_kernel,
            "ends": self._ends,
            "stop": self._stop,
        }

    def answer(self, connection: Connection, call: dict[str, Any]) -> None:
        """Do what `call` asks and send its RESULT, now or when it is done."""
        identity, method = call.get("id"), str(call.get("method"))
        if (identity, method) in self._answered:
            connection.send_json(Kind.RESULT, self._answered[identity, method])
            return
        if method not in self._methods:
            error = wire.problem("usage", f"The session does not know the call {method!r}.", status=400)
            connection.send_json(Kind.RESULT, {"id": identity, "error": error})
            return
        result = self._methods[method](call.get("params") or {})
        if result is None:
            self._waiting.append((connection, identity))
            self.kernel_changed()
        else:
            connection.send_json(Kind.RESULT, {"id": identity, "result": result})

    def kernel_changed(self) -> None:
        """Answer those who wait for a restart, once it is over."""
        if self._keeper.restarting:
            return
        waiting, self._waiting = self._waiting, []
        for connection, identity in waiting:
            answer: dict[str, Any] = {"id": identity}
            if self._keeper.process.running:
                answer["result"] = {"kernel": self._keeper.json}
            else:
                answer["error"] = wire.problem("kernel_died", self._keeper.state.text, status=410)
            self._remember((identity, "restart"), answer)
            connection.send_json(Kind.RESULT, answer)

    def forget(self, connection: Connection) -> None:
        """The stream is gone; who waited there will ask again."""
        self._waiting = [each for each in self._waiting if each[0] is not connection]

    def _remember(self, key: tuple[Any, str], answer: dict[str, Any]) -> None:
        """Keep an answer for a call that is sent again; a short id may come from another gateway and does not count."""
        if isinstance(key[0], str) and len(key[0]) >= 8:  # noqa: PLR2004  long enough to be unique
            self._answered[key] = answer
            if len(self._answered) > _REMEMBERED:
                del self._answered[next(iter(self._answered))]

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        journal = {
            "floor": self._journal.floor,
            "head": self._journal.head,
            "bytes": self._journal.size,
            "on_disk": self._journal.on_disk,
        }
        return {
            "session": self._plan.session,
            "node": os.uname().nodename,
            "pid": os.getpid(),
            "started": self._started,
            "kernel": self._keeper.json,
            "attachments": self._attachments.attached,
            "journal": journal,
            "folder": str(self._folder),
            "cwd": self._plan.cwd,
        }

    def _log(self, params: dict[str, Any]) -> dict[str, Any]:
        path = self._folder / LOG_NAME
        try:
            with (path if path.exists() else Path("/proc/self/fd/2").resolve()).open("rb") as file:  # in a job, its own output file
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        return {"text": "\n".join(lines[-max(1, int(params.get("lines", 100))) :])}

    def _signal(self, params: dict[str, Any]) -> dict[str, Any]:
        self._keeper.process.signal(int(params["signum"]))
        return {}

    def _restart(self, _: dict[str, Any]) -> dict[str, Any] | None:
        self._keeper.restart()
        return None

    def _ends(self, params: dict[str, Any]) -> dict[str, Any]:
        self._job.ends = float(params["at"])
        return {}

    def _end_kernel(self, params: dict[str, Any]) -> dict[str, Any]:
        self._keeper.end("The remote kernel was asked to end.", kill=bool(params.get("kill")))
        return {}

    def _stop(self, _: dict[str, Any]) -> dict[str, Any]:
        self._end("The session was stopped.")
        return {}
