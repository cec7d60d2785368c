"""The bytes of the link: frames, messages, lanes. Pure; no I/O. `docs/reference/link-protocol.md` is the specification.

A stream starts with a preamble in each direction and then carries frames. A frame has a header of 16 bytes (payload
size, kind, lane and MORE flag, attachment, number; big-endian) and at most `PIECE` bytes of payload, so that a small
urgent message never waits behind a large one. A Jupyter message travels as one or more DATA frames of one number.

Both ends use this module: the gateway, and the node, whose Python may be as old as 3.10.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from remote_gpu.errors import BadFrame, VersionMismatch

__all__ = [
    "LANES",
    "PIECE",
    "PREAMBLE_SIZE",
    "PROTOCOL",
    "Assembler",
    "Frame",
    "FrameReader",
    "Kind",
    "Lane",
    "Message",
    "data_frames",
    "encode",
    "encode_json",
    "pack_message",
    "preamble",
    "unpack_message",
]

PROTOCOL = 1
"""The version that this code speaks."""

OLDEST = 1
"""The oldest version that this code still understands: one back, once there is one."""

PIECE = 256 * 1024
"""The most payload bytes in one frame."""

_MAGIC = b"\x00JRG"
_PREAMBLE = struct.Struct(">4sBB2s")
PREAMBLE_SIZE = _PREAMBLE.size
_HEADER = struct.Struct(">IBBHQ")
_COUNTS = struct.Struct(">BI")
_MORE = 0x80
_NOISE_LIMIT = 64 * 1024


class Kind(enum.IntEnum):
    """What a frame is; the link-protocol page says who sends each and when."""

    ATTACH = 1
    ATTACHED = 2
    DATA = 3
    ACK = 4
    DETACH = 5
    CALL = 6
    RESULT = 7
    EVENT = 8
    PING = 9
    PONG = 10
    GAP = 11
    BYE = 12


class Lane(enum.IntEnum):
    """Lanes in order of urgency; each numbers, acknowledges and flows on its own."""

    CONTROL = 0
    SHELL = 1
    STDIN = 2
    IOPUB = 3
    BLOB = 4


LANES = tuple(Lane)

_KINDS = {int(kind): kind for kind in Kind}
_LANE_OF = {int(lane): lane for lane in Lane}


class Frame(NamedTuple):
    """One frame. `number` is the lane's number for DATA and ACK (meaning per kind in the specification), else 0."""

    kind: Kind
    lane: Lane = Lane.CONTROL
    attachment: int = 0
    number: int = 0
    payload: bytes = b""
    more: bool = False

    def json(self) -> dict[str, Any]:
        """The payload as a JSON object; raises `BadFrame` when it is none."""
        try:
            value = json.loads(self.payload)
        except ValueError as error:
            message = f"A {self.kind.name} frame does not hold JSON."
            raise BadFrame(message) from error
        if not isinstance(value, dict):
            message = f"A {self.kind.name} frame does not hold a JSON object."
            raise BadFrame(message)
        return value


class Message(NamedTuple):
    """A Jupyter message without its signature: routing identities, then header, parent, metadata, content, buffers."""

    identities: list[bytes]
    parts: list[bytes | memoryview]


def preamble(version: int = PROTOCOL, oldest: int = OLDEST) -> bytes:
    """The first bytes of a stream, in each direction."""
    return _PREAMBLE.pack(_MAGIC, version, oldest, b"\r\n")


def encode(frame: Frame) -> bytes:
    """A frame's bytes."""
    lane = frame.lane | _MORE if frame.more else frame.lane
    header = _HEADER.pack(len(frame.payload), frame.kind, lane, frame.attachment, frame.number)
    return header + frame.payload


def encode_json(kind: Kind, value: dict[str, Any], attachment: int = 0, number: int = 0) -> Frame:
    """A frame that holds a JSON object."""
    return Frame(kind, Lane.CONTROL, attachment, number, json.dumps(value).encode())


def pack_message(message: Message) -> bytes:
    """A message's body: counts, the length of each part (u64), then the parts."""
    identities, parts = message
    everything = [*identities, *parts]
    lengths = [len(part) if isinstance(part, bytes) else memoryview(part).nbytes for part in everything]
    head = _COUNTS.pack(len(identities), len(everything)) + struct.pack(f">{len(everything)}Q", *lengths)
    return b"".join([head, *everything])


def unpack_message(body: bytes) -> Message:
    """The message in `body`; parts of a large body are views into it. Raises `BadFrame` when the lengths do not fit."""
    try:
        count, total = _COUNTS.unpack_from(body)
        lengths = struct.unpack_from(f">{total}Q", body, _COUNTS.size)
    except struct.error as error:
        raise BadFrame("A message is shorter than its own head.") from error
    start = _COUNTS.size + 8 * total
    if start + sum(lengths) != len(body) or count > total:
        message = f"A message says {start + sum(lengths)} bytes and has {len(body)}."
        raise BadFrame(message)
    source: bytes | memoryview = memoryview(body) if len(body) > PIECE else body
    parts: list[bytes | memoryview] = []
    for length in lengths:
        parts.append(source[start : start + length])
        start += length
    return Message([bytes(part) for part in parts[:count]], parts[count:])


def data_frames(lane: Lane, attachment: int, number: int, body: bytes) -> Iterator[Frame]:
    """The DATA frames of one packed message: all but the last have `more` set; a body of 0 bytes is one frame."""
    if len(body) <= PIECE:
        yield Frame(Kind.DATA, lane, attachment, number, body)
        return
    view = memoryview(body)
    for start in range(0, len(body), PIECE):
        more = start + PIECE < len(body)
        yield Frame(Kind.DATA, lane, attachment, number, bytes(view[start : start + PIECE]), more)


class FrameReader:
    """Bytes in, frames out. Finds the preamble behind whatever a login shell printed first (at most 64 KiB).

    `feed` raises `BadFrame` (no preamble, an unknown kind or lane, a payload over `PIECE`) and `VersionMismatch`.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.version: int | None = None
        """The peer's version, once its preamble was seen."""

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take in `data`; returns the frames that are complete now."""
        buffer = self._buffer
        buffer += data
        if self.version is None and not self._find_preamble():
            return []
        frames: list[Frame] = []
        position, end = 0, len(buffer)
        while end - position >= _HEADER.size:
            size, kind, lane, attachment, number = _HEADER.unpack_from(buffer, position)
            if size > PIECE or kind not in _KINDS or (lane & ~_MORE) not in _LANE_OF:
                message = f"The stream is not ours at a frame of kind {kind}, lane {lane}, {size} bytes."
                raise BadFrame(message)
            start = position + _HEADER.size
            if end - start < size:
                break
            position = start + size
            payload = bytes(buffer[start:position])
            frames.append(Frame(_KINDS[kind], _LANE_OF[lane & ~_MORE], attachment, number, payload, lane >= _MORE))
        if position:
            del buffer[:position]
        return frames

    def noise(self) -> str:
        """What came before the preamble, as text: often the far side's own error message."""
        return self._buffer.decode(errors="replace").strip() if self.version is None else ""

    def _find_preamble(self) -> bool:
        start = self._buffer.find(_MAGIC)
        if start < 0 or len(self._buffer) < start + PREAMBLE_SIZE:
            if len(self._buffer) > _NOISE_LIMIT:
                message = f"The command does not speak our protocol; it printed: {self.noise()[:300]!r}"
                raise BadFrame(message)
            return False
        _, version, oldest, _ = _PREAMBLE.unpack_from(self._buffer, start)
        if version < OLDEST or oldest > PROTOCOL:
            message = f"The other end speaks link protocol {oldest} to {version}, this one {OLDEST} to {PROTOCOL}."
            raise VersionMismatch(message, hint="Upgrade the older side; the session itself keeps running.")
        self.version = min(version, PROTOCOL)
        del self._buffer[: start + PREAMBLE_SIZE]
        return True


class Assembler:
    """Joins the pieces of messages, per attachment and lane. A cut drops what is unfinished: call `clear`."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, Lane], list[bytes]] = {}

    def feed(self, frame: Frame) -> bytes | None:
        """Take in a DATA frame; returns the packed message when this was its last piece."""
        key = (frame.attachment, frame.lane)
        if frame.more:
            self._pieces.setdefault(key, []).append(frame.payload)
            return None
        earlier = self._pieces.pop(key, None)
        return frame.payload if earlier is None else b"".join([*earlier, frame.payload])

    def clear(self, attachment: int | None = None) -> None:
        """Forget unfinished messages, of one attachment or of all."""
        if attachment is None:
            self._pieces.clear()
            return
        for key in [key for key in self._pieces if key[0] == attachment]:
            del self._pieces[key]


def join(frames: Iterable[Frame]) -> bytes:
    """The bytes of several frames in one piece, for one write."""
    return b"".join(encode(frame) for frame in frames)


def message_of(parts: Sequence[bytes | memoryview], identities: Sequence[bytes] = ()) -> Message:
    """A `Message` from any sequences."""
    return Message(list(identities), list(parts))
