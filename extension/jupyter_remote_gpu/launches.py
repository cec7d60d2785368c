"""Starts sessions: chooses the cluster, writes the session down, and drives `Cluster.launch` step by step."""

from __future__ import annotations

import asyncio
import logging
import secrets
import string
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from jupyter_remote_gpu.choices import AUTO, Choices
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Scheduled
from jupyter_remote_gpu.clusters.environment import is_allowed
from jupyter_remote_gpu.contenders import Contenders
from jupyter_remote_gpu.contests import Contest, patience_of
from jupyter_remote_gpu.models import Allocation, AllocationState, Found, KernelLaunch, ResourceRequest, Session, SessionId
from jupyter_remote_gpu.naming import default_name, free_name
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.selecting import Decided, Selecting
from jupyter_remote_gpu.selection import Candidate, Demand
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import NameTaken, RemoteGpuError, SessionEnded, StartFailed, UsageProblem

__all__ = ["Launches", "random_id"]

Steps = Callable[[], AsyncIterator[Allocation]]
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Chosen:
    """A cluster, why it in a sentence, and the decision with the candidate if it was selected."""

    cluster: str
    why: str
    decision: str = ""
    candidate: Candidate | None = None
    others: tuple[Candidate, ...] = ()
    """The candidates after it that can run the request, too."""


class Launches:
    """The launches of the gateway `me` (pid, start time). `announce` is told each change, `started` when a session runs."""

    def __init__(
        self,
        registry: Registry,
        clusters: Clusters,
        selecting: Selecting,
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
        self._selecting = selecting
        self.contenders = Contenders(registry)
        self._choices = choices
        self._settings = settings
        self._log = log
        self._clock = clock
        self._me = me
        self._announce = announce
        self._started = started
        self._tasks: dict[SessionId, asyncio.Task[None]] = {}

    async def choose(self, wish: Wish) -> Chosen:
        """Where a new session goes. Raises `UnknownCluster`, and `UsageProblem` with the reasons when nothing can run it."""
        wanted, reason = wish.cluster, "you asked for it"
        if wanted == AUTO:
            wanted, reason = self._choices.get(wish.notebook, self._clusters), "you chose it for this notebook"
        demand = wish.demand
        if wanted != AUTO:
            self._clusters[wanted]
            if demand == Demand():
                return Chosen(wanted, f"{wanted}: {reason}.")
            demand = replace(demand, only=(wanted,))
        decided = await self._selecting.select(demand, notebook=wish.notebook)
        best = decided.best
        if best is None and wish.beside == Demand() and isinstance(self._clusters.made(wanted), Scheduled):
            return Chosen(wanted, f"{wanted}: {reason}.")  # its scheduler knows better, and refuses in words of its own
        if best is None:
            hint = "`%remote_gpu where` with the same options shows what would make a cluster fit."
            raise UsageProblem(_refusal(decided, wanted), hint=hint)
        others = self._elsewhere(best, decided.selection.candidates[1:])
        return Chosen(best.cluster, f"{wanted}: {reason}." if wanted != AUTO else decided.selection.sentence, decided.id, best, others)

    def _elsewhere(self, best: Candidate, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Those of `candidates` that can run it, one for each place: in one queue, two requests for one session could not be told apart."""
        places = {self._clusters.place(best.cluster): best}
        for each in candidates:
            if each.eligible:
                places.setdefault(self._clusters.place(each.cluster), each)
        return tuple(places.values())[1:]

    def write_down(self, wish: Wish, chosen: Chosen) -> Session | None:
        """A new session in the registry; None when its name was taken in the meantime (by another gateway)."""
        identity = SessionId(random_id(10))
        default = wish.name is None and wish.own_kernel_id is None and wish.reuse
        taken = {session.name for session in self._registry.sessions()}
        session = Session(
            id=identity,
            name=wish.name or free_name(default_name(wish.notebook), taken),
            cluster=chosen.cluster,
            kernel_id=wish.own_kernel_id or str(uuid.uuid4()),
            allocation=Allocation(chosen.cluster, identity, detail="Starting."),
            owner=wish.owner,
            notebook=wish.notebook,
            default=default,
            created=self._clock(),
            why=chosen.why,
            decision=chosen.decision,
            gateway=self._me[0],
        )
        try:
            self._registry.add(session, wish.request, self._me[1])
        except NameTaken:
            return None
        self._selecting.remembered.asked(identity, chosen.cluster, wish.request, session.created, chosen.candidate)
        return session

    def write_found(self, found: Found) -> None:
        """Write down a session that another registry's gateway started, under its name or the next that is free."""
        grant, taken = found.allocation, {session.name for session in self._registry.sessions()}
        session = Session(
            id=grant.session,
            name=free_name(found.name or f"found-{grant.session[:4]}", taken),
            cluster=grant.cluster,
            kernel_id=str(uuid.uuid4()),
            allocation=grant,
            created=self._clock(),
            started=self._clock() if grant.state is AllocationState.RUNNING else None,
            why=f"{grant.cluster}: it was found there; you started it elsewhere.",
            gateway=self._me[0],
        )
        self._registry.add(session, ResourceRequest(), self._me[1])

    def begin(self, session: Session, wish: Wish, chosen: Chosen) -> None:
        """Launch `session` in the background, on its cluster or, if that was wished for, on others as well."""
        kernel = self._kernel_launch(session, wish)

        def launch(name: str) -> AsyncIterator[Allocation]:
            return self._clusters[name].launch(wish.request, kernel)

        rivals = [each.cluster for each in chosen.others[: max(0, wish.race - 1)]]
        contest = self._contest(session.id, launch)
        if rivals:
            self._drive(session, lambda: contest.at_once(session.cluster, {name: launch(name) for name in (session.cluster, *rivals)}))
        elif wish.fallback and chosen.candidate is not None:
            asked = [(each.cluster, patience_of(each)) for each in (chosen.candidate, *chosen.others)]
            self._drive(session, lambda: contest.in_turn(asked))
        else:
            self._drive(session, lambda: launch(session.cluster))

    def _contest(self, session: SessionId, launch: Callable[[str], AsyncIterator[Allocation]] | None = None) -> Contest:
        def never(name: str) -> AsyncIterator[Allocation]:
            raise StartFailed(f"{name} is not asked any more.")

        return Contest(session, self.contenders, self._clusters, launch or never, self._log)

    async def give_back(self, session: SessionId) -> None:
        """Give back what a session was asked for on other clusters than its own."""
        await self._contest(session).give_back()

    def resume(self, session: Session) -> bool:
        """Drive on the launch of a gateway that is gone; False when its cluster cannot, or another gateway does already."""
        cluster = self._clusters[session.cluster]
        if not isinstance(cluster, Scheduled):
            return False
        if self._registry.take_over(session.id, self._registry.gateway_of(session.id), self._me):
            self._log.info("The session %s, left by a gateway that is gone, is driven on.", session.id)
            contest = self._contest(session.id)
            launches = contest.resumed(session.allocation)
            if self.contenders.of(session.id):  # also of clusters that cannot go on with it: those have to be given back
                self._drive(session, lambda: contest.at_once(session.cluster, launches))
            else:
                self._drive(session, lambda: cluster.resume(session.allocation))
        return True

    def _drive(self, session: Session, steps: Steps) -> None:
        self._tasks[session.id] = asyncio.create_task(self._launch(session, steps), name=f"launch of {session.id}")

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

    async def leave(self, session: SessionId) -> bool:
        """End the work on a launch, but not what it asked for, if that runs or waits in a queue, where a later gateway finds it; else False."""
        known = self._registry.session(session)
        if known is None:
            return False
        runs = known.state is AllocationState.RUNNING  # and something else is still being given back
        if not runs and (not known.allocation.job_id or not isinstance(self._clusters[known.cluster], Scheduled)):
            return False
        await self.cancel(session)
        return True

    async def _launch(self, session: Session, steps: Steps) -> None:
        """Take the steps of a launch: each allocation is written down before the next step begins."""
        last, clock = session.allocation, asyncio.get_running_loop().time
        granted: float | None = None
        try:
            async with aclosing(steps()) as allocations:  # type: ignore[type-var]
                async for allocation in allocations:
                    last = allocation
                    self._record(allocation)
                    if last.state is not AllocationState.RUNNING:
                        queues = not last.node and isinstance(self._clusters.made(last.cluster), Scheduled)
                        granted = None if queues else clock()
                    else:
                        if granted is not None:
                            self._selecting.started(last.cluster, clock() - granted)
                        self._started(session.id)  # what else it was asked for is given back meanwhile
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

    def _kernel_launch(self, session: Session, wish: Wish) -> KernelLaunch:
        settings = self._settings
        refused = sorted(name for name in wish.env if not is_allowed(name, settings.environment))
        if refused:
            self._log.warning("The session %s starts without %s: not on the allow-list.", session.name, ", ".join(refused))
        return KernelLaunch(
            session=session.id,
            name=session.name,
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
        except RemoteGpuError as second:
            self._log.error("The failed start of %s is not written down: %s", last.session, second)
        await self._cleaned(last.session, self._release(last))
        await self._cleaned(last.session, self.give_back(last.session))
        self._tell(last.session)

    async def _release(self, allocation: Allocation) -> None:
        await self._clusters[allocation.cluster].release(allocation)

    async def _cleaned(self, session: SessionId, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RemoteGpuError as error:
            self._log.error("After the failed start of %s: %s", session, error)

    def _tell(self, identity: SessionId) -> None:
        session = self._registry.session(identity)
        if session is not None:
            self._announce(session)


def _refusal(decided: Decided, wanted: str) -> str:
    """Why nothing can run it, in a sentence: of the one cluster that was wanted, or of all."""
    for candidate in decided.selection.candidates:
        if candidate.cluster == wanted:
            return f"{wanted} cannot run this: {', '.join(candidate.reasons)}."
    return decided.selection.sentence


def random_id(length: int) -> str:
    """A name of `length` letters and digits that nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
