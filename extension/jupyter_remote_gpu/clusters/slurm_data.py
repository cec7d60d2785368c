"""The ways of arrays and files into the jobs of one cluster: which there are, how fast each is, and opening the widest.

What a step of Slurm carries on its stdin and stdout is copied twice and reaches a tenth of what ssh does. So there are three ways, in the order of
preference: ssh from the login node to the job's node, a relay that hands files over in a shared folder (`scratch`), and the step itself. A probe finds
which of them work for a kind of node and measures them by a burst; all sessions share what it found. One that fails later is replaced by the next.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from jupyter_remote_gpu.clusters.channels import open_data
from jupyter_remote_gpu.clusters.machines import Hello, Machine
from jupyter_remote_gpu.clusters.node_commands import carried
from jupyter_remote_gpu.clusters.openssh import _MASTER_GONE
from jupyter_remote_gpu.clusters.options import DataWay, RemoteOptions, StreamWay
from jupyter_remote_gpu.clusters.slurm_data_probe import Measured, measure
from jupyter_remote_gpu.clusters.slurm_streams import node_folder_of, within_job
from jupyter_remote_gpu.data_commands import DataCommand
from jupyter_remote_gpu.models import Allocation, SessionId
from remote_gpu.errors import LinkProblem, RemoteGpuError

__all__ = ["DataWays"]

_log = logging.getLogger(__name__)

_OPENS = 15.0  # seconds that a way has to begin to speak
_TRIED = 15.0  # the same for a way that is tried, with its burst
_REACHED = 5  # seconds that a node may take to accept a connection
_BELIEVED = 3600.0  # seconds that a probe is believed
_DOUBTED = 600.0  # the same when something that could be wider did not work
_ASIDE = 600.0  # seconds that a way is the last choice after it has failed
_MUCH = 3.0  # times as fast as the one before it must a way be to be preferred: bursts are short, and machines busy
_PLENTY = 150e6  # bytes a second that are not worth looking for more: what leads to the login is hardly wider
_YOUNG = 120.0  # seconds: a stream that breaks earlier, and once more, is the fault of its way
_BREAKS = 2
_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Found:
    """What a probe found: the ways that work, the best first; believed until then."""

    ways: tuple[Measured, ...]
    until: float


@dataclass(frozen=True, slots=True)
class _Used:
    """The newest stream of a session, its way, when it was opened, and how often those before it broke young."""

    command: DataCommand
    way: Measured
    since: float
    breaks: int = 0


class DataWays:
    """Those of the cluster `where`, whose commands run on `machine`. All calls come from the gateway's event loop."""

    def __init__(self, machine: Machine, configured: RemoteOptions, where: str) -> None:
        self._machine = machine
        self._configured = configured
        self._where = where
        self._found: dict[str, _Found] = {}
        self._looking = asyncio.Lock()
        self._aside: dict[tuple[str, DataWay], float] = {}
        self._used: dict[SessionId, _Used] = {}

    def of(self, session: SessionId) -> Measured | None:
        """The way of a session's newest data stream, and what it carried when it was measured; None when it has had none."""
        used = self._used.get(session)
        return used.way if used is not None else None

    async def open(self, allocation: Allocation) -> DataCommand:
        """The node's ``data`` of a job that runs, by the widest way that works.

        Raises `AccessRefused` and `LinkProblem` when the machine cannot be reached, else what the last way says.
        """
        hello = await self._machine.hello()
        kind = _kind(allocation)
        breaks = await self._breaks(allocation.session, kind)
        failed: list[tuple[DataWay, RemoteGpuError]] = []
        for found in await self._ordered(kind, allocation, hello):
            try:
                command = await self._opened(found.way, allocation, hello, _OPENS)
            except LinkProblem as problem:
                if problem.details.get("channels"):
                    raise
                failed.append((found.way, problem))
                continue
            for way, problem_ in failed:
                self._put_aside(kind, way, str(problem_))
            self._remember(allocation.session, _Used(command, found, _now(), breaks))
            return command
        self._found.pop(kind, None)
        raise failed[-1][1]

    async def _ordered(self, kind: str, allocation: Allocation, hello: Hello) -> list[Measured]:
        """The ways that work, the best first; those that failed a short while ago come last."""
        if self._configured.data is not DataWay.AUTO:
            return [Measured(self._configured.data)]
        async with self._looking:
            found = self._found.get(kind)
            if found is None or found.until < _now():
                found = await self._probe(allocation, hello)
                if found.ways:
                    self._found[kind] = found
                    _log.info("Arrays to %s of %s go by %s.", kind, self._where, ", else by ".join(map(str, found.ways)))
        ways = found.ways or tuple(Measured(way) for way in self._candidates())
        return sorted(ways, key=lambda each: self._aside.get((kind, each.way), 0.0) > _now())

    def _candidates(self) -> list[DataWay]:
        return [DataWay.SSH, *([DataWay.SCRATCH] if self._configured.scratch else []), DataWay.SRUN]

    async def _probe(self, allocation: Allocation, hello: Hello) -> _Found:
        """Try the ways one after the other, for each takes a channel of the login; stop at one that is wide enough."""
        found: list[Measured] = []
        failed = False
        for way in self._candidates():
            if any(each.rate >= _PLENTY for each in found):
                found.append(Measured(way))
                continue
            try:
                found.append(await self._tried(way, allocation, hello))
            except RemoteGpuError as problem:
                if problem.details.get("channels"):
                    raise
                failed = True
                _log.info("Arrays to %s of %s cannot go by %s: %s", allocation.node, self._where, way, problem)
        return _Found(_ranked(found), _now() + (_DOUBTED if failed else _BELIEVED))

    async def _tried(self, way: DataWay, allocation: Allocation, hello: Hello) -> Measured:
        command = await self._opened(way, allocation, hello, _TRIED)
        try:
            with command.take() as connection:
                return await asyncio.to_thread(measure, way, connection)
        finally:
            await command.aclose()

    async def _opened(self, way: DataWay, allocation: Allocation, hello: Hello, limit: float) -> DataCommand:
        """A stream by `way`, once it has begun to speak. A connection to the login that was lost is no fault of the way."""
        argv = self._command(way, allocation, hello)
        try:
            async with asyncio.timeout(limit):
                try:
                    return await open_data(self._machine, argv)
                except LinkProblem as problem:
                    if not _MASTER_GONE.search(str(problem)):
                        raise
                    await self._machine.hello()
                    return await open_data(self._machine, argv)
        except TimeoutError as error:
            raise LinkProblem(f"A data stream by {way} to {allocation.node} did not open within {limit:g} s.") from error

    def _command(self, way: DataWay, allocation: Allocation, hello: Hello) -> list[str]:
        """What runs the node's ``data`` on the login node."""
        inner = carried(hello, "data", allocation.session, folder=node_folder_of(hello.uid))
        if way is DataWay.SCRATCH:
            step = within_job(self._configured.stream, allocation, inner)
            return carried(hello, "data-relay", self._configured.scratch, *step)
        if way is DataWay.SSH:
            ssh, *rest = within_job(StreamWay.SSH, allocation, inner)
            return [ssh, "-o", f"ConnectTimeout={_REACHED}", *rest]  # the first value counts
        return within_job(StreamWay.SRUN, allocation, inner)

    async def _breaks(self, session: SessionId, kind: str) -> int:
        """How often in a row a session's streams broke young; after some, their way is put aside."""
        used = self._used.get(session)
        if used is None or _now() - used.since > _YOUNG or not (said := await _failure(used.command)):
            return 0
        if used.breaks + 1 < _BREAKS:
            return used.breaks + 1
        self._put_aside(kind, used.way.way, said)
        return 0

    def _put_aside(self, kind: str, way: DataWay, why: str) -> None:
        """Another way has taken its place, or will."""
        if self._aside.get((kind, way), 0.0) < _now() and self._configured.data is DataWay.AUTO:
            _log.warning("Arrays to %s of %s do not go by %s for %g minutes: %s", kind, self._where, way, _ASIDE / 60, why)
        self._aside[kind, way] = _now() + _ASIDE

    def _remember(self, session: SessionId, used: _Used) -> None:
        self._used.pop(session, None)
        self._used[session] = used
        for old in list(self._used)[:-_KEPT]:
            if self._used[old].command.ended:
                del self._used[old]


def _ranked(found: Sequence[Measured]) -> tuple[Measured, ...]:
    """The best first: each is preferred to those after it that are not much faster."""
    best = found[0] if found else None
    for each in found[1:]:
        if best is not None and each.rate > _MUCH * best.rate:
            best = each
    return (*([best] if best else []), *(each for each in found if each is not best))


def _kind(allocation: Allocation) -> str:
    """Nodes that differ in their number alone are alike."""
    return f"{re.sub(r'[0-9]+', '*', allocation.node)} {allocation.arch}".strip()


async def _failure(command: DataCommand) -> str:
    """What a command said that failed; "" for one that did not, or goes on."""
    if not command.ended:
        return ""
    waiting = asyncio.ensure_future(command.wait())
    await asyncio.wait([waiting], timeout=1.0)
    return waiting.result() if waiting.done() and not waiting.cancelled() and waiting.exception() is None else ""


def _now() -> float:
    return time.monotonic()
