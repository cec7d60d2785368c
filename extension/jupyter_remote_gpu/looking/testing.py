"""A cluster's test: one session by the ordinary way, one small cell in it, and how long each step took. Nothing of it stays."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import NeedsLogin
from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.launches import random_id
from jupyter_remote_gpu.looking.cell import Cell, run_cell
from jupyter_remote_gpu.looking.channel import run_program
from jupyter_remote_gpu.looking.programs import parts_of, program
from jupyter_remote_gpu.models import AllocationState, ClusterKind, Session, gpu_label
from jupyter_remote_gpu.sessions import Sessions
from jupyter_remote_gpu.wishes import Wish, raise_if_over
from remote_gpu.errors import NoKernelPackage, RemoteGpuError, StartTimedOut

__all__ = ["PATIENCE", "ClusterTest"]

PATIENCE = 600.0
"""Seconds that a test waits in a queue, unless it is told otherwise."""

_TIME = 600  # seconds that the test's job asks for, unless sessions of the cluster ask for less
_LOOK = 20.0
_SAID = ("Starting.", "Logging in to ")
"""What a session says of itself that the test has said already."""


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    seconds: float


@dataclass(slots=True)
class ClusterTest:
    """The test of the cluster `name`. `follow` is told the login that it is behind, `say` what is being done."""

    name: str
    clusters: Clusters
    sessions: Sessions
    say: Callable[[str], None]
    follow: Callable[[Login | None], None] = lambda _: None
    patience: float = PATIENCE
    owner: str = ""
    _steps: list[_Step] = field(default_factory=list)
    _left: str = ""

    async def run(self, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Test the cluster as it is configured; with `config`, one that is not configured yet.

        Returns the result of a task of the kind ``test``. Raises what its steps raise, each with its name in the details: ``login``, ``submit``,
        ``wait``, ``start``, ``kernel``, ``cell``.
        """
        async with self.clusters.trial(self.name, _brief(config)) if config is not None else contextlib.nullcontext():
            known = dict(config if config is not None else self.clusters.configured(self.name).config)
            login = await self._login()
            async with self._session() as session:
                cell = await run_cell(self.sessions, session, str(known.get("scratch") or ""), self._step)
            there = await _login_node(login, str(known.get("scratch") or "")) if login is not None else {}
            return self._result(known, session, cell, there)

    async def _login(self) -> Login | None:
        cluster = self.clusters[self.name]
        login = cluster.login if isinstance(cluster, NeedsLogin) else None
        self.follow(login)
        if login is not None:
            sentence = "" if await login.lives() else f"Logging in to {login.host}."
            with self._step("login", sentence):
                await login.ensure(ask=True)
        return login

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """A session that runs; on the way out it is stopped, whatever happened."""
        wish = Wish(f"test-{self.name}-{random_id(4)}", self.name, reuse=False, owner=self.owner)
        times = _Times(str(wish.name), self.clusters.kind(self.name))
        forget = self.sessions.subscribe(times.seen)
        self.say("Starting a session.")
        session, _ = await self.sessions.start(wish)
        try:
            running = await self._until_it_runs(session, times)
            self._steps += times.steps()
            yield running
        finally:
            forget()
            await self._stop(session)

    async def _stop(self, session: Session) -> None:
        """Stop it. What keeps it from that is told, and does not hide why the test failed."""
        self.say("Stopping the test's session.")
        try:
            await self.sessions.stop(session.id, "The test is over.")
        except RemoteGpuError as error:
            self._left = f"The test's session {session.name} could not be stopped, and ends by itself when its time is over: {error}"
            self.say(self._left)

    async def _until_it_runs(self, session: Session, times: _Times) -> Session:
        deadline = time.monotonic() + self.patience
        while session.state is AllocationState.PENDING and time.monotonic() < deadline:
            if session.detail and not session.detail.startswith(_SAID):
                self.say(session.detail)
            session = await self.sessions.wait(session.id, session.stamp, min(_LOOK, deadline - time.monotonic()))
        with _named(times.step):
            raise_if_over(session)
            if session.state is AllocationState.PENDING:
                message = f"The test waited {self.patience:.0f} s and did not start: {session.detail}"
                raise StartTimedOut(
                    message, hint="The configuration may be right all the same; test it again when there is less to wait for."
                )
        return session

    @contextlib.contextmanager
    def _step(self, name: str, sentence: str = "") -> Iterator[None]:
        """Time what is done within."""
        if sentence:
            self.say(sentence)
        began = time.monotonic()
        with _named(name):
            yield
        self._steps.append(_Step(name, round(time.monotonic() - began, 3)))

    def _result(self, config: Mapping[str, Any], session: Session, cell: Cell, there: Mapping[str, str]) -> dict[str, Any]:
        scratch = str(config.get("scratch") or "")
        visible = bool(scratch) and str(cell.seen["scratch_inode"]) == there.get("inode", str(cell.seen["scratch_inode"])) != "0"
        keep = {name: value for name, value in config.items() if name not in ("trust", *(() if visible else ("scratch",)))}
        return {
            **{name: cell.seen[name] for name in ("node", "python", "python_version", "ipykernel", "arch", "cpus", "internet")},
            "cluster": self.name,
            "gpus": gpu_label(_gpus(cell.seen, session)),
            "gpus_seen": cell.seen["gpus"],
            "visible_gpus": cell.seen["visible_gpus"],
            "login_arch": there.get("arch", ""),
            "scratch": visible if scratch else None,
            "round_trip_ms": cell.round_trip_ms,
            "steps": [asdict(step) for step in self._steps],
            "config": keep,
            "warnings": [*_warnings(cell.seen, session, there, scratch="" if visible else scratch), *filter(None, (self._left,))],
        }


@contextlib.contextmanager
def _named(step: str) -> Iterator[None]:
    """An error from within says at which step it was."""
    try:
        yield
    except RemoteGpuError as error:  # a node that spoke was granted, however shortly
        error.details = {**error.details, "step": "start" if isinstance(error, NoKernelPackage) else step}
        raise


@dataclass(slots=True)
class _Times:
    """When which state of the session `name` was first seen, by the monotonic clock; 0.0 = not yet."""

    name: str
    kind: str
    asked: float = field(default_factory=time.monotonic)
    submitted: float = 0.0
    granted: float = 0.0
    running: float = 0.0

    def seen(self, session: Session) -> None:
        if session.name != self.name:
            return
        grant, now = session.allocation, time.monotonic()
        self.submitted = self.submitted or (now if grant.job_id else 0.0)
        self.granted = self.granted or (now if grant.node else 0.0)
        self.running = self.running or (now if grant.state is AllocationState.RUNNING else 0.0)

    @property
    def step(self) -> str:
        """The step that it is in."""
        if self.kind != ClusterKind.SLURM:
            return "start"
        return "start" if self.granted else "wait" if self.submitted else "submit"

    def steps(self) -> list[_Step]:
        """The steps of a session that runs."""
        marks = {"submit": self.submitted, "wait": self.granted} if self.kind == ClusterKind.SLURM else {}
        found, last = [], self.asked
        for name, mark in {**marks, "start": self.running}.items():
            mark = max(mark, last)  # noqa: PLW2901  a mark that was missed is that of the step before
            found.append(_Step(name, round(mark - last, 3)))
            last = mark
        return found


def _brief(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config` with a job that asks for little time, so that it may start early."""
    if config.get("kind") != ClusterKind.SLURM:
        return config
    request = dict(config.get("request") or {})
    return {**config, "request": {**request, "time": min(request.get("time") or _TIME, _TIME)}}


async def _login_node(login: Login, scratch: str) -> dict[str, str]:
    """The login node's architecture, and the number of the scratch folder there."""
    text = 'part() { printf "\\nJRG-LOOK %s\\n" "$1"; shift; "$@" 2>/dev/null; printf "\\nJRG-LOOK = %s\\n" "$?"; }'
    said = await run_program(login, program(text, 'part arch uname -m; part inode ls -di "$1"', [scratch or "/"]), limit=_LOOK)
    parts = parts_of(said.out)
    found = {name: part.said.split()[0] for name, part in parts.items() if part.said.split()}
    return found if scratch else {"arch": found.get("arch", "")}


def _gpus(seen: Mapping[str, Any], session: Session) -> list[str]:
    """What the session got, by the best that is known: the scheduler's word, the driver's, or how many are visible."""
    visible = [word for word in (seen["visible_gpus"] or "").split(",") if word.strip()]
    return [gpu.name for gpu in session.allocation.gpus] or list(seen["gpus"]) or ["GPU"] * len(visible)


def _warnings(seen: Mapping[str, Any], session: Session, there: Mapping[str, str], *, scratch: str) -> Iterator[str]:
    if not _gpus(seen, session):
        yield f"No GPU was seen on {seen['node']}."
    if not seen["internet"]:
        yield f"{seen['node']} does not reach the internet: what a cell needs must be on the cluster before, or be sent along."
    if there.get("arch") and there["arch"] != seen["arch"]:
        yield f"{seen['node']} is {seen['arch']} and the login node {there['arch']}: install packages in a session, not on the login node."
    if scratch:
        yield f"The folder {scratch} of the login node is not on {seen['node']}, so it is left out."
