"""What this gateway holds of one running session: its link, opened when somebody needs it, and its fronts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_remote_gpu.front import Front, Pace
from jupyter_remote_gpu.link import Link
from jupyter_remote_gpu.models import LinkState, Role, SessionId
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import RemoteGpuError, UnknownAttachment
from remote_gpu.folders import node_folder
from remote_gpu.streams import FrameStream

__all__ = ["Attachment", "Client", "Live", "Terms"]

_LOOK = 0.5  # seconds that a supervisor has to say how its kernel is; after that, what it last said counts


@dataclass(frozen=True, slots=True)
class Client:
    """The process that asked for an attachment; `start_time` tells it from a later one with its number."""

    pid: int
    start_time: int | None

    @classmethod
    def of(cls, pid: int) -> Client | None:
        """The process `pid`, or None when there is no such process of ours."""
        try:
            return cls(pid, process_start_time(pid))
        except (ProcessLookupError, PermissionError):
            return None

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        return Client.of(self.pid) == self


@dataclass(frozen=True, slots=True)
class Terms:
    """How a client wants to attach. `after`: the last journal number that it has (None: from now on)."""

    role: Role = Role.OWNER
    after: int | None = None
    claims: tuple[str, ...] = ()
    name: str = ""
    client: Client | None = None
    """The client's process, when it is known: its end closes the front. Otherwise the front's silence does."""
    identity: str = ""
    """The attachment's id; empty: a new one."""
    cursor_file: bool = False
    """Whether the front keeps its place in its folder, for the gateway that comes after this one."""
    paced: bool = False
    """Whether its client is this server, which drops what comes faster than its limits (see `Pace`)."""


@dataclass(slots=True)
class Attachment:
    """One attachment of a session: its front, and on which terms."""

    id: str
    front: Front
    terms: Terms


@dataclass(slots=True)
class Live:
    """The link and the fronts of one session. All calls come from the gateway's event loop."""

    session: SessionId
    open_stream: Callable[[], Awaitable[FrameStream]]
    changed: Callable[[], None]
    """Called after each change of `state` or `kernel`."""
    described: Callable[[Mapping[str, Any]], None]
    """Called with what the supervisor says of where it runs, at each connection."""
    unused: Callable[[str], None]
    """Called with an attachment that nobody was behind for `grace` seconds."""
    grace: float = 60.0
    state: LinkState = LinkState.LOST
    detail: str = ""
    kernel: Mapping[str, Any] | None = None
    attachments: dict[str, Attachment] = field(default_factory=dict)
    _connecting: asyncio.Task[Link] | None = None

    async def link(self) -> Link:
        """The link, connected; opened by the first who asks, shared by all. Raises what its first attempt raises.

        A link that gave up is opened anew, or taken up where a login was refused: its fronts then go on where they were.
        """
        task = self._connecting
        lost = task.result() if task is not None and task.done() and not _has_failed(task) else None
        if lost is not None and lost.waits_for_login:
            await lost.take_up()
            return lost
        if task is None or _has_failed(task) or (lost is not None and lost.state is LinkState.LOST):
            task = self._connecting = asyncio.create_task(self._connect(lost), name=f"link of {self.session}")
        return await asyncio.shield(task)

    def retry(self) -> None:
        """Connect again now, if there is a link that waits: a login works again, say."""
        if self._connecting is not None and self._connecting.done() and not _has_failed(self._connecting):
            self._connecting.result().reconnect()

    async def attach(self, identity: str, terms: Terms) -> Attachment:
        """Open a front for one client; one that this gateway has under that id is closed first."""
        await self.detach(identity)
        link = await self.link()
        front = await Front.open(
            link,
            id=identity,
            folder=node_folder("f") / identity,
            role=terms.role,
            after=terms.after,
            claims=terms.claims,
            cursor_file=terms.cursor_file,
            on_unused=lambda: self._unused(identity),
            unused_after=self.grace,
            name=terms.name,
            coalesce=terms.paced,
            pace=Pace() if terms.paced else None,
        )
        attachment = Attachment(identity, front, terms)
        self.attachments[identity] = attachment
        self.changed()
        return attachment

    def attachment(self, identity: str) -> Attachment:
        """The attachment `identity`; raises `UnknownAttachment`."""
        if identity not in self.attachments:
            raise UnknownAttachment(f"The session has no attachment {identity!r} in this gateway.", hint="Attach again.")
        return self.attachments[identity]

    async def detach(self, identity: str) -> None:
        """Close a front; harmless when it is gone."""
        attachment = self.attachments.pop(identity, None)
        if attachment is not None:
            await attachment.front.aclose()
            self.changed()

    def vanished(self) -> list[str]:
        """The attachments whose client's process is gone."""
        return [each.id for each in self.attachments.values() if each.terms.client is not None and not each.terms.client.lives]

    async def call(self, method: str, params: Mapping[str, Any] | None = None, limit: float = 30) -> dict[str, Any]:
        """Ask the supervisor."""
        link = await self.link()
        return await link.call(method, dict(params or {}), timeout=limit)

    async def looked_at(self) -> bool:
        """Whether the link is connected; then `kernel` is what the supervisor says now, for its events come in their own time."""
        if self.state is not LinkState.CONNECTED:
            return False
        try:
            kernel = (await self.call("status", limit=_LOOK)).get("kernel")
        except RemoteGpuError:
            return self.state is LinkState.CONNECTED
        if isinstance(kernel, dict) and kernel != self.kernel:
            self.kernel = kernel
            self.changed()
        return self.state is LinkState.CONNECTED

    async def stop(self) -> str:
        """Ask the supervisor to end the session, and close; returns why it did not answer, if it did not."""
        said = ""
        try:
            if self.state is LinkState.CONNECTED:
                await self.call("stop", limit=10)
        except RemoteGpuError as error:
            said = str(error)
        await self.aclose()
        return said

    async def end(self, problem: RemoteGpuError) -> None:
        """The session is over: tell the clients why, and close."""
        for attachment in self.attachments.values():
            attachment.front.bye(problem)
        await self.aclose()

    async def aclose(self, *, keep: bool = False) -> None:
        """Detach every front and close the link; the session goes on. With `keep`, the next gateway finds the fronts of kernels."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        attachments = list(self.attachments.values())
        self.attachments.clear()
        await asyncio.gather(*(attachment.front.aclose(keep=keep and attachment.terms.cursor_file) for attachment in attachments))
        if self._connecting is not None and not _has_failed(self._connecting):
            await self._connecting.result().aclose()
        self._connecting = None
        self.state = LinkState.LOST

    async def _connect(self, lost: Link | None = None) -> Link:
        if lost is not None:
            for identity in list(self.attachments):  # the lost link has told them that it is over
                await self.detach(identity)
            await lost.aclose()
        link = Link(self.open_stream, on_event=self._on_event, on_state=self._on_state)
        try:
            await link.start()
        except BaseException:
            await link.aclose()
            raise
        self.state = link.state
        if link.kernel is not None:
            self.kernel = link.kernel
        self.changed()
        return link

    def _on_event(self, event: Mapping[str, Any]) -> None:
        about = {name: value for name, value in event.items() if name != "event"}
        if event.get("event", "kernel") == "kernel":
            self.kernel = about
            self.changed()
        elif event["event"] == "session":
            self.described(about)

    def _on_state(self, state: LinkState, detail: str) -> None:
        self.state, self.detail = state, detail
        self.changed()

    def _unused(self, identity: str) -> None:
        attachment = self.attachments.get(identity)
        if attachment is not None and attachment.terms.client is None:  # of a process that is known, its end counts
            self.unused(identity)


def _has_failed(task: asyncio.Task[Link]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
