"""The machine that a cluster's commands run on, through one agent there, and a channel of its own for each stream."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence

from jupyter_remote_gpu.clusters import openssh
from jupyter_remote_gpu.clusters.agents import Agent, boot_text
from jupyter_remote_gpu.clusters.bundle import Bundle
from jupyter_remote_gpu.clusters.machines import QUICK, Done, Hello
from jupyter_remote_gpu.clusters.prologue import failure, with_prologue
from jupyter_remote_gpu.clusters.transports import Transport
from remote_gpu.errors import LinkProblem, RemoteGpuError, StartFailed

__all__ = ["AgentMachine"]

_OPENING = 60.0  # seconds for the prologue and the first answer: a cold `module load` on a busy login node takes many
_QUIET = 10.0  # seconds after which an agent that said nothing is asked whether it is there
_SOON = 5.0
_TRIPS = 5
_UNUSED = 600.0  # seconds without a command after which an agent ends; login nodes are shared
_NO_PYTHON = re.compile(r"not found|No such file|cannot execute|Permission denied$", re.MULTILINE)
_RUN_TEXT = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"


class AgentMachine:
    """The machine that `transport` leads to. `python` and `prologue` are the cluster's; see `Machine` for the methods."""

    def __init__(self, transport: Transport, bundle: Bundle, *, python: str, prologue: Sequence[str] = ()) -> None:
        self._transport = transport
        self._bundle = bundle
        self._python = python
        self._prologue = tuple(prologue)
        self._agent: Agent | None = None
        self._opening = asyncio.Lock()
        self._trips: deque[float] = deque(maxlen=_TRIPS)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._transport.name

    async def hello(self, *, ask: bool = False) -> Hello:
        """What the agent says of the machine."""
        if ask:  # also when the agent answers: a master whose socket was cleaned away carries it still, and no stream any more
            await self._transport.ready(ask=True)
        hello = (await self._ready(logged_in=ask)).hello
        if hello is None:
            raise LinkProblem(f"The connection to {self.name} is gone.")
        return hello

    async def run(self, argv: Sequence[str], *, given: str = "", limit: float = QUICK, env: Mapping[str, str] | None = None) -> Done:
        """Run a command by the agent."""
        return await (await self._ready()).run(argv, given=given, limit=limit, env=env)

    async def appears(self, path: str, limit: float) -> bool:
        """Have the agent look."""
        return await (await self._ready()).appears(path, limit)

    async def ping(self) -> float:
        """Ask the agent for an answer."""
        agent, clock = await self._ready(), asyncio.get_running_loop().time
        began = clock()
        await agent.ping(_SOON)
        self._trips.append(clock() - began)
        return min(self._trips)

    async def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """A channel of its own."""
        await self._ready()
        return await self._transport.channel(argv)

    async def widen(self) -> bool:
        """Have the transport make room."""
        return await self._transport.widen()

    async def aclose(self) -> None:
        """End the agent."""
        agent, self._agent = self._agent, None
        if agent is not None:
            await agent.aclose()

    async def _ready(self, *, logged_in: bool = False) -> Agent:
        """The agent, certain to be there within some seconds; opened, without asking anybody, if it is not."""
        async with self._opening:
            agent = self._agent
            if agent is not None and not agent.ended and await self._answers(agent):
                return agent
            await self.aclose()
            if not logged_in:
                await self._transport.ready(ask=False)
            self._agent = await self._open()
            return self._agent

    async def _answers(self, agent: Agent) -> bool:
        """Whether the agent is there; one that is silent may hang on a connection that is dead."""
        if asyncio.get_running_loop().time() - agent.heard < _QUIET:
            return True
        try:
            await agent.ping(_SOON)
        except RemoteGpuError:
            if not agent.ended:
                await self._transport.renew()
            return False
        return True

    async def _open(self) -> Agent:
        boot = [*_started(self._python), "-u", "-c", _RUN_TEXT, str(len(boot_text())), self._bundle.sources_digest]
        argv, env = await self._transport.channel(with_prologue(self._prologue, boot))
        return await Agent.open(
            argv,
            env,
            name=self.name,
            bundle=lambda: asyncio.to_thread(self._bundle.sources),
            why=self._why,
            limit=_OPENING,
            unused=_UNUSED,
        )

    def _why(self, said: str) -> RemoteGpuError:
        """What ended an agent, or kept it from beginning: the prologue, the Python, or the connection."""
        if (failed := failure(said, self.name)) is not None:
            return failed
        if _NO_PYTHON.search(said):
            message = f"{self._python} cannot be run on {self.name}. The shell there says: {said.strip()[-600:]}"
            return StartFailed(message, hint="Set the cluster's python, or the prologue that it needs.", step="python")
        return openssh.problem(self.name, said)


def _started(python: str) -> list[str]:
    """How `python` begins a command; a ~ is the home folder over there."""
    return ["sh", "-c", 'exec "$HOME/$0" "$@"', python[2:]] if python.startswith("~/") else [python]
