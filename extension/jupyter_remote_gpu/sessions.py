"""The one orchestrator: finds or starts remote sessions, attaches clients to them, and knows when they are over.

What is true lies in the registry and on the nodes; this object adds what only a running gateway has: launches under way,
links and fronts. Several gateways of one user share the registry, so a session of another one can be listed, attached to and
stopped here; only its launch belongs to the gateway that began it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from jupyter_remote_gpu.choices import AUTO, Choices
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Scheduled
from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.launches import Launches, random_id
from jupyter_remote_gpu.live import Attachment, Live, Terms
from jupyter_remote_gpu.models import AllocationState, LinkState, Session, SessionId
from jupyter_remote_gpu.naming import check_name, default_name
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.selecting import Selecting
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.watching import Watch
from jupyter_remote_gpu.wishes import Wish, check_reuse, raise_if_over
from remote_gpu.errors import LinkProblem, NameTaken, RemoteGpuError, StartTimedOut, UnknownSession, UsageProblem

__all__ = ["Sessions"]

_LOOK_AGAIN = 0.25  # seconds between looks at a session that another gateway drives
_SWEEP = 2.0  # seconds between looks for clients that have vanished
_SHOW_ENDED = 600.0  # seconds that an ended session is still listed, so that its reason is seen


class Sessions:
    """Sessions of one user, from one gateway. All calls come from its event loop."""

    def __init__(
        self,
        registry: Registry,
        clusters: Clusters,
        selecting: Selecting,
        choices: Choices,
        settings: Settings,
        *,
        logins: Logins,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
        me: tuple[int, int],
    ) -> None:
        self._registry = registry
        self._clusters = clusters
        self._choices = choices
        self._settings = settings
        self._log = log
        self._clock = clock
        self._live: dict[SessionId, Live] = {}
        self._launches = Launches(
            registry, clusters, selecting, choices, settings, log=log, clock=clock, me=me, announce=self._announce, started=self._on_started
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = Watch(registry, clusters, self._launches, self._live, log=log, clock=clock, announce=self._announce, spawn=self.spawn)
        logins.subscribe(self._watch.changed, self._watch.entered)
        self._listeners: list[Callable[[Session], None]] = []
        self._changed = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None

    # looking

    def subscribe(self, listener: Callable[[Session], None]) -> Callable[[], None]:
        """Call `listener` with each session that changed, from now on; returns what takes it back."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def list(self) -> list[Session]:
        """The live sessions and those that ended a short while ago, checked: an entry whose supervisor is gone has ended."""
        found = self._registry.sessions(since=self._clock() - _SHOW_ENDED)
        return list(await asyncio.gather(*(self._watch.checked(session) for session in found)))

    async def discover(self) -> tuple[str, ...]:
        """Take in what runs on the clusters and was started elsewhere; returns, in words, what could not be asked."""
        return await self._watch.discover()

    async def get(self, key: str) -> Session:
        """The session with that id, kernel id or name, checked; raises `UnknownSession`."""
        return await self._watch.checked(self._known(key))

    def peek(self, key: str) -> Session:
        """As `get`, from what is known without asking anybody; for callers that cannot wait."""
        return self._watch.view(self._known(key))

    async def wait(self, key: str, seen: str, limit: float, *, asks: bool = False) -> Session:
        """The session as soon as neither its state nor its stamp is `seen`, or after `limit` seconds; with `asks`, also when its login asks."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        while True:
            changed = self._changed
            session = await self.get(key)
            left = deadline - loop.time()
            if seen not in (session.state, session.stamp) or left <= 0 or (asks and session.prompts):
                return session
            key = session.id
            waiting = asyncio.create_task(changed.wait())
            await asyncio.wait([waiting], timeout=min(left, _LOOK_AGAIN))
            waiting.cancel()

    async def start(self, wish: Wish) -> tuple[Session, bool]:
        """(session, whether it is new) for a wish; however many ask at once for one name, one session starts.

        Returns as soon as the session is written down; its launch goes on in the background (see `wait`). Raises
        `UnknownCluster`, `UsageProblem` (nothing can run it, a bad name), `NameTaken`, `NotWritable`.
        """
        if wish.name is not None:
            check_name(wish.name)
        if found := await self._find(wish):
            return await self._revived(found), False
        chosen = await self._launches.choose(wish)
        if found := await self._find(wish):  # while this one chose, another may have started
            return await self._revived(found), False
        session = self._launches.write_down(wish, chosen)
        if session is None:  # another gateway was quicker
            again = await self._find(wish)
            if again is None:
                raise NameTaken(f"There is a remote session {wish.name or default_name(wish.notebook)!r} already.")
            return again, False
        self._launches.begin(session, wish, chosen)
        self._announce(session)
        return session, True

    async def _find(self, wish: Wish) -> Session | None:
        if wish.own_kernel_id:
            found = self._registry.session(wish.own_kernel_id)
        elif wish.name is not None:
            found = self._registry.session(wish.name)
        else:
            chosen = wish.cluster if wish.cluster != AUTO else self._choices.get(wish.notebook, self._clusters)
            found = self._registry.default_session(wish.notebook, None if chosen == AUTO else chosen) if wish.reuse else None
        if found is None or (found := await self._watch.checked(found)).state.over:
            return None
        if wish.own_kernel_id != found.kernel_id:
            check_reuse(found, wish, self._clusters)
        return found

    async def connect(self, identity: SessionId) -> None:
        """Open the link behind a running session; says in the log when it cannot."""
        try:
            await self._live_of(identity).link()
        except RemoteGpuError as error:
            self._log.warning("The session %s is not reached: %s", identity, error)

    async def _revived(self, session: Session) -> Session:
        """`session`, with its kernel started again if it had ended: somebody wants to use it."""
        kernel = session.kernel or {}
        if session.state is not AllocationState.RUNNING or kernel.get("state") != "ended":
            return session
        why = f"{session.cluster}: its kernel had ended ({kernel.get('text') or kernel.get('reason')}) and starts again, with empty memory."
        await self.restart(session.id)
        self._registry.explain(session.id, why)
        return self.peek(session.id)

    async def attach(self, key: str, terms: Terms) -> tuple[Attachment, Session]:
        """Open a front of the session for one client; a session that is still starting is waited for.

        Raises `StartTimedOut` when it does not start in time, `StartFailed` or `SessionEnded` when it is over, `LinkProblem`.
        """
        session = await self._running(key)
        identity = terms.identity or random_id(8)
        try:
            attachment = await self._live_of(session.id).attach(identity, terms)
        except LinkProblem:
            raise_if_over(await self.get(session.id))
            raise
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = self.spawn(self._sweep())
        return attachment, self.peek(session.id)

    def attachment(self, session: SessionId, identity: str) -> Attachment | None:
        """The attachment `identity` of a session in this gateway, if there is one."""
        live = self._live.get(session)
        return live.attachments.get(identity) if live is not None else None

    async def detach(self, key: str, attachment: str) -> None:
        """Close a client's front; harmless when it is gone."""
        live = self._live.get(self._known(key).id)
        if live is not None:
            await live.detach(attachment)

    def rebind(self, key: str, attachment: str) -> None:
        """Bind a front's sockets again, after a kernel manager deleted them; raises `UnknownAttachment`."""
        self._live_of(self._known(key).id).attachment(attachment).front.rebind()

    async def interrupt(self, key: str) -> Session:
        """Interrupt what the kernel runs; its state survives."""
        await self.call(key, "interrupt")
        return self.peek(key)

    async def restart(self, key: str) -> Session:
        """A new kernel in the same allocation; returns once it is ready."""
        await self.call(key, "restart", limit=120)
        return self.peek(key)

    async def call(self, key: str, method: str, params: dict[str, Any] | None = None, *, limit: float = 30) -> dict[str, Any]:
        """Ask the supervisor of a running session."""
        session = await self._running(key)
        return await self._live_of(session.id).call(method, params, limit)

    async def logs(self, key: str, lines: int) -> str:
        """The last lines of what supervisor and kernel wrote beside the protocol; why it failed, if it never ran."""
        session = await self.get(key)
        if session.state is AllocationState.RUNNING:
            return str((await self.call(session.id, "log", {"lines": lines})).get("text", ""))
        if session.cluster in self._clusters and isinstance(cluster := self._clusters[session.cluster], Scheduled):
            written = await cluster.log(session.allocation, lines)
            return f"{written.rstrip()}\n{session.detail}" if written else session.detail
        return session.detail

    async def extend(self, key: str, seconds: int) -> Session:
        """Move the end of a session; raises `UsageProblem` where sessions have no end, `NotAllowed` in the scheduler's words."""
        session = await self.get(key)
        raise_if_over(session)
        cluster = self._clusters[session.cluster]
        if not isinstance(cluster, Scheduled):
            raise UsageProblem(f"Sessions on {session.cluster} have no end to be moved.")
        granted = await cluster.extend(session.allocation, seconds)
        self._registry.record(granted, now=self._clock())
        if granted.ends and granted.state is AllocationState.RUNNING:
            await self.call(session.id, "ends", {"at": granted.ends})
        self._announce(self._known(session.id))
        return self.peek(session.id)

    async def stop(self, key: str, detail: str = "Stopped by you.") -> None:
        """End the session and give everything back; a session that is over already is not an error."""
        session = self._known(key)
        if session.id in self._launches:
            await self._launches.cancel(session.id)
            session = self._known(session.id)
        if session.state.over:
            return
        self._watch.stopping.add(session.id)
        try:
            live = self._live.pop(session.id, None)
            if live is not None and (said := await live.stop()):
                self._log.info("The supervisor of %s did not answer to stop: %s", session.id, said)
            await self._clusters[session.cluster].release(session.allocation)
            await self._launches.give_back(session.id)
            self._registry.record(replace(session.allocation, state=AllocationState.ENDED, detail=detail), now=self._clock())
        finally:
            self._watch.stopping.discard(session.id)
        self._announce(self._known(session.id))

    async def take_up(self) -> None:
        """Go on with what an earlier gateway left half done; called when the event loop runs."""
        await self._watch.take_up()

    async def aclose(self) -> None:
        """Detach from everything; no session ends. A request that waits in a queue is left there; another launch is ended with what it took."""
        for identity in self._launches.pending():
            if not await self._launches.leave(identity):
                await self.stop(identity, "The gateway stopped while it started.")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        live = list(self._live.values())
        self._live.clear()
        await asyncio.gather(*(each.aclose(keep=True) for each in live))

    def _known(self, key: str) -> Session:
        session = self._registry.session(key)
        if session is None:
            names = ", ".join(each.name for each in self._registry.sessions()) or "none"
            raise UnknownSession(f"There is no remote session {key!r}.", hint=f"Running: {names}.")
        return session

    async def _running(self, key: str) -> Session:
        session = await self.wait(key, AllocationState.PENDING, self._settings.start_timeout + 10)
        if session.state is AllocationState.PENDING:
            raise StartTimedOut(f"The session {session.name} is still starting: {session.detail}", hint="Try again later.")
        raise_if_over(session)
        return session

    def _live_of(self, identity: SessionId) -> Live:
        if identity not in self._live:
            self._live[identity] = Live(
                identity,
                open_stream=lambda: self._stream(identity),
                changed=lambda: self._on_live(identity),
                described=lambda about: self._watch.described(identity, about),
                unused=lambda attachment: self._on_unused(identity, attachment),
                grace=self._settings.attach_grace,
            )
        return self._live[identity]

    def _stream(self, identity: SessionId) -> Awaitable[Any]:
        session = self._known(identity)
        return self._clusters[session.cluster].open_stream(session.allocation, identity)

    def _on_live(self, identity: SessionId) -> None:
        """A link or kernel changed: tell whoever listens; a link that is down may mean that the session is over."""
        session = self._known(identity)
        self._announce(session)
        live = self._live.get(identity)
        if live is not None and live.state is not LinkState.CONNECTED and not session.state.over:
            self.spawn(self._watch.check_later(identity))

    def _on_started(self, identity: SessionId) -> None:
        self.spawn(self.connect(identity))

    def _on_unused(self, identity: SessionId, attachment: str) -> None:
        live = self._live.get(identity)
        if live is not None:
            self._log.info("Nobody was behind attachment %s for %s s; its front is closed.", attachment, self._settings.attach_grace)
            self.spawn(live.detach(attachment))

    async def _sweep(self) -> None:
        while any(live.attachments for live in self._live.values()):
            await asyncio.sleep(_SWEEP)
            for live in list(self._live.values()):
                for identity in live.vanished():
                    self._log.info("The client of attachment %s is gone; its front is closed.", identity)
                    await live.detach(identity)

    def _announce(self, session: Session) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in list(self._listeners):
            listener(self._watch.view(session))

    def attached(self) -> int:
        """How many clients are attached through this gateway."""
        return sum(len(live.attachments) for live in self._live.values())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background; it is cancelled when the gateway stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
