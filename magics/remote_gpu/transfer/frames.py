"""The bytes of the data stream, which carries arrays and files beside the link; both ends use this module.

Each side starts with 8 bytes (mark, version, oldest version understood, CR LF); a reader skips what a login shell prints before. Then come
messages: a header of 16 bytes, a JSON object, and a body of raw bytes. docs/reference/data-stream.md has the whole protocol.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from remote_gpu.errors import BadFrame, LinkProblem, VersionMismatch

__all__ = ["BLOCK", "WINDOW", "Message", "Op", "Reader", "StreamEnded", "head_of", "preamble", "slices", "write_all"]

BLOCK = 1 << 20
"""Bytes of one write: small enough for the processor's cache and for progress, large enough that calls do not count."""

WINDOW = 32 << 20
"""A blob grows on the node in steps of so many bytes; a transfer that was cut goes on at such a step."""

_MARK = b"\0JRD"
_VERSION = 1
_OLDEST = 1
_PREAMBLE = 8
_HEAD = struct.Struct(">BBHIQ")
_NOISE_LIMIT = 64 * 1024
_META_LIMIT = 64 << 20


class Op(IntEnum):
    """What a message says."""

    HELLO = 1
    FAILED = 2
    WAIT = 3
    HAVE = 4
    HAD = 5
    PUT = 6
    SYNC = 7
    DONE = 8
    FETCH = 9
    PARCEL = 10
    GOT = 11
    LIST = 12
    LISTED = 13
    WRITE = 14
    READ = 15
    CONTENT = 16
    PART = 17
    NAME = 18
    ECHO = 19
    BYTES = 20
    PIECE = 21
    TAKEN = 22


class Message(NamedTuple):
    """A message whose body, `size` bytes, is still to be read. `packed`: the body is a zlib stream."""

    op: int
    meta: dict[str, Any]
    size: int
    packed: bool = False


class StreamEnded(LinkProblem):
    """The other side closed the stream."""

    reason = "link"


def preamble() -> bytes:
    """What each side sends first."""
    return _MARK + bytes([_VERSION, _OLDEST]) + b"\r\n"


def head_of(op: Op, meta: dict[str, Any] | None = None, size: int = 0, *, packed: bool = False) -> bytes:
    """Header and JSON of a message; `size` bytes of body must follow."""
    text = json.dumps(meta).encode() if meta else b""
    return _HEAD.pack(op, int(packed), 0, len(text), size) + text


def slices(view: memoryview, step: int = BLOCK) -> Iterator[memoryview]:
    """`view` in pieces of at most `step` bytes."""
    for start in range(0, len(view), step):
        yield view[start : start + step]


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything; raises OSError when the other side is gone or takes nothing for as long as the descriptor allows."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Reader:
    """Reads messages from a descriptor that blocks: a socket, a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.noise = b""
        """What came before the preamble."""

    def greet(self) -> None:
        """Find the other side's preamble. Raises `BadFrame`, `VersionMismatch`, `StreamEnded`."""
        seen, at = bytearray(), -1
        while at < 0:
            data = os.read(self._descriptor, 1)  # never a byte of what follows
            if not data:
                self.noise = bytes(seen)
                raise StreamEnded("The data stream ended before it began.")
            seen += data
            if seen.endswith(_MARK):
                at = len(seen) - len(_MARK)
            elif len(seen) > _NOISE_LIMIT:
                raise BadFrame(f"What the node sends is no data stream; it begins with {bytes(seen[:80])!r}.")
        seen += self.exactly(_PREAMBLE - len(_MARK))
        self.noise = bytes(seen[:at])
        version, oldest = seen[at + 4], seen[at + 5]
        if oldest > _VERSION or version < _OLDEST:
            raise VersionMismatch(f"The other end of the data stream speaks version {version}; this end speaks {_VERSION}.")

    def fill(self, view: memoryview) -> None:
        """Fill `view`; raises `StreamEnded` when the stream ends before."""
        at, length = 0, len(view)
        while at < length:
            count = os.readv(self._descriptor, [view[at:]])
            if not count:
                raise StreamEnded("The data stream ended in the middle of a message.")
            at += count

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        data = bytearray(size)
        self.fill(memoryview(data))
        return bytes(data)

    def message(self) -> Message | None:
        """The next message; None at the end of the stream."""
        head = os.read(self._descriptor, _HEAD.size)
        if not head:
            return None
        if len(head) < _HEAD.size:
            head += self.exactly(_HEAD.size - len(head))
        op, flags, _, meta_size, size = _HEAD.unpack(head)
        if meta_size > _META_LIMIT:
            raise BadFrame(f"A message of the data stream has a description of {meta_size} bytes.")
        try:
            meta = json.loads(self.exactly(meta_size)) if meta_size else {}
        except ValueError as error:
            raise BadFrame("A message of the data stream is not JSON.") from error
        if not isinstance(meta, dict):
            raise BadFrame("A message of the data stream is not a JSON object.")
        return Message(op, meta, size, bool(flags & 1))

    def skip(self, size: int) -> None:
        """Read `size` bytes and forget them."""
        waste = memoryview(bytearray(min(size, BLOCK)))
        while size:
            piece = waste[: min(size, len(waste))]
            self.fill(piece)
            size -= len(piece)
