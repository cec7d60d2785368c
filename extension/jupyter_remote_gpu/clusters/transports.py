"""How commands reach the machine that a cluster's commands run on: directly, when it is this one, or over ssh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jupyter_remote_gpu.clusters import openssh
from jupyter_remote_gpu.clusters.environment import allowed
from jupyter_remote_gpu.clusters.login import Login
from remote_gpu.errors import LinkProblem

__all__ = ["Direct", "OverSsh", "Transport"]

_OF_THE_SITE = ("SLURM_CONF", "MODULEPATH", "MODULESHOME", "LMOD_CMD", "BASH_ENV")
"""What a login node's own settings are, beside those that cross to any node: a cluster's commands here need them."""


class Transport(Protocol):
    """Gives channels to one machine. All calls come from the gateway's event loop."""

    @property
    def name(self) -> str:
        """What people call the machine."""
        ...

    async def ready(self, *, ask: bool) -> None:
        """Be able to give channels; with `ask` the user may be asked. Raises `AccessRefused`, `LinkProblem`."""
        ...

    async def channel(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """(argument vector, environment) of a command for here that carries stdin and stdout of `argv` there."""
        ...

    async def widen(self) -> bool:
        """Make room for more channels; False when that cannot be done without asking the user."""
        ...

    async def renew(self) -> None:
        """A channel that should be there is silent: drop what is dead. Raises `LinkProblem` when the machine cannot be reached now."""
        ...


class Direct:
    """This machine."""

    name = "this machine"

    def __init__(self, also: Sequence[str] = ()) -> None:
        self._also = (*also, *_OF_THE_SITE)

    async def ready(self, *, ask: bool) -> None:
        """It always is."""

    async def channel(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The command itself, with what of this server's environment may cross to a node."""
        return list(argv), allowed(self._also)

    async def widen(self) -> bool:
        """There is no limit."""
        return False

    async def renew(self) -> None:
        """Nothing can be dead."""


class OverSsh:
    """The machine that `login` leads to."""

    def __init__(self, login: Login) -> None:
        self._login = login

    @property
    def name(self) -> str:
        """The host, as the user's ssh knows it."""
        return self._login.host

    async def ready(self, *, ask: bool) -> None:
        """Log in."""
        await self._login.ensure(ask=ask)

    async def channel(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """One on the master that has room."""
        return openssh.channel(self.name, await self._login.roomy(), argv), self._login.environment

    async def widen(self) -> bool:
        """One more login beside the first: a server allows so many channels on each (MaxSessions in sshd_config(5))."""
        return await self._login.widen()

    async def renew(self) -> None:
        """A master hangs on a connection that is dead, if its host takes a new one; else the host is away, and the master may live on."""
        if not await self._login.lives():
            return
        if await self._login.reaches() is False:
            raise LinkProblem(f"{self.name} cannot be reached just now.", hint="Are you online?")
        await self._login.renew()
