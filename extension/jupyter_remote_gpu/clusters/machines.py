"""Where a cluster's commands run: on this machine or on one behind ssh (see `agent_machine`); what a cluster does is the same on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jupyter_remote_gpu.clusters.commands import answer_of, words
from remote_gpu.errors import RemoteGpuError, StartTimedOut

__all__ = ["QUICK", "Answers", "Done", "Hello", "Machine", "ask_node", "finished", "round_trip"]

QUICK = 30.0
"""Seconds that a command may take which only asks."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did: its exit status (127: there is no such command; None: it was ended at its limit), and what it said."""

    status: int | None
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Hello:
    """A machine as it describes itself: `python` is what runs `bundle`, the node's half, there; `library_path` is its LD_LIBRARY_PATH."""

    node: str
    uid: int
    user: str
    home: str
    arch: str
    python: str
    version: str
    library_path: str
    bundle: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Hello:
        """From the JSON of an agent."""
        known: dict[str, Any] = {name: value[name] for name in cls.__slots__}
        return cls(**known)


class Machine(Protocol):
    """A machine that runs commands for a cluster. All calls come from the gateway's event loop."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    async def hello(self, *, ask: bool = False) -> Hello:
        """What it is, once it is ready for commands. With `ask`, which needs a user's wish, the login to it may ask the user.

        Raises `AccessRefused` when the login is refused, or would have to ask; `LinkProblem`.
        """
        ...

    async def run(self, argv: Sequence[str], *, given: str = "", limit: float = QUICK, env: Mapping[str, str] | None = None) -> Done:
        """Run `argv` with `given` on its stdin, in the cluster's environment with `env` added. Raises as `hello` does."""
        ...

    async def appears(self, path: str, limit: float) -> bool:
        """Whether there is such a file within `limit` seconds; returns as soon as it is seen. Raises as `hello` does."""
        ...

    async def widen(self) -> bool:
        """Make room for more commands at once, when there is none; False when that cannot be done without asking the user."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...

    async def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """(argument vector, environment) of a command for here that carries stdin and stdout of `argv` there. Raises as `hello` does."""
        ...


@runtime_checkable
class Answers(Protocol):
    """A machine that can be asked for nothing but an answer."""

    async def ping(self) -> float:
        """Seconds that a message there and back takes: the least of the last few, for a busy moment says nothing of the way. Raises as `Machine.run`."""
        ...


async def round_trip(machine: Machine) -> float:
    """`Answers.ping`; 0.0 of a machine that cannot tell, or does not just now."""
    if not isinstance(machine, Answers):
        return 0.0
    try:
        return await machine.ping()
    except RemoteGpuError:
        return 0.0


async def finished(machine: Machine, argv: Sequence[str], *, step: str, given: str = "", limit: float = QUICK) -> Done:
    """`Machine.run`, and `StartTimedOut` for a command that did not end in time."""
    done = await machine.run(argv, given=given, limit=limit)
    if done.status is None:
        message = f"{step} took longer than {limit:g} s on {machine.name} and was ended: {words(argv)}"
        raise StartTimedOut(message, hint="The machine may be overloaded.")
    return done


async def ask_node(machine: Machine, verb: Sequence[str], *, step: str, given: str = "", limit: float = QUICK) -> dict[str, Any]:
    """The answer of the node's half to `verb`. Raises what it says, `StartFailed` when it says nothing of ours, `StartTimedOut`."""
    hello = await machine.hello()
    argv = [hello.python, hello.bundle, *verb]
    done = await finished(machine, argv, step=step, given=given, limit=limit)
    return answer_of(argv, step, done.status, done.out, done.err)
