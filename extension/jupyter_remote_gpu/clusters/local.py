"""The cluster that is there without any configuration: this machine, with its GPUs or honestly without."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jupyter_remote_gpu.clusters.base import Surroundings
from jupyter_remote_gpu.clusters.bundle import Bundle
from jupyter_remote_gpu.clusters.commands import ask
from jupyter_remote_gpu.clusters.environment import allowed, refuse_others
from jupyter_remote_gpu.clusters.granted import granted, pools_of
from jupyter_remote_gpu.clusters.node_commands import node_command
from jupyter_remote_gpu.data_commands import DataCommand
from jupyter_remote_gpu.models import GONE, Allocation, AllocationState, ClusterKind, KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState
from jupyter_remote_gpu.settings import Settings
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import UsageProblem
from remote_gpu.folders import node_folder
from remote_gpu.streams import CommandStream

if TYPE_CHECKING:
    from remote_gpu.streams import FrameStream

__all__ = ["LocalCluster"]

_OPTIONS = {"kind", "python"}
_QUICK = 20.0  # seconds that a command may take which only asks


class LocalCluster:
    """This machine. A session is a process tree of its own that outlives the gateway."""

    kind = ClusterKind.LOCAL

    def __init__(self, name: str, options: Mapping[str, Any], settings: Settings, bundle: Bundle | None = None) -> None:
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            message = f"The cluster {name!r} has the unknown setting {unknown[0]!r}."
            raise UsageProblem(message, hint=f"A local cluster knows {', '.join(sorted(_OPTIONS))}.")
        self.name = name
        self._python = str(options.get("python") or settings.local_python)
        self._settings = settings
        self._bundle = bundle or Bundle()

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any], surroundings: Surroundings) -> Self:
        """See `ClusterFactory`."""
        return cls(name, options, surroundings.settings, surroundings.bundle)

    async def snapshot(self) -> ClusterSnapshot:
        """This machine's GPUs, as its own ``gpus`` command sees them."""
        answer = await ask(self._command("gpus"), step="Looking for GPUs", env=self._environment(), timeout=_QUICK)
        gpus = [gpu for gpu in answer.get("gpus", ()) if isinstance(gpu, dict)]
        return ClusterSnapshot(self.name, self.kind, ClusterState.READY, platform.node(), pools_of(gpus, os.uname().machine), time.time())

    async def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        """Run the node's ``start``; it returns as soon as the supervisor listens."""
        del request  # all of this machine is there already
        extra = refuse_others(kernel.env, self._settings.environment)
        folder = node_folder("s") / kernel.session
        wanted = Allocation(self.name, kernel.session, node=platform.node(), folder=str(folder), detail="Starting on this machine.")
        yield wanted
        answer = await ask(
            self._quick_command("start"),
            step=f"Starting a session on {self.name}",
            env=self._environment(),
            question=replace(kernel, env={**self._environment(), **extra}).json(),
            timeout=self._settings.start_timeout,
        )
        yield granted(wanted, answer)

    async def poll(self, allocation: Allocation) -> Allocation:
        """Look for the supervisor's process; without its number, for the file that it wrote into its folder."""
        if allocation.state.over:
            return allocation
        if not allocation.pid:
            return _from_folder(allocation)
        if _lives(allocation.pid, allocation.start_time):
            return allocation
        return replace(allocation, state=AllocationState.ENDED, detail=GONE)

    async def open_stream(self, allocation: Allocation, session: SessionId) -> FrameStream:
        """The stdin and stdout of the node's ``attach``."""
        del allocation
        argv = self._quick_command("attach", session)
        return await CommandStream.open(argv, env=self._environment(), cwd="/")

    async def open_data(self, allocation: Allocation, session: SessionId) -> DataCommand:
        """The stdin and stdout of the node's ``data``."""
        del allocation
        return await DataCommand.open(self._quick_command("data", session), self._environment())

    async def release(self, allocation: Allocation) -> None:
        """Run the node's ``stop``, which ends what is left and removes the folder."""
        folder = Path(allocation.folder) if allocation.folder else node_folder("s") / allocation.session
        if not folder.exists() and not (allocation.pid and _lives(allocation.pid, allocation.start_time)):
            return
        argv = self._command("stop", allocation.session)
        await ask(argv, step=f"Stopping the session {allocation.session}", env=self._environment(), timeout=_QUICK)

    async def prewarm(self) -> None:
        """Have a warm process ready, from which the next session is forked."""
        question = KernelLaunch(SessionId(""), env=self._environment()).json()
        limit = self._settings.start_timeout
        await ask(self._command("zygote"), step="Preparing a quick start", env=self._environment(), question=question, timeout=limit)

    def _command(self, *words: str) -> list[str]:
        return [self._python, str(self._bundle.path()), *words]

    def _quick_command(self, *words: str) -> list[str]:
        """A command that needs no installed package: Python starts in half the time without looking for them."""
        return node_command(self._python, str(self._bundle.path()), *words)

    def _environment(self) -> dict[str, str]:
        return allowed(self._settings.environment)


def _from_folder(allocation: Allocation) -> Allocation:
    try:
        state = json.loads((Path(allocation.folder) / "state.json").read_text(encoding="utf-8"))
        pid, start_time = int(state["pid"]), int(state.get("start_time") or 0)
    except (OSError, ValueError, KeyError, TypeError):
        return replace(allocation, state=AllocationState.FAILED, detail="Its supervisor never started.")
    if _lives(pid, start_time):
        return replace(allocation, state=AllocationState.RUNNING, pid=pid, start_time=start_time, detail="")
    return replace(allocation, state=AllocationState.ENDED, pid=pid, start_time=start_time, detail=GONE)


def _lives(pid: int, start_time: int) -> bool:
    try:
        found = process_start_time(pid)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process has the number now
        return False
    return not found or not start_time or found == start_time
