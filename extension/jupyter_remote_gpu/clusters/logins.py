"""The logins of a gateway: one for each host, whichever clusters use it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.clusters.prompts import Prompts
from remote_gpu.errors import LinkProblem

__all__ = ["Logins"]

Listener = Callable[[Login], None]


class Logins:
    """Makes a host's login when it is first asked for. All calls come from the gateway's event loop."""

    def __init__(self, prompts: Prompts | None = None) -> None:
        self.prompts = prompts or Prompts()
        self.prompts.changed = lambda host: self._changed(self.of(host))
        self._logins: dict[str, Login] = {}
        self._listeners: list[tuple[Listener, Listener]] = []
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def of(self, host: str) -> Login:
        """The login to `host`."""
        if host not in self._logins:
            self._logins[host] = Login(host, self.prompts, changed=self._changed, entered=self._entered)
        return self._logins[host]

    def all(self) -> list[Login]:
        """Those that were asked for, in that order."""
        return list(self._logins.values())

    def subscribe(self, changed: Listener, entered: Listener) -> None:
        """Call `changed` whenever a login or its prompts change, and `entered` whenever one begins to work."""
        self._listeners.append((changed, entered))

    def begin(self, login: Login) -> None:
        """Log in, in the background; the user may be asked. While an attempt is under way, nothing more is begun."""
        attempt = self._attempts.get(login.host)
        if attempt is None or attempt.done():
            login.begins()
            self._attempts[login.host] = asyncio.create_task(_attempted(login), name=f"login to {login.host}")

    async def wait(self, login: Login, seen: str, limit: float) -> None:
        """Return as soon as the login's stamp is not `seen`, or after `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while login.stamp == seen:
                    await self._news.wait()

    async def aclose(self) -> None:
        """Refuse open questions and stop watching; masters stay."""
        for attempt in self._attempts.values():
            attempt.cancel()
        await self.prompts.aclose()
        await asyncio.gather(*self._attempts.values(), *(login.aclose() for login in self._logins.values()), return_exceptions=True)

    def _changed(self, login: Login) -> None:
        self._news.set()
        self._news = asyncio.Event()
        for changed, _ in list(self._listeners):
            changed(login)

    def _entered(self, login: Login) -> None:
        for _, entered in list(self._listeners):
            entered(login)


async def _attempted(login: Login) -> None:
    with contextlib.suppress(LinkProblem):  # its state says it
        await login.ensure(ask=True)
