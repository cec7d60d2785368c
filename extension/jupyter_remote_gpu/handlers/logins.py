"""Logins: ``/remote-gpu/logins``, and the questions that one asks: ``/remote-gpu/prompts``."""

from __future__ import annotations

import contextlib
from typing import Any

from jupyter_remote_gpu.clusters.base import NeedsLogin
from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.handlers.base import Handler, authorized
from remote_gpu.errors import RemoteGpuError, UsageProblem

__all__ = ["LoginHandler", "LoginsHandler", "PromptHandler"]


class _OfLogins(Handler):
    _track_activity = False

    def login(self, name: str) -> Login:
        """The login to the cluster `name`; or to the host of that name, so that a host can be looked at before it is a cluster."""
        if name not in self.parts.clusters:
            return self.parts.logins.of(name)
        cluster = self.parts.clusters[name]
        if not isinstance(cluster, NeedsLogin) or cluster.login is None:
            raise UsageProblem(f"The cluster {name} needs no login.")
        return cluster.login

    def described(self, login: Login) -> dict[str, Any]:
        """A login with the clusters that it leads to."""
        clusters = self.parts.clusters
        made = {name: clusters.made(name) for name in clusters}
        mine = [
            name for name, cluster in made.items() if cluster is not None and isinstance(cluster, NeedsLogin) and cluster.login is login
        ]
        return {**login.json(), "clusters": mine}


class LoginsHandler(_OfLogins):
    """All of them."""

    @authorized
    async def get(self) -> None:
        """Those of the configured clusters, and of hosts that were asked for."""
        for name in self.parts.clusters:
            with contextlib.suppress(RemoteGpuError):  # a wrong configuration is told where the clusters are shown
                self.parts.clusters[name]
        self.answer({"logins": [self.described(login) for login in self.parts.logins.all()]})


class LoginHandler(_OfLogins):
    """One, by the name of a cluster or of a host."""

    @authorized
    async def get(self, name: str) -> None:
        """It as it is; with ``?wait=SECONDS&seen=STAMP``, as soon as it is another."""
        login = self.login(name)
        await self.parts.logins.wait(login, self.get_query_argument("seen", ""), self.seconds(self.get_query_argument("wait", None)))
        self.answer(self.described(login))

    @authorized
    async def post(self, name: str) -> None:
        """Log in; answers at once. What is asked stands in its prompts."""
        login = self.login(name)
        self.parts.logins.begin(login)
        self.answer(self.described(login), 202)

    @authorized
    async def delete(self, name: str) -> None:
        """Log out: connections end, sessions go on."""
        await self.login(name).end()
        self.answer(None)


class PromptHandler(Handler):
    """A question of a login."""

    @authorized
    async def post(self, prompt: str) -> None:
        """Answer it. The answer is handed to ssh and kept nowhere."""
        body = self.body()
        self.only(body, {"answer"})
        answer = self.typed(body, "answer", str)
        if answer is None:
            raise UsageProblem("'answer' is missing.")
        self.parts.logins.prompts.answer(prompt, answer)
        self.answer(None)

    @authorized
    async def delete(self, prompt: str) -> None:
        """Do not answer it; the login then fails."""
        self.parts.logins.prompts.answer(prompt, None)
        self.answer(None)
