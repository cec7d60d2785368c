"""The local ZMQ face of one attachment: to its clients it looks like the kernel.

A front owns a folder of mode 0700 with five ipc sockets, a signing key and a connection file. It checks what its
clients send against its own key, strips the signature and hands the rest to the link; what comes back it signs and sends.
It parses nothing but a header's type where a pace is asked for, and it never waits: everything runs in callbacks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.front_files import ConnectionFile, Cursor, read_cursor, remove_folder
from jupyter_remote_gpu.front_output import Item, Output, Pace
from jupyter_remote_gpu.front_replies import CHANNELS, Replies
from jupyter_remote_gpu.front_sockets import Signer, Sockets
from jupyter_remote_gpu.link import Link, LinkAttachment
from remote_gpu.errors import RemoteGpuError, SessionEnded
from remote_gpu.frames import Lane, Message

__all__ = ["Front", "Pace", "read_cursor"]

_TURN = 100  # client messages taken in before the loop has another turn
_FULL = 256 * 1024 * 1024  # bytes of requests that the node has not taken, above which shell is not read
_RETRY = 0.05  # seconds until a full queue is tried again
_log = logging.getLogger(__name__)


class Front:
    """One attachment's sockets. Open it with `open`; all calls come from the event loop."""

    def __init__(
        self,
        link: Link,
        *,
        id: str,  # noqa: A002  the protocol's word
        folder: Path,
        claims: Sequence[str] = (),
        cursor_file: bool = False,
        on_unused: Callable[[], None] | None = None,
        unused_after: float = 0.0,
        name: str = "",
        kernel_name: str = "remote-gpu",
        coalesce: bool = False,
        pace: Pace | None = None,
        subscribers: int = 1,
    ) -> None:
        self.id = id
        self.name = name
        self.published = 0
        """The last journal number that subscribers took."""
        self.unused_since: float | None = None
        """Since when (the loop's clock) nobody is subscribed; None while somebody is."""
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._folder = folder
        self._file = ConnectionFile.make(folder, kernel_name)
        self._signer = Signer(self._file.info["key"])
        self._attachment: LinkAttachment | None = None
        self._cursor = Cursor(folder) if cursor_file else None
        self._topics: set[bytes] = set()
        self._wanted = subscribers
        self._seen = 0
        self._on_unused = on_unused
        self._unused_after = unused_after
        self._unused_timer: asyncio.TimerHandle | None = None
        self._told = False
        self._closed = False
        self._sockets = Sockets(folder, self._callbacks())
        self._replies = Replies(self._sockets, self._signer, self._on_reply_sent, claimed=bool(claims))
        self._output = Output(self._sockets, self._signer, self._on_taken, coalesce=coalesce, pace=pace)

    def _callbacks(self) -> dict[str, Callable[[], None]]:
        return {
            "shell": lambda: self._on_client(Lane.SHELL),
            "control": lambda: self._on_client(Lane.CONTROL),
            "stdin": lambda: self._on_client(Lane.STDIN),
            "iopub": self._on_iopub,
            "hb": self._on_heartbeat,
        }

    @classmethod
    async def open(
        cls,
        link: Link,
        *,
        id: str,  # noqa: A002  the protocol's word
        folder: Path,
        role: str = "owner",
        after: int | None = None,
        claims: Sequence[str] = (),
        cursor_file: bool = False,
        on_unused: Callable[[], None] | None = None,
        unused_after: float = 0.0,
        name: str = "",
        kernel_name: str = "remote-gpu",
        coalesce: bool = False,
        pace: Pace | None = None,
        subscribers: int = 1,
    ) -> Front:
        """Make the sockets in `folder` and attach.

        `after` is as for `Link.attach`; None continues after the cursor kept in `folder`, if there is one. `on_unused`
        is called when nobody has been subscribed for `unused_after` seconds, each time anew. Nothing is published before
        `subscribers` subscriptions came. `coalesce` and `pace` are for a subscriber behind jupyter_server's limits.
        Raises `NotWritable`, or what attaching raises.
        """
        past = read_cursor(folder)
        front = cls(
            link,
            id=id,
            folder=folder,
            claims=claims,
            cursor_file=cursor_file,
            on_unused=on_unused,
            unused_after=unused_after,
            name=name,
            kernel_name=kernel_name,
            coalesce=coalesce,
            pace=pace,
            subscribers=subscribers,
        )
        if after is None and past:
            after = past[Lane.IOPUB]
        received: dict[Lane, int] = {lane: number for lane, number in past.items() if lane is not Lane.IOPUB}
        try:
            attachment = await link.attach(id=id, role=role, after=after, claims=claims, received=received, deliver=front)
        except BaseException:
            front._close()
            if not past:
                remove_folder(folder)
            raise
        front._start(attachment, attachment.head if after is None else after)
        return front

    @property
    def connection_file(self) -> Path:
        """The file that a Jupyter client connects with."""
        return self._file.path

    @property
    def connection_info(self) -> dict[str, Any]:
        """The same as a dict; `key` is bytes."""
        return dict(self._file.info)

    @property
    def head(self) -> int:
        """The journal's last number when this front attached."""
        return self._attachment.head if self._attachment else 0

    @property
    def waiting(self) -> int:
        """Messages that came and that no subscriber took yet."""
        return self._output.waiting

    def rebind(self) -> None:
        """Serve new clients at the same paths and with the same key, after the files of the sockets were deleted.

        Clients that are connected notice nothing.
        """
        self._file.write()
        self._sockets.link()

    async def aclose(self, *, keep: bool = False) -> None:
        """Close the sockets, detach, and remove the folder; idempotent.

        With `keep` the node is not told and the folder stays: another gateway will open this front again.
        """
        if self._closed:
            return
        attachment = self._attachment
        if attachment is not None and not keep:
            for lane in CHANNELS:
                self._on_client(lane)  # what clients sent before the end still counts
        self._close()
        if attachment is not None:
            if keep:
                self._link.forget(attachment)
            else:
                await self._link.detach(attachment)
        if not keep:
            remove_folder(self._folder)

    # What the link delivers (`Deliver`)

    def message(self, lane: Lane, number: int, message: Message) -> None:
        """A message of the kernel."""
        if lane is Lane.IOPUB:
            size = sum(len(part) for part in message.parts)
            self._output.add(Item(number, message.parts, size))
            return
        self._replies.add(lane, number, message)

    def gap(self, first: int, last: int) -> None:
        """Say in the clients' own terms that output is gone."""
        count = last - first + 1
        text = f"\n[remote_gpu] {count} messages of output (numbers {first} to {last}) were lost: the session's journal was full.\n"
        parts = _message("stream", {"name": "stderr", "text": text}, {"remote_gpu": {"gap": {"first": first, "last": last}}})
        self._output.add(Item(last, parts, len(text)))

    def bye(self, problem: RemoteGpuError) -> None:
        """Say in the clients' own terms that nothing more will come: `dead` when the session is over, else `unknown`."""
        if self._closed:
            return
        state = "dead" if isinstance(problem, SessionEnded) else "unknown"
        content = {"execution_state": state, "remote_gpu": {"reason": problem.reason, "text": str(problem)}}
        self._output.add(Item(self.published, _message("status", content), 0))

    # Clients

    def _start(self, attachment: LinkAttachment, after: int) -> None:
        self._attachment = attachment
        self.published = max(self.published, after)
        self._set_unused()
        self._sockets.watch()
        self._replies.start()

    def _on_client(self, lane: Lane) -> None:
        attachment, channel = self._attachment, CHANNELS[lane]
        if attachment is None or self._closed:
            return
        for _ in range(_TURN):
            if lane is Lane.SHELL and attachment.held > _FULL:
                self._sockets.waits(channel)
                self._loop.call_later(_RETRY, self._on_client, lane)
                return
            frames = self._sockets.receive(channel)
            if frames is None:
                return
            message = self._signer.split(frames)
            if message is None:
                self._warn(channel)
                continue
            if lane is Lane.SHELL and message[0]:
                self._replies.meet(message[0][-1])
            attachment.send(lane, Message(*message))
        self._loop.call_soon(self._on_client, lane)

    def _warn(self, channel: str) -> None:
        if not self._told:
            self._told = True
            _log.warning(
                "A message with a wrong signature came on the %s channel of attachment %s; such messages are dropped.", channel, self.id
            )

    def _on_reply_sent(self, lane: Lane, number: int) -> None:
        if self._attachment is not None:
            self._attachment.ack(lane, number)
        if self._cursor is not None and lane is not Lane.STDIN:
            self._cursor.put(lane, number)

    def _on_heartbeat(self) -> None:
        while not self._closed and (frames := self._sockets.receive("hb")) is not None:
            self._sockets.send("hb", frames)

    # Subscribers

    def _on_iopub(self) -> None:
        if self._closed:
            return
        while (frames := self._sockets.receive("iopub")) is not None:
            event, topic = frames[0][:1], frames[0][1:]
            if event == b"\x01":
                self._seen += 1
                self._topics.add(topic)
                self._welcome(topic)
            elif event == b"\x00":  # the last subscription to this topic is gone
                self._topics.discard(topic)
        self._look_at_subscribers()

    def _welcome(self, topic: bytes) -> None:
        """Say that a subscription works, as ipykernel does (JEP 65)."""
        parts = _message("iopub_welcome", {"subscription": topic.decode(errors="replace")})
        self._output.add_first(Item(self.published, parts, 0))

    def _look_at_subscribers(self) -> None:
        if self._topics and self.unused_since is not None:
            self.unused_since = None
            if self._unused_timer is not None:
                self._unused_timer.cancel()
        elif not self._topics and self.unused_since is None:
            self._set_unused()
        self._output.hold(not self._topics or self._seen < self._wanted or self._attachment is None)

    def _set_unused(self) -> None:
        self.unused_since = self._loop.time()
        if self._on_unused is not None:
            self._unused_timer = self._loop.call_later(self._unused_after, self._on_unused)

    def _on_taken(self, number: int) -> None:
        self.published = number
        if self._cursor is not None:
            self._cursor.put(Lane.IOPUB, number)
        if self._attachment is not None:
            self._attachment.ack(Lane.IOPUB, number)

    def _close(self) -> None:
        self._closed = True
        if self._unused_timer is not None:
            self._unused_timer.cancel()
        self._replies.close()
        self._output.close()
        self._sockets.close()
        if self._cursor is not None:
            self._cursor.close()


def _message(kind: str, content: dict[str, Any], metadata: dict[str, Any] | None = None) -> list[bytes | memoryview]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "remote_gpu",
        "session": "remote_gpu",
        "date": datetime.now(UTC).isoformat(),
        "version": "5.4",
    }
    return [json.dumps(part).encode() for part in (header, {}, metadata or {}, content)]
