"""Sessions: ``/remote-gpu/sessions`` and what can be done with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_remote_gpu.choices import AUTO
from jupyter_remote_gpu.demands import demand_from
from jupyter_remote_gpu.handlers.base import Handler, authorized
from jupyter_remote_gpu.handlers.clusters import request_of
from jupyter_remote_gpu.models import AllocationState
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.errors import StartFailed, UsageProblem, from_problem

__all__ = ["ExtendHandler", "InterruptHandler", "LogsHandler", "RestartHandler", "SessionHandler", "SessionsHandler"]

_WISH = {
    "name",
    "cluster",
    "kernel_id",
    "notebook",
    "request",
    "own_kernel_id",
    "env",
    "cwd",
    "wait",
    "reuse",
    "demand",
    "fallback",
    "race",
}
_DEFAULT_WAIT = 20.0
_MOST_LINES = 10_000
_MOST_RIVALS = 5


class SessionsHandler(Handler):
    """All sessions of this user."""

    _track_activity = False

    @authorized
    async def get(self) -> None:
        """The live ones, and those that ended a short while ago; with ``?discover=true``, what the clusters know beside them."""
        problems = list(await self.parts.sessions.discover()) if self.get_query_argument("discover", "") == "true" else []
        self.answer({"sessions": [session.json() for session in await self.parts.sessions.list()], "problems": problems})

    @authorized
    async def post(self) -> None:
        """Find or start one; waits ``wait`` seconds for it to leave the queue."""
        body = self.body()
        self.only(body, _WISH)
        sessions, wait = self.parts.sessions, self.seconds(body.get("wait"), _DEFAULT_WAIT)
        session, is_new = await sessions.start(await self._wish(body))
        session = await sessions.wait(session.id, AllocationState.PENDING, wait, asks=True)
        if session.state is AllocationState.FAILED:
            raise from_problem(dict(session.problem)) if session.problem else StartFailed(session.detail)
        self.answer(session.json(), 201 if is_new else 200)

    async def _wish(self, body: dict[str, Any]) -> Wish:
        env = self.typed(body, "env", dict) or {}
        if not all(isinstance(value, str) for value in env.values()):
            raise UsageProblem("The values of 'env' must be strings.")
        notebook = self._relative(self.typed(body, "notebook", str))
        request = request_of(self, body)
        return Wish(
            name=self.typed(body, "name", str),
            cluster=self.typed(body, "cluster", str) or AUTO,
            notebook=await self.parts.choices.notebook(notebook, self.typed(body, "kernel_id", str)),
            own_kernel_id=self.typed(body, "own_kernel_id", str),
            request=request,
            beside=demand_from(self.typed(body, "demand", dict), request),
            fallback=self.typed(body, "fallback", bool) is True,
            race=self._race(body),
            env=env,
            cwd=self.typed(body, "cwd", str),
            reuse=self.typed(body, "reuse", bool) is not False,
            owner=self.current_user.username,
        )

    def _race(self, body: dict[str, Any]) -> int:
        race = self.typed(body, "race", int)
        if race is not None and not 1 <= race <= _MOST_RIVALS:
            raise UsageProblem(f"'race' must be a number of clusters from 1 to {_MOST_RIVALS}, not {race}.")
        if race is not None and race > 1 and body.get("fallback"):
            raise UsageProblem("'race' asks several clusters at once, 'fallback' one after the other.", hint="Choose one of them.")
        return race or 1

    def _relative(self, notebook: str | None) -> str | None:
        """A notebook's path as the server's own API has it: below its root folder, without a leading slash."""
        root = str(Path(self.settings.get("server_root_dir", "/")).expanduser())
        if notebook is None or not notebook.startswith("/") or not notebook.startswith(root.rstrip("/") + "/"):
            return notebook
        return notebook[len(root.rstrip("/")) + 1 :]


class SessionHandler(Handler):
    """One session, by id, kernel id or name."""

    _track_activity = False

    @authorized
    async def get(self, session: str) -> None:
        """It as it is; with ``?wait=SECONDS&seen=…``, as soon as its state is another than that, or its stamp."""
        wait = self.seconds(self.get_query_argument("wait", None))
        seen = self.get_query_argument("seen", "").lower()
        found = await (self.parts.sessions.wait(session, seen, wait) if wait else self.parts.sessions.get(session))
        self.answer(found.json())

    @authorized
    async def delete(self, session: str) -> None:
        """End it and give everything back."""
        await self.parts.sessions.stop(session)
        self.answer(None)


class InterruptHandler(Handler):
    """What runs in a session."""

    @authorized
    async def post(self, session: str) -> None:
        """Interrupt it; the state survives."""
        self.answer((await self.parts.sessions.interrupt(session)).json())


class RestartHandler(Handler):
    """The kernel of a session."""

    @authorized
    async def post(self, session: str) -> None:
        """Start it again in the same allocation; answers once it is ready."""
        self.answer((await self.parts.sessions.restart(session)).json())


class ExtendHandler(Handler):
    """The end of a session's allocation."""

    @authorized
    async def post(self, session: str) -> None:
        """Move it by ``seconds``; the scheduler may refuse."""
        body = self.body()
        self.only(body, {"seconds"})
        seconds = self.typed(body, "seconds", int)
        if not seconds or seconds < 0:
            raise UsageProblem("'seconds' must be a number of at least 1.")
        self.answer((await self.parts.sessions.extend(session, seconds)).json())


class LogsHandler(Handler):
    """What supervisor and kernel wrote beside the protocol."""

    @authorized
    async def get(self, session: str) -> None:
        """The last ``lines``."""
        text = self.get_query_argument("lines", "100")
        if not text.isdigit():
            raise UsageProblem(f"{text!r} is not a number of lines.")
        self.answer({"text": await self.parts.sessions.logs(session, min(int(text), _MOST_LINES))})
