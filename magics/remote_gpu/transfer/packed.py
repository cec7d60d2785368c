"""Data that travels compressed by zlib: whether that pays, and both ends of it. Both sides of the data stream use this module."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from remote_gpu.errors import BadFrame
from remote_gpu.transfer.frames import Reader, slices

__all__ = ["FAST", "STEP", "blocks", "fill_block", "pays", "shrinks", "unpacked"]

FAST = 100e6
"""Bytes a second of a stream that zlib cannot keep up with."""

STEP = 1 << 20
"""Bytes of memory that a block of a compressed body stands for; the last one of each buffer is shorter."""

_PACKS = 60e6  # bytes/s of zlib at its quickest, on a slow machine
_SAMPLE = 32 << 10
_WORTH = 0.8  # of the size: less than that must be left
_LENGTH = struct.Struct(">I")


def shrinks(view: memoryview) -> float | None:
    """Which share of three samples of `view` zlib leaves; None when that is too much, or `view` too short to tell."""
    if len(view) < 4 * _SAMPLE:
        return None
    step = (len(view) - _SAMPLE) // 2
    sample = b"".join(view[at : at + _SAMPLE] for at in (0, step, 2 * step))
    ratio = len(zlib.compress(sample, 1)) / len(sample)
    return ratio if ratio < _WORTH else None


def pays(view: memoryview, speed: float) -> bool:
    """Whether packing `view` saves time on a stream of `speed` bytes a second; 0.0 = not known."""
    if not 0 < speed <= FAST or (ratio := shrinks(view)) is None:
        return False
    return ratio / speed + 1 / _PACKS < 1 / speed


def unpacked(data: bytes, limit: int) -> memoryview:
    """What a zlib stream holds, `limit` bytes at most. Raises `BadFrame`."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, limit)
    except zlib.error as error:
        raise BadFrame("A packed part of the data stream is damaged.") from error
    if unpacker.unconsumed_tail or unpacker.unused_data:
        raise BadFrame("A packed part of the data stream is longer than what it belongs to.")
    return memoryview(content)


def blocks(view: memoryview) -> Iterator[bytes | memoryview]:
    """`view` as a compressed body: a u32 length and so many bytes for each `STEP` of it, as they are where they do not shrink."""
    for piece in slices(view, STEP):
        data = zlib.compress(piece, 1)
        body = data if len(data) < len(piece) else piece
        yield _LENGTH.pack(len(body))
        yield body


def fill_block(reader: Reader, view: memoryview) -> int:
    """Fill `view` from the next block, which must stand for just that; returns how many bytes were read. Raises `BadFrame`, `StreamEnded`."""
    length = int.from_bytes(reader.exactly(_LENGTH.size), "big")  # Python 3.10 has no default
    if length == len(view):
        reader.fill(view)
    elif not 0 < length < len(view):
        raise BadFrame(f"A block of {length} bytes comes for {len(view)}.")
    else:
        content = unpacked(reader.exactly(length), len(view))
        if len(content) != len(view):
            raise BadFrame(f"A block holds {len(content)} bytes and not {len(view)}.")
        view[:] = content
    return _LENGTH.size + length
