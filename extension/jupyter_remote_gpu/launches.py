"""Starts sessions: chooses the cluster, writes the session down, and drives `Cluster.launch` step by step."""

from __future__ import annotations

import asyncio
import logging
import secrets
import string
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from jupyter_remote_gpu.choices import AUTO, Choices
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.environment import is_allowed
from jupyter_remote_gpu.models import Allocation, AllocationState, KernelLaunch, ResourceRequest, Session, SessionId
from jupyter_remote_gpu.naming import default_name, free_name
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.selection import Rules, rank
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.snapshots import Snapshots
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import NameTaken, RemoteGpuError, SessionEnded, StartFailed, UsageProblem

__all__ = ["Launches", "random_id"]

_ALPHABET = string.ascii_lowercase + string.digits


class Launches:
    """The launches of the gateway `me` (pid, start time). `announce` is told each change, `started` when a session runs."""

    def __init__(
        self,
        registry: Registry,
        clusters: Clusters,
        snapshots: Snapshots,
        choices: Choices,
        settings: Settings,
        *,
        log: logging.Logger,
        clock: Callable[[], float],
        me: tuple[int, int],
        announce: Callable[[Session], None],
        started: Callable[[SessionId], None],
    ) -> None:
        self._registry = registry
        self._clusters = clusters
        self._snapshots = snapshots
        self._choices = choices
        self._settings = settings
        self._log = log
        self._clock = clock
        self._me = me
        self._announce = announce
        self._started = started
        self._tasks: dict[SessionId, asyncio.Task[None]] = {}

    async def choose(self, wish: Wish) -> tuple[str, str]:
        """(cluster, why) for a new session. Raises `UnknownCluster`, and `UsageProblem` with the reasons when nothing can run it."""
        wanted, reason = wish.cluster, "you asked for it"
        if wanted == AUTO:
            wanted, reason = self._choices.get(wish.notebook, self._clusters), "you chose it for this notebook"
        if wanted != AUTO:
            self._clusters[wanted]
        plain = wish.request == ResourceRequest()
        if plain and wanted != AUTO:
            return wanted, f"{wanted}: {reason}."
        snapshots = self._snapshots.all() if plain and len(self._clusters) == 1 else await self._snapshots.known(5)
        if wanted != AUTO:
            snapshots = [snapshot for snapshot in snapshots if snapshot.name == wanted]
        selection = rank(wish.request, snapshots, rules=Rules(), now=self._clock())
        if not selection.chosen:
            raise UsageProblem(selection.sentence, hint="`%remote_gpu clusters` shows what there is.")
        return selection.chosen, f"{wanted}: {reason}." if wanted != AUTO else selection.sentence

    def write_down(self, wish: Wish, cluster: str, why: str) -> Session | None:
        """A new session in the registry; None when its name was taken in the meantime (by another gateway)."""
        identity = SessionId(random_id(10))
        default = wish.name is None and wish.own_kernel_id is None and wish.reuse
        taken = {session.name for session in self._registry.sessions()}
        session = Session(
            id=identity,
            name=wish.name or free_name(default_name(wish.notebook), taken),
            cluster=cluster,
            kernel_id=wish.own_kernel_id or str(uuid.uuid4()),
            allocation=Allocation(cluster, identity, detail="Starting."),
            owner=wish.owner,
            notebook=wish.notebook,
            default=default,
            created=self._clock(),
            why=why,
            gateway=self._me[0],
        )
        try:
            self._registry.add(session, wish.request, self._me[1])
        except NameTaken:
            return None
        return session

    def begin(self, session: Session, wish: Wish) -> None:
        """Launch `session` in the background."""
        self._tasks[session.id] = asyncio.create_task(self._launch(session, wish), name=f"launch of {session.id}")

    def __contains__(self, session: object) -> bool:
        """Whether a launch of that session is under way here."""
        return session in self._tasks

    def pending(self) -> list[SessionId]:
        """The sessions whose launches are under way."""
        return list(self._tasks)

    def driven_elsewhere(self, session: Session) -> bool:
        """Whether another gateway that lives is launching `session`."""
        pid, start_time = self._registry.gateway_of(session.id)
        try:
            return (pid, start_time) != self._me and (process_start_time(pid) or 0) == start_time
        except (ProcessLookupError, PermissionError):
            return False

    def may_still_start(self, session: Session, found: Allocation) -> bool:
        """Whether it is too early to say that `session` never started: a dead gateway's launch command may outlive it."""
        return found.state is AllocationState.FAILED and self._clock() - session.created < self._settings.start_timeout

    async def cancel(self, session: SessionId) -> None:
        """End a launch; what it took until then is in the registry, for the caller to release."""
        task = self._tasks.pop(session, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _launch(self, session: Session, wish: Wish) -> None:
        """Drive `Cluster.launch`: each allocation is written down before the next step begins."""
        cluster, last = self._clusters[session.cluster], session.allocation
        try:
            async with aclosing(cluster.launch(wish.request, self._kernel_launch(session, wish))) as steps:  # type: ignore[type-var]
                async for allocation in steps:
                    last = allocation
                    self._record(allocation)
            if last.state is not AllocationState.RUNNING:
                raise StartFailed(f"The cluster {session.cluster} granted nothing to the session {session.name}.")
        except RemoteGpuError as error:
            await self._fail(last, error)
            return
        except Exception as error:  # noqa: BLE001  a mistake of ours, or of somebody's cluster kind: nobody awaits this task
            self._log.exception("The start of the session %s met something unexpected.", session.id)
            message = f"The start met something unexpected: {type(error).__name__}: {error}."
            await self._fail(last, StartFailed(message, hint="The gateway's log has the whole of it."))
            return
        finally:
            self._tasks.pop(session.id, None)
        self._started(session.id)
        self._registry.add_wait(session.cluster, wish.request, session.created, self._clock())

    def _kernel_launch(self, session: Session, wish: Wish) -> KernelLaunch:
        settings = self._settings
        refused = sorted(name for name in wish.env if not is_allowed(name, settings.environment))
        if refused:
            self._log.warning("The session %s starts without %s: not on the allow-list.", session.name, ", ".join(refused))
        return KernelLaunch(
            session=session.id,
            env={name: value for name, value in wish.env.items() if name not in refused},
            cwd=wish.cwd,
            idle_timeout=settings.idle_timeout,
            unattended_timeout=settings.unattended_timeout,
            journal_limit=settings.journal_limit,
        )

    def _record(self, allocation: Allocation) -> None:
        if not self._registry.record(allocation, now=self._clock()) and not allocation.state.over:
            raise SessionEnded("The session was stopped while it started.")
        self._tell(allocation.session)

    async def _fail(self, last: Allocation, error: RemoteGpuError) -> None:
        self._log.warning("The session %s did not start: %s", last.session, error)
        failed = replace(last, state=AllocationState.FAILED, detail=error.message)
        try:
            self._registry.record(failed, now=self._clock(), problem=error.problem())
            await self._clusters[last.cluster].release(last)
        except RemoteGpuError as second:
            self._log.error("After the failed start of %s: %s", last.session, second)
        self._tell(last.session)

    def _tell(self, identity: SessionId) -> None:
        session = self._registry.session(identity)
        if session is not None:
            self._announce(session)


def random_id(length: int) -> str:
    """A name of `length` letters and digits that nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
