"""Tasks: what a gateway does for the user that takes longer than an answer, and of which he wants to see how it goes.

A look at a host, a test cell on a cluster, a Python that is made there. One runs in the background, says in sentences what it does, may have to ask
(the prompts of its login), and ends with a result or a problem. It lives as long as somebody follows it, and only in its gateway's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from zlib import crc32

from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.models import iso
from remote_gpu.errors import RemoteGpuError, UsageProblem

__all__ = ["Task", "TaskKind", "TaskState", "Tasks", "Work"]

_FORGOTTEN = 300.0  # seconds after which a task ends that nobody asked about
_LOOK = 5.0
_KEEP = 50  # tasks that are over and can still be asked about
_MOST_LINES = 1000


class TaskKind(StrEnum):
    """What is done: a host is looked at, a cluster tested, a Python made."""

    LOOK = "look"
    TEST = "test"
    BOOTSTRAP = "bootstrap"


class TaskState(StrEnum):
    """How it is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Task:
    """One task. `about` is the cluster or host; `result` is there once it is done, `problem` (problem+json) once it failed."""

    id: str
    kind: TaskKind
    about: str
    started: float
    changed: Callable[[], None]
    state: TaskState = TaskState.RUNNING
    lines: list[str] = field(default_factory=list)
    ended: float | None = None
    result: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    login: Login | None = None
    """The login that it is behind; what that asks, the task's followers are shown."""
    asked: float = 0.0
    followers: int = 0

    def say(self, sentence: str) -> None:
        """Tell whoever follows what is being done now; nothing is told twice."""
        if sentence not in self.lines and len(self.lines) < _MOST_LINES:
            self.lines.append(sentence)
            self.changed()

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """What its login asks the user now."""
        return list(self.login.json()["prompts"]) if self.login is not None and self.state is TaskState.RUNNING else []

    @property
    def stamp(self) -> str:
        """Changes with all that somebody who follows it wants to see."""
        seen = (self.state, len(self.lines), tuple(prompt["id"] for prompt in self.prompts))
        return f"{crc32(repr(seen).encode()):08x}"

    def json(self) -> dict[str, Any]:
        """The `Task` of the REST API."""
        return {
            "id": self.id,
            "kind": self.kind,
            "about": self.about,
            "state": self.state,
            "lines": list(self.lines),
            "prompts": self.prompts,
            "result": self.result,
            "problem": self.problem,
            "started": iso(self.started),
            "ended": iso(self.ended),
            "stamp": self.stamp,
        }


Work = Callable[[Task], Awaitable[Mapping[str, Any]]]
"""What a task does; it cleans up after itself when it is cancelled."""


class Tasks:
    """Those of one gateway. All calls come from its event loop."""

    def __init__(
        self, logins: Logins, *, log: logging.Logger, clock: Callable[[], float] = time.time, forgotten: float = _FORGOTTEN
    ) -> None:
        self._log = log
        self._clock = clock
        self._forgotten = forgotten
        self._known: dict[str, Task] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        logins.subscribe(lambda _: self._tell(), lambda _: None)

    def begin(self, kind: TaskKind, about: str, work: Work) -> Task:
        """Do `work` in the background."""
        task = Task(secrets.token_hex(6), kind, about, self._clock(), self._tell)
        task.asked = asyncio.get_running_loop().time()
        self._forget_old()
        self._known[task.id] = task
        self._running[task.id] = asyncio.create_task(self._run(task, work), name=f"{kind} of {about}")
        return task

    def running(self, kind: TaskKind, about: str) -> Task | None:
        """The task of that kind for `about` that runs now."""
        return next((each for each in self._known.values() if each.id in self._running and (each.kind, each.about) == (kind, about)), None)

    def get(self, identity: str) -> Task:
        """The task, which is thereby followed. Raises `UsageProblem`."""
        task = self._known.get(identity)
        if task is None:
            raise UsageProblem(f"There is no task {identity!r} (any more).", hint="Start it again.")
        task.asked = asyncio.get_running_loop().time()
        return task

    async def wait(self, identity: str, seen: str, limit: float) -> Task:
        """The task as soon as its stamp is not `seen`, or after `limit` seconds. Raises as `get` does."""
        task = self.get(identity)
        with contextlib.suppress(TimeoutError), _following(task):
            async with asyncio.timeout(limit):
                while task.stamp == seen:
                    await self._news.wait()
        return self.get(identity)

    async def cancel(self, identity: str) -> None:
        """End the task and wait until it has cleaned up; one that is over is not an error. Raises as `get` does."""
        self.get(identity)
        await self._cancel(identity)

    async def aclose(self) -> None:
        """Cancel all."""
        await asyncio.gather(*(self._cancel(identity) for identity in list(self._running)))

    async def _cancel(self, identity: str) -> None:
        running = self._running.get(identity)
        if running is not None:
            if not running.cancelling():  # a second time would cut its cleaning up short
                running.cancel()
            await asyncio.wait([running])

    async def _run(self, task: Task, work: Work) -> None:
        doing = asyncio.ensure_future(work(task))
        try:
            await self._followed(task, doing)
            task.result = doing.result()
            task.state = TaskState.DONE
        except RemoteGpuError as error:
            self._fail(task, error)
        except asyncio.CancelledError:
            self._fail(task, RemoteGpuError("It was cancelled."))
        except Exception as error:  # noqa: BLE001  a mistake of ours: nobody awaits this task
            self._log.exception("The task %s (%s of %s) met something unexpected.", task.id, task.kind, task.about)
            self._fail(
                task, RemoteGpuError(f"It met something unexpected: {type(error).__name__}: {error}.", hint="The gateway's log has more.")
            )
        finally:
            task.ended = self._clock()
            del self._running[task.id]
            self._tell()

    async def _followed(self, task: Task, doing: asyncio.Future[Any]) -> None:
        """Until it is over; it is ended when nobody follows it any more, or this is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while not (await asyncio.wait([doing], timeout=min(_LOOK, self._forgotten)))[0]:
                if not task.followers and loop.time() - task.asked > self._forgotten:
                    self._log.info("The task %s (%s of %s) ends: nobody follows it.", task.id, task.kind, task.about)
                    return
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.wait([doing])

    def _fail(self, task: Task, error: RemoteGpuError) -> None:
        task.state, task.problem = TaskState.FAILED, error.problem()

    def _forget_old(self) -> None:
        over = [identity for identity in self._known if identity not in self._running]
        for identity in over[:-_KEEP]:
            del self._known[identity]

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


@contextlib.contextmanager
def _following(task: Task) -> Iterator[None]:
    task.followers += 1
    try:
        yield
    finally:
        task.followers -= 1
