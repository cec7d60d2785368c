"""One attachment's half of the link: numbers, what is kept until it was taken, what came already. No I/O."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from remote_gpu.errors import RemoteGpuError
from remote_gpu.frames import Frame, Kind, Lane, Message, data_frames, encode_json, pack_message

__all__ = ["UP", "Deliver", "LinkAttachment", "Outgoing", "Table"]

UP = (Lane.CONTROL, Lane.SHELL, Lane.STDIN)
"""The lanes from the gateway to the node, most urgent first."""


class Deliver(Protocol):
    """What takes an attachment's messages. All calls come from the event loop and must not block or raise."""

    def message(self, lane: Lane, number: int, message: Message) -> None:
        """A message of the kernel, each once and in order; `number` is its journal number (a counter on stdin)."""

    def gap(self, first: int, last: int) -> None:
        """The journal no longer holds the iopub messages `first` to `last`."""

    def bye(self, problem: RemoteGpuError) -> None:
        """The attachment is over, or its link is lost; nothing more will come unless the link is told to try again."""


class Outgoing:
    """One lane towards the node: numbered from 1, kept until it was taken, cut into frames when its turn comes."""

    __slots__ = ("_lane", "_last", "_pieces", "_waiting", "_written", "held")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._last = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._written: deque[tuple[int, bytes]] = deque()
        self._pieces: Iterator[Frame] | None = None
        self.held = 0
        """Bytes kept."""

    @property
    def waits(self) -> bool:
        """Whether something was not written to the present stream yet."""
        return bool(self._waiting)

    def add(self, body: bytes) -> None:
        """Queue a packed message under the next number."""
        self._last += 1
        self.held += len(body)
        self._waiting.append((self._last, body))

    def next_frame(self, attachment: int) -> Frame | None:
        """The next piece to write, or None."""
        if self._pieces is None:
            if not self._waiting:
                return None
            number, body = self._waiting[0]
            self._pieces = data_frames(self._lane, attachment, number, body)
        frame = next(self._pieces)
        if not frame.more:
            self._pieces = None
            self._written.append(self._waiting.popleft())
        return frame

    def taken(self, number: int) -> None:
        """The node took everything up to `number`."""
        for queue in (self._written, self._waiting):
            while queue and queue[0][0] <= number:
                self.held -= len(queue.popleft()[1])

    def rewind(self) -> None:
        """A new stream: everything that is kept is to be written again."""
        self._pieces = None
        self._waiting.extendleft(reversed(self._written))
        self._written.clear()


class LinkAttachment:
    """One client of the session, as the link sees it. Made by `Link.attach`; survives any number of streams."""

    def __init__(
        self,
        index: int,
        *,
        id: str,  # noqa: A002  the protocol's word
        role: str,
        after: int | None,
        claims: Sequence[str],
        received: dict[Lane, int],
        deliver: Deliver,
        poke: Callable[[], None],
    ) -> None:
        self.index = index
        self.id = id
        self.deliver = deliver
        self.head = 0
        """The journal's last number when this attachment was first made."""
        self.attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done at the first ATTACHED, or with the problem that prevents it."""
        self.live = False
        """Whether the present stream has answered ATTACH, so that DATA may be written to it."""
        self._role = role
        self._claims = list(claims)
        self._epoch = secrets.randbits(48) + 1
        self._after = after
        self._had: dict[Lane, int] = {Lane.IOPUB: after or 0, Lane.STDIN: 0, Lane.SHELL: 0, Lane.CONTROL: 0} | received
        self._out = {lane: Outgoing(lane) for lane in UP}
        self._acks: dict[Lane, int] = {}
        self._poke = poke

    @property
    def held(self) -> int:
        """Bytes of client messages that the node has not taken yet."""
        return sum(out.held for out in self._out.values())

    @property
    def waits(self) -> bool:
        """Whether messages were not written to the present stream yet."""
        return any(out.waits for out in self._out.values())

    def send(self, lane: Lane, message: Message) -> None:
        """Queue a client's message; it reaches the kernel once, whatever happens to the stream."""
        self._out[lane].add(pack_message(message))
        self._poke()

    def ack(self, lane: Lane, number: int) -> None:
        """Everything up to `number` on `lane` was delivered."""
        self._acks[lane] = number
        if lane is Lane.IOPUB:
            self._after = number
        self._poke()

    # What follows is for the link.

    def hello(self) -> Frame:
        """The ATTACH for a new stream; what was kept will be written again once it is answered."""
        self.live = False
        self._acks.clear()
        for out in self._out.values():
            out.rewind()
        value: dict[str, Any] = {
            "id": self.id,
            "epoch": self._epoch,
            "role": self._role,
            "after": self._after,
            "claims": self._claims,
            "received": {lane.name.lower(): self._had[lane] for lane in (Lane.SHELL, Lane.CONTROL)},
        }
        return encode_json(Kind.ATTACH, value, self.index)

    def on_attached(self, answer: dict[str, Any]) -> None:
        """The node knows us: forget what it took, go on with the rest."""
        taken = answer.get("taken") or {}
        for lane, out in self._out.items():
            out.taken(int(taken.get(lane.name.lower(), 0)))
        if self._after is None:
            self._after = int(answer.get("head") or 0)
            self._had[Lane.IOPUB] = max(self._had[Lane.IOPUB], self._after)
        self.live = True
        if not self.attached.done():
            self.head = int(answer.get("head") or 0)
            self.attached.set_result(None)

    def on_taken(self, lane: Lane, number: int) -> None:
        """The node acknowledged."""
        out = self._out.get(lane)
        if out is not None:
            out.taken(number)

    def is_new(self, lane: Lane, number: int) -> bool:
        """Whether a message that came is not one that came before; from now on it is."""
        if number <= self._had[lane]:
            return False
        self._had[lane] = number
        return True

    def on_gap(self, first: int, last: int) -> None:
        """Output is gone for good."""
        if last > self._had[Lane.IOPUB]:
            first = max(first, self._had[Lane.IOPUB] + 1)
            self._had[Lane.IOPUB] = last
            self.deliver.gap(first, last)

    def next_frame(self, lane: Lane) -> Frame | None:
        """The next piece of `lane` to write, or None."""
        return self._out[lane].next_frame(self.index) if self.live else None

    def take_acks(self) -> list[Frame]:
        """The acknowledgements that are due."""
        if not self._acks or not self.live:
            return []
        frames = [Frame(Kind.ACK, lane, self.index, number) for lane, number in self._acks.items()]
        self._acks.clear()
        return frames

    def end(self, problem: RemoteGpuError) -> None:
        """Tell whoever waits, or the front, that it is over."""
        self.live = False
        if self.attached.done():
            self.deliver.bye(problem)
        else:
            self.attached.set_exception(problem)


class Table:
    """The attachments of a link by their index, and whose turn it is."""

    def __init__(self) -> None:
        self._all: dict[int, LinkAttachment] = {}
        self._next_index = 1

    def free_index(self) -> int:
        """An index that no attachment has and that none had lately."""
        while self._next_index in self._all:
            self._next_index = self._next_index % 0xFFFF + 1
        index, self._next_index = self._next_index, self._next_index % 0xFFFF + 1
        return index

    def add(self, attachment: LinkAttachment) -> None:
        """Take it in."""
        self._all[attachment.index] = attachment

    def get(self, index: int) -> LinkAttachment | None:
        """The attachment with that index."""
        return self._all.get(index)

    def forget(self, attachment: LinkAttachment) -> bool:
        """Drop it; False when it was not there."""
        if self._all.get(attachment.index) is not attachment:
            return False
        del self._all[attachment.index]
        return True

    def hello(self) -> list[Frame]:
        """The ATTACH frames for a new stream."""
        return [attachment.hello() for attachment in self._all.values()]

    def acks(self) -> list[Frame]:
        """The acknowledgements that are due."""
        return [frame for attachment in self._all.values() for frame in attachment.take_acks()]

    @property
    def waiting(self) -> bool:
        """Whether the node is to say that it has one of them, or a message of theirs."""
        return any(not attachment.live or attachment.held for attachment in self._all.values())

    def next_data(self) -> Frame | None:
        """The most urgent piece that waits; within a lane the attachments take turns."""
        for lane in UP:
            for index, attachment in self._all.items():
                frame = attachment.next_frame(lane)
                if frame is not None:
                    self._all[index] = self._all.pop(index)
                    return frame
        return None

    def end(self, problem: RemoteGpuError) -> None:
        """Tell all of them that it is over."""
        for attachment in list(self._all.values()):
            attachment.end(problem)
