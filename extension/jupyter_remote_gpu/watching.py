"""Looks whether sessions are there: an entry of the registry is a memory, a cluster's word is the truth.

It also takes up what an earlier gateway left half done. A pending session of a gateway that is gone is driven on; what still stands on a cluster although
the registry says that it is over is released. Nobody's jobs but those that this registry knows are touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import FindsSessions, NeedsLogin
from jupyter_remote_gpu.clusters.granted import described
from jupyter_remote_gpu.clusters.login import Login, LoginState
from jupyter_remote_gpu.launches import Launches
from jupyter_remote_gpu.live import Live
from jupyter_remote_gpu.models import GONE, Allocation, AllocationState, LinkState, Session, SessionId
from jupyter_remote_gpu.registry import Registry
from remote_gpu.errors import RemoteGpuError, SessionEnded

__all__ = ["Watch"]

_LOOK = 5.0  # seconds that a cluster has to answer somebody who waits
_SEARCH = 40.0  # seconds that a cluster has to list what runs there
_AGAIN = (0.05, 0.2, 1.0, 3.0)  # seconds between looks at a session whose stream has ended


class Watch:
    """What is known of the sessions in `registry`, checked. `live` has those that this gateway is connected to."""

    def __init__(
        self,
        registry: Registry,
        clusters: Clusters,
        launches: Launches,
        live: dict[SessionId, Live],
        *,
        log: logging.Logger,
        clock: Callable[[], float],
        announce: Callable[[Session], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._registry = registry
        self._clusters = clusters
        self._launches = launches
        self._live = live
        self._log = log
        self._clock = clock
        self._announce = announce
        self._spawn = spawn
        self.stopping: set[SessionId] = set()
        """Sessions that are being stopped: what is seen of them meanwhile does not count."""

    def view(self, session: Session) -> Session:
        """`session` with what this gateway sees of it now."""
        login = self._login_to(session.cluster)
        prompts = tuple(login.json()["prompts"]) if login is not None and not session.state.over else ()
        live = self._live.get(session.id)
        if live is None:
            return replace(session, prompts=prompts) if prompts else session
        return replace(session, link=live.state, kernel=live.kernel, attachments=len(live.attachments), prompts=prompts)

    async def checked(self, session: Session) -> Session:
        """`session` after a look at whether it is still there; the look is left out while its link is connected."""
        live = self._live.get(session.id)
        here = session.state.over or session.id in self._launches or session.id in self.stopping
        if here or (live is not None and await live.looked_at()):
            return self.view(self._known(session.id))
        if session.cluster not in self._clusters:
            return replace(session, allocation=replace(session.allocation, detail=f"The cluster {session.cluster} is not configured."))
        if session.state is AllocationState.PENDING:
            if self._launches.driven_elsewhere(session):
                return session
            if self._launches.resume(session):
                return self.view(self._known(session.id))
        try:
            async with asyncio.timeout(_LOOK):
                found = await self._clusters[session.cluster].poll(session.allocation)
        except (RemoteGpuError, TimeoutError):  # nobody knows, and unknown is alive
            return self.view(session)
        if found != session.allocation and not self._launches.may_still_start(session, found):
            await self._found(session, found)
        return self.view(self._known(session.id))

    async def _found(self, session: Session, found: Allocation) -> None:
        gone = found.state is not AllocationState.RUNNING and session.state is AllocationState.RUNNING
        live = self._live.pop(session.id, None) if gone else self._live.get(session.id)
        if found.state.over and live is not None and found.detail == GONE:
            found = replace(found, detail=live.detail or GONE)
        if self._registry.record(found, now=self._clock()):
            self._announce(self._known(session.id))
        if gone and live is not None:
            await live.end(SessionEnded(found.detail))
        if found.state.over:
            self._spawn(self._released(found))
        elif gone:  # it waits in the queue once more
            self._launches.resume(self._known(session.id))

    async def check_later(self, identity: SessionId) -> None:
        """Look a few times: the stream of a session that ends is often gone a moment before its process."""
        for delay in _AGAIN:
            await asyncio.sleep(delay)
            live = self._live.get(identity)
            if live is None or live.state is LinkState.CONNECTED or (await self.checked(self._known(identity))).state.over:
                return

    def described(self, identity: SessionId, about: Mapping[str, Any]) -> None:
        """A supervisor said where it runs."""
        session = self._known(identity)
        found = described(session.allocation, about)
        if found != session.allocation and session.state is AllocationState.RUNNING and self._registry.record(found, now=self._clock()):
            self._announce(self._known(identity))
        if session.allocation.ends:
            self._spawn(self._tell_end(identity, session.allocation.ends))

    async def _tell_end(self, identity: SessionId, ends: float) -> None:
        """Let a supervisor know when its time is over, so that it can say why it ends: not every Slurm tells a job that."""
        live = self._live.get(identity)
        if live is not None:
            with contextlib.suppress(RemoteGpuError):
                await live.call("ends", {"at": ends})

    # logins

    def entered(self, login: Login) -> None:
        """A login works (again): links that waited for it go on, and the cluster can be put in order."""
        for identity, live in list(self._live.items()):
            session = self._registry.session(identity)
            if session is not None and self._login_to(session.cluster) is login:
                live.retry()
        for name in self._clusters:
            if self._login_to(name) is login:
                self._spawn(self.tidy(name))

    def changed(self, login: Login) -> None:
        """A login asks something, or stands differently: tell whoever waits for a session behind it."""
        for session in self._registry.sessions():
            if self._login_to(session.cluster) is login:
                self._announce(session)

    def _login_to(self, name: str) -> Login | None:
        """The login to the cluster `name`, if it needs one and somebody has used it."""
        cluster = self._clusters.made(name)
        return cluster.login if cluster is not None and isinstance(cluster, NeedsLogin) else None

    # what an earlier gateway left

    async def take_up(self) -> None:
        """Drive on what is pending and nobody's, and put the clusters in order that need no login."""
        for session in self._registry.sessions():
            await self.checked(session)
        for identity in self._launches.contenders.sessions():
            known = self._registry.session(identity)
            if known is None or not (identity in self._launches or self._launches.driven_elsewhere(known)):
                await self._launches.give_back(identity)
        for name in {session.cluster for session in self._registry.sessions(since=0)} & set(self._clusters):
            cluster = self._clusters[name]
            if not isinstance(cluster, NeedsLogin) or cluster.login is None or cluster.login.state is LoginState.IN:
                await self.tidy(name)

    async def tidy(self, name: str) -> None:
        """Release what stands on a cluster although the registry says that it is over: its end was cut short.

        That a session is listed there says nothing of which cluster it is on: two clusters may be one host.
        """
        cluster = self._clusters[name]
        if not isinstance(cluster, FindsSessions):
            return
        try:
            found = await cluster.sessions()
        except RemoteGpuError as error:
            self._log.info("The sessions on %s cannot be listed: %s", name, error)
            return
        for each in found:
            session = self._registry.session(each.allocation.session)
            if session is not None and session.state.over and session.id not in self.stopping:
                self._log.warning("The session %s is over and still stands on %s; it is released.", session.id, name)
                await self._released(each.allocation)

    async def discover(self) -> tuple[str, ...]:
        """Write down what runs on the clusters and this registry does not know: the user started it elsewhere. Returns what went wrong."""
        asked = [name for name in self._clusters if isinstance(self._clusters[name], FindsSessions)]
        problems = await asyncio.gather(*(self._discover(name) for name in asked))
        return tuple(problem for problem in problems if problem)

    async def _discover(self, name: str) -> str:
        cluster = self._clusters[name]
        if not isinstance(cluster, FindsSessions):
            return ""
        try:
            async with asyncio.timeout(_SEARCH):
                found = await cluster.sessions()
        except RemoteGpuError as error:
            return f"{name}: {error}"
        except TimeoutError:
            return f"{name}: it did not answer within {_SEARCH:g} s."
        for each in found:
            if self._registry.session(each.allocation.session) is None:
                self._launches.write_found(each)
                self._announce(self._known(each.allocation.session))
        return ""

    async def _released(self, allocation: Allocation) -> None:
        """Give back what is left of a session that is over; a later look tries again when that fails."""
        try:
            await self._clusters[allocation.cluster].release(allocation)
        except RemoteGpuError as error:
            self._log.info("What is left of the session %s is not released yet: %s", allocation.session, error)

    def _known(self, identity: SessionId) -> Session:
        session = self._registry.session(identity)
        if session is None:
            raise KeyError(identity)
        return session
