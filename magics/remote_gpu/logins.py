"""Logs in where a login may ask the user something, and waits until it works or is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from remote_gpu.errors import AccessRefused, LinkProblem, RemoteGpuError
from remote_gpu.failures import plain
from remote_gpu.gateway import Gateway, LoginInfo
from remote_gpu.prompts import Prompts

__all__ = ["Logins"]

_LOOK = 20.0  # seconds of one long poll; there is no limit to how many
_BEGINS = 10.0  # seconds in which an attempt must be seen to begin
_WORKS = 0.5  # the same while the login works: then there is usually nothing to begin


class Logins:
    """Those of one shell. Only the thread of the cells may use them: they ask the user."""

    def __init__(self, gateway: Callable[[], Gateway], prompts: Prompts) -> None:
        self._gateway = gateway
        self._prompts = prompts

    def log_in(self, name: str) -> LoginInfo:
        """Log in to a cluster (or to a host), with the user's help.

        Raises `AccessRefused` or, when the host is not reached, `LinkProblem`, with the reason; `UsageProblem` where no login is needed.
        """
        try:
            login = self._tried(name)
        except KeyboardInterrupt:
            self._give_up(name)
            message = f"The login to {name} was given up."
            raise plain(AccessRefused(message, hint=f"%remote_gpu login {name} tries again.")) from None
        if login.state != "in":
            kind = AccessRefused if login.state == "refused" else LinkProblem
            raise plain(kind(login.detail or f"The login to {login.host} did not work."))
        return login

    def _tried(self, name: str) -> LoginInfo:
        gateway = self._gateway()
        login = gateway.begin_login(name)
        if login.state != "trying":  # as it was before; while an attempt is under way it says so
            login = gateway.login(name, wait=_WORKS if login.state == "in" else _BEGINS, seen=login.stamp)
        while login.state == "trying":
            if self._prompts.new(login.prompts):
                self._prompts.serve(login.prompts, name)
            login = self._gateway().login(name, wait=_LOOK, seen=login.stamp)
        return login

    def _give_up(self, name: str) -> None:
        with contextlib.suppress(RemoteGpuError):
            for prompt in self._gateway().login(name).prompts:
                self._prompts.refuse(prompt)
