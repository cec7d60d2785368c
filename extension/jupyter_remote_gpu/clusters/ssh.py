"""A machine with GPUs behind ssh, without a scheduler: sessions are processes of the user's there, as on this machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from jupyter_remote_gpu.clusters.agent_machine import AgentMachine
from jupyter_remote_gpu.clusters.base import Surroundings
from jupyter_remote_gpu.clusters.channels import open_data, open_stream
from jupyter_remote_gpu.clusters.environment import refuse_others
from jupyter_remote_gpu.clusters.granted import granted, pools_of
from jupyter_remote_gpu.clusters.machines import Machine, ask_node, round_trip
from jupyter_remote_gpu.clusters.node_commands import carried
from jupyter_remote_gpu.clusters.options import read_options
from jupyter_remote_gpu.clusters.transports import OverSsh
from jupyter_remote_gpu.data_commands import DataCommand
from jupyter_remote_gpu.models import GONE, Allocation, AllocationState, ClusterKind, Found, KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState
from jupyter_remote_gpu.settings import Settings
from remote_gpu.errors import UsageProblem

if TYPE_CHECKING:
    from jupyter_remote_gpu.clusters.login import Login
    from remote_gpu.streams import FrameStream

__all__ = ["SshCluster"]

_BELIEVED = 1.0  # seconds that a list of sessions is believed, however many are asked for


class SshCluster:
    """One machine behind `login`. A session outlives connection, login and gateway."""

    kind = ClusterKind.SSH

    def __init__(self, name: str, machine: Machine, settings: Settings, login: Login | None = None) -> None:
        self.name = name
        self.login = login
        self._machine = machine
        self._settings = settings
        self._listed: tuple[float, dict[str, Mapping[str, Any]]] = (float("-inf"), {})
        self._listing = asyncio.Lock()

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any], surroundings: Surroundings) -> Self:
        """See `ClusterFactory`."""
        read = read_options(name, ClusterKind.SSH, options)
        login = surroundings.logins.of(read.host)
        machine = AgentMachine(OverSsh(login), surroundings.bundle, python=read.python, prologue=read.prologue)
        return cls(name, machine, surroundings.settings, login)

    async def snapshot(self) -> ClusterSnapshot:
        """The machine's GPUs."""
        answer = await ask_node(self._machine, ["gpus"], step=f"Looking for the GPUs of {self.name}")
        hello = await self._machine.hello()
        gpus = [gpu for gpu in answer.get("gpus", ()) if isinstance(gpu, dict)]
        seen = ClusterSnapshot(self.name, self.kind, ClusterState.READY, hello.node, pools_of(gpus, hello.arch), time.time())
        return replace(seen, round_trip=await round_trip(self._machine))

    async def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        """Log in, then run the node's ``start`` there."""
        _refuse_what_needs_a_scheduler(self.name, request)
        extra = refuse_others(kernel.env, self._settings.environment)
        wanted = Allocation(self.name, kernel.session, folder=kernel.session, detail=f"Logging in to {self._machine.name}.")
        yield wanted
        await self._machine.hello(ask=True)
        wanted = replace(wanted, detail=f"Starting on {self._machine.name}.")
        yield wanted
        question = json.dumps({**replace(kernel, env=extra).json(), "inherit": True, "at_home": True})
        step = f"Starting a session on {self.name}"
        answer = await ask_node(self._machine, ["start"], step=step, given=question, limit=self._settings.start_timeout)
        self._forget_list()
        yield granted(wanted, answer)

    async def poll(self, allocation: Allocation) -> Allocation:
        """Look for it among the sessions that run there; one list serves everybody who asks within a second."""
        if allocation.state.over:
            return allocation
        found = (await self._running()).get(allocation.session)
        if found is not None:
            return granted(allocation, found) if allocation.state is AllocationState.PENDING else allocation
        if allocation.state is AllocationState.PENDING:
            return replace(allocation, state=AllocationState.FAILED, detail="Its supervisor never started.")
        return replace(allocation, state=AllocationState.ENDED, detail=GONE)

    async def sessions(self) -> Sequence[Found]:
        """All that run there as this user."""
        found = await self._running()
        return [
            Found(granted(Allocation(self.name, SessionId(session)), state), str(state.get("name") or ""))
            for session, state in found.items()
        ]

    async def open_stream(self, allocation: Allocation, session: SessionId) -> FrameStream:
        """The stdin and stdout of the node's ``attach``."""
        del allocation
        return await open_stream(self._machine, carried(await self._machine.hello(), "attach", session))

    async def open_data(self, allocation: Allocation, session: SessionId) -> DataCommand:
        """The stdin and stdout of the node's ``data``."""
        del allocation
        return await open_data(self._machine, carried(await self._machine.hello(), "data", session))

    async def release(self, allocation: Allocation) -> None:
        """Run the node's ``stop``, which ends what is left and removes the folder."""
        if allocation.state is AllocationState.PENDING and not await self._may_be_there():
            return
        await ask_node(self._machine, ["stop", allocation.session], step=f"Stopping the session {allocation.session}")
        self._forget_list()

    async def prewarm(self) -> None:
        """Have a warm process ready, from which the next session is forked; not worth a login."""
        if self.login is not None and await self.login.lives():
            await ask_node(self._machine, ["zygote"], step="Preparing a quick start", given='{"inherit": true}')

    async def aclose(self) -> None:
        """End the agent."""
        await self._machine.aclose()

    async def _may_be_there(self) -> bool:
        """Whether anything of a launch that did not succeed can be on the machine: without a login, nothing can."""
        return self.login is None or await self.login.lives()

    async def _running(self) -> dict[str, Mapping[str, Any]]:
        """What ``list`` says of each session that runs."""
        async with self._listing:
            clock = asyncio.get_running_loop().time
            if clock() - self._listed[0] > _BELIEVED:
                answer = await ask_node(self._machine, ["list"], step=f"Listing the sessions on {self.name}")
                self._listed = (clock(), {str(each["session"]): each for each in answer.get("sessions", ())})
            return self._listed[1]

    def _forget_list(self) -> None:
        self._listed = (float("-inf"), {})


def _refuse_what_needs_a_scheduler(name: str, request: ResourceRequest) -> None:
    words = [word for word in ("partition", "account", "qos", "constraint", "reservation") if getattr(request, word)]
    if request.nodes > 1:
        words.append("nodes")
    if words:
        hint = "It has no scheduler; leave that out, or choose another cluster."
        raise UsageProblem(f"The cluster {name} knows no {words[0]}.", hint=hint)
