"""The clients of a session: what each has had, may do, and is to get next."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any

from remote_gpu.errors import JournalGap
from remote_gpu.frames import Frame, Kind, Lane, Message, data_frames, encode, encode_json, pack_message
from remote_gpu.node.connection import Connection
from remote_gpu.node.journal import Journal, Record

__all__ = ["WINDOW", "Attachment", "Attachments"]

WINDOW = 8 * 1024**2
"""The most iopub bytes that an attachment has not yet acknowledged."""

_PORTION = 64 * 1024
_FETCH = 256 * 1024
_FORGOTTEN_AFTER = 256
_REPLIES_KEPT = 20_000
_INCOMING = (Lane.CONTROL, Lane.SHELL, Lane.STDIN)
_REPLY_LANES = {"control": Lane.CONTROL, "shell": Lane.SHELL}


class Attachment:
    """One client of the session. It outlives its stream: a cut and an ATTACH with the same id and epoch go on."""

    def __init__(self, name: str, journal: Journal) -> None:
        self.id = name
        self.role = "viewer"
        self.epoch: Any = None
        self.claims: frozenset[str] = frozenset()
        self.connection: Connection | None = None
        self.index = 0
        self.taken = dict.fromkeys(_INCOMING, 0)
        """The last number of each lane that was handed to the kernel."""
        self._journal = journal
        self._cursor = 0
        self._fetched: deque[Record] = deque()
        self._unacked: deque[tuple[int, int]] = deque()
        self._unacked_bytes = 0
        self._replies: dict[Lane, deque[int]] = {lane: deque() for lane in _REPLY_LANES.values()}
        self._inputs: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._inputs_made = 0
        self._inputs_sent = 0
        self._pieces: dict[Lane, Iterator[Frame]] = {}
        self._to_ack: set[Lane] = set()

    def open(self, connection: Connection, index: int, wish: dict[str, Any]) -> None:
        """Go on (or begin) on `connection` as its attachment `index`; `wish` is the ATTACH frame's content."""
        if wish.get("epoch") != self.epoch:
            self.epoch = wish.get("epoch")
            self.taken = dict.fromkeys(_INCOMING, 0)
        self.role = str(wish.get("role", "viewer"))
        self.claims = frozenset(str(claim) for claim in wish.get("claims") or ())
        self.connection, self.index = connection, index
        after = wish.get("after")
        self._cursor = self._journal.head if after is None else min(int(after), self._journal.head)
        self._fetched.clear()
        self._unacked.clear()
        self._unacked_bytes = 0
        self._pieces.clear()
        self._to_ack.clear()
        self._inputs_sent = 0
        connection.attachments[index] = self

    def close(self) -> None:
        """The stream is gone; what is not acknowledged will be sent again."""
        if self.connection is not None and self.connection.attachments.get(self.index) is self:
            del self.connection.attachments[self.index]
            self.connection.assembler.clear(self.index)
        self.connection = None

    def owe(self, numbers: Iterable[tuple[Lane, int]]) -> None:
        """The replies that are to be sent from now on, instead of any earlier ones."""
        for queue in self._replies.values():
            queue.clear()
        for lane, number in numbers:
            self._replies[lane].append(number)

    def reply(self, lane: Lane, number: int) -> None:
        """A reply is to be sent."""
        self._replies[lane].append(number)

    def ask(self, parent: str, body: bytes) -> None:
        """An input request is to be sent, again and again until it is acknowledged or `settled`."""
        self._inputs_made += 1
        self._inputs[self._inputs_made] = (parent, body)

    def settled(self, parent: str) -> None:
        """The execution `parent` is over: its input requests are void."""
        for number in [number for number, (owner, _) in self._inputs.items() if owner == parent]:
            del self._inputs[number]

    def take(self, lane: Lane, number: int) -> bool:
        """Whether message `number` is the next one; an older one is only acknowledged again. Raises `LookupError` at a hole."""
        expected = self.taken[lane] + 1
        if number > expected:
            raise LookupError(expected)
        self._to_ack.add(lane)
        if number < expected:
            return False
        self.taken[lane] = number
        return True

    def acknowledged(self, lane: Lane, number: int) -> None:
        """The client has everything of `lane` up to `number`."""
        if lane is Lane.IOPUB:
            while self._unacked and self._unacked[0][0] <= number:
                self._unacked_bytes -= self._unacked.popleft()[1]
        elif lane is Lane.STDIN:
            for done in [each for each in self._inputs if each <= number]:
                del self._inputs[done]

    @property
    def served(self) -> bool:
        """Whether the client has taken all output that there is."""
        return not self._unacked and self._cursor == self._journal.head

    @property
    def owes(self) -> bool:
        """Whether something was taken that is not acknowledged yet."""
        return bool(self._to_ack)

    def acknowledge(self, out: bytearray) -> None:
        """Add the acknowledgements that are owed to `out`."""
        for lane in sorted(self._to_ack):
            out += encode(Frame(Kind.ACK, lane, self.index, self.taken[lane]))
        self._to_ack.clear()

    def emit(self, lane: Lane, out: bytearray) -> bool:
        """Add the next portion of `lane` to `out`; False when there is nothing (or no room in the window)."""
        pieces = self._pieces.get(lane)
        if pieces is not None:
            frame = next(pieces, None)
            if frame is not None:
                out += encode(frame)
                return True
            del self._pieces[lane]
        if lane is Lane.IOPUB:
            return self._emit_iopub(out)
        body, number = self._next_input() if lane is Lane.STDIN else self._next_reply(lane)
        if body is None:
            return False
        self._pieces[lane] = data_frames(lane, self.index, number, body)
        return self.emit(lane, out)

    def _next_reply(self, lane: Lane) -> tuple[bytes | None, int]:
        queue = self._replies[lane]
        while queue:
            record = self._journal.get(queue.popleft())
            if record is not None:
                return record.body, record.number
        return None, 0

    def _next_input(self) -> tuple[bytes | None, int]:
        for number, (_, body) in self._inputs.items():
            if number > self._inputs_sent:
                self._inputs_sent = number
                return body, number
        return None, 0

    def _emit_iopub(self, out: bytearray) -> bool:
        start = len(out)
        while len(out) - start < _PORTION and (self._fetched or self._fetch(out)):
            size = len(self._fetched[0].body)
            if self._unacked and self._unacked_bytes + size > WINDOW:
                break
            record = self._fetched.popleft()
            self._unacked.append((record.number, size))
            self._unacked_bytes += size
            frames = data_frames(Lane.IOPUB, self.index, record.number, record.body)
            first = next(frames)
            out += encode(first)
            if first.more:
                self._pieces[Lane.IOPUB] = frames
                break
        return len(out) > start

    def _fetch(self, out: bytearray) -> bool:
        """Read on in the journal; tells the client of a gap. True when something to send was found."""
        while not self._fetched and self._cursor < self._journal.head:
            try:
                for record in self._journal.read(self._cursor, _FETCH):
                    self._cursor = record.number
                    if record.lane is Lane.IOPUB:
                        self._fetched.append(record)
            except JournalGap as gap:
                last = int(gap.details["last"])
                out += encode(encode_json(Kind.GAP, {"first": int(gap.details["first"]), "last": last}, self.index))
                self._cursor = last
        return bool(self._fetched)


class Attachments:
    """All of them, by id, and the way of each message to its own."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._all: OrderedDict[str, Attachment] = OrderedDict()
        self._replies: deque[tuple[int, Lane, str, str]] = deque(maxlen=_REPLIES_KEPT)
        self._inputs: dict[str, Message] = {}

    @property
    def attached(self) -> int:
        """How many are on a stream now."""
        return sum(each.connection is not None for each in self._all.values())

    def attach(self, connection: Connection, index: int, wish: dict[str, Any]) -> tuple[Attachment, tuple[Connection, int] | None]:
        """Let the client that `wish` describes go on at `connection`.

        Returns it, and the stream and index that it is taken from (None when it was on no stream).
        """
        name = str(wish["id"])
        attachment = self._all.get(name) or Attachment(name, self._journal)
        self._all[name] = attachment
        self._all.move_to_end(name)
        superseded = None
        if attachment.connection is not None:
            superseded = (attachment.connection, attachment.index)
            attachment.close()
        attachment.open(connection, index, wish)
        attachment.owe(self._owed(attachment, wish.get("received") or {}))
        for parent, message in self._inputs.items():
            if parent in attachment.claims and message.identities[:1] != [name.encode()]:
                attachment.ask(parent, pack_message(Message(message.identities[1:], message.parts)))
        self._forget()
        return attachment, superseded

    def detach(self, attachment: Attachment) -> None:
        """The client left for good."""
        attachment.close()
        self._all.pop(attachment.id, None)

    def reply(self, lane: Lane, message: Message, parent: str) -> None:
        """Write a reply to the journal and send it on its way."""
        owner = message.identities[0].decode(errors="replace")
        body = pack_message(Message(message.identities[1:], message.parts))
        number = self._journal.append(lane, body, attachment=owner, parent=parent)
        self._replies.append((number, lane, owner, parent))
        for attachment in self._all.values():
            if attachment.connection is not None and (attachment.id == owner or parent in attachment.claims):
                attachment.reply(lane, number)

    def ask(self, message: Message, parent: str) -> None:
        """Send an input request to the attachment whose execution asks; it is held in memory only."""
        self._inputs[parent] = message
        owner = message.identities[0].decode(errors="replace")
        body = pack_message(Message(message.identities[1:], message.parts))
        for attachment in self._all.values():
            if attachment.id == owner or parent in attachment.claims:
                attachment.ask(parent, body)

    def answered(self) -> None:
        """An input reply was handed to the kernel, which waits for one at a time."""
        self._inputs.clear()

    def settled(self, parent: str) -> None:
        """An execution is over."""
        self._inputs.pop(parent, None)
        for attachment in self._all.values():
            attachment.settled(parent)

    def publish(self, parts: list[bytes | memoryview]) -> None:
        """Write an iopub message to the journal; every attachment reads it from there."""
        self._journal.append(Lane.IOPUB, pack_message(Message([], parts)))

    def _owed(self, attachment: Attachment, received: dict[str, Any]) -> Iterator[tuple[Lane, int]]:
        had = {lane: int(received.get(name, 0)) for name, lane in _REPLY_LANES.items()}
        for number, lane, owner, parent in self._replies:
            if number > had[lane] and (owner == attachment.id or parent in attachment.claims):
                yield lane, number

    def _forget(self) -> None:
        gone = [name for name, each in self._all.items() if each.connection is None]
        for name in gone[: max(0, len(gone) - _FORGOTTEN_AFTER)]:
            del self._all[name]
