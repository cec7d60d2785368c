"""The journal: everything that the kernel said, in order, under one sequence of numbers from 1.

Records lie in append-only segment files (mode 0600) of one folder, each with a checksum; the newest are also held in
memory, so that an attachment that keeps up never reads the disk. `append` buffers, `flush` writes: the supervisor
flushes once per turn of its loop. The folder's size is bounded: the oldest segments go first, and who asks for what
they held gets a `JournalGap`. When the disk refuses, the journal goes on in memory alone and says so in `on_disk`.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from remote_gpu.errors import JournalGap, NotWritable
from remote_gpu.frames import LANES, Lane

__all__ = ["DEFAULT_LIMIT", "Journal", "Record"]

DEFAULT_LIMIT = 2 * 1024**3
"""Bytes that a journal may take on the disk."""

_SEGMENT = 32 * 1024**2
_TAIL = 2 * 1024**2
_TAIL_ALONE = 32 * 1024**2  # when the memory is all there is
_RECORD_COST = 400
_BUFFER = 1024**2
_MARK_EVERY = 128 * 1024
_HEAD = struct.Struct(">IQQBBB")  # crc of the rest, size of the body, number, lane, lengths of attachment and parent
_CHECKED = _HEAD.size - 4
_LONGEST_NAME = 255
_LANES = dict(enumerate(LANES))


class Record(NamedTuple):
    """One message of the kernel: `body` is packed (`frames.pack_message`); `attachment` "" means everybody."""

    number: int
    lane: Lane
    attachment: str
    parent: str
    body: bytes


def _name(text: str) -> bytes:
    return text.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore").encode()


def _pack(record: Record) -> bytes:
    attachment = _name(record.attachment)
    parent = _name(record.parent)
    head = _HEAD.pack(0, len(record.body), record.number, record.lane, len(attachment), len(parent))
    rest = b"".join((head[4:], attachment, parent, record.body))
    return zlib.crc32(rest).to_bytes(4, "big") + rest


def _scan(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """The records of a segment from `offset`, each with the offset behind it; ends at the first one that is torn or damaged."""
    with path.open("rb") as file:
        file.seek(offset)
        while True:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            crc, size, number, lane, attachment, parent = _HEAD.unpack(head)
            names = file.read(attachment + parent)
            body = b"" if size > _BUFFER and size > path.stat().st_size - offset else file.read(size)
            if len(body) != size or zlib.crc32(body, zlib.crc32(names, zlib.crc32(head[4:]))) != crc:
                return
            offset += _HEAD.size + len(names) + size
            yield Record(number, _LANES[lane], names[:attachment].decode(), names[attachment:].decode(), body), offset


class _Segment:
    """One file: records `first` to `last`, `size` bytes; `marks` are (number, offset) pairs for seeking."""

    def __init__(self, folder: Path, first: int) -> None:
        self.path = folder / f"{first:016d}.log"
        self.first = first
        self.last = first - 1
        self.size = 0
        self.marks = [(first, 0)]

    def took(self, number: int, end: int) -> None:
        self.last = number
        if end - self.marks[-1][1] >= _MARK_EVERY:
            self.marks.append((number + 1, end))
        self.size = end

    def before(self, number: int) -> int:
        """An offset at or before that of `number`."""
        low, high = 0, len(self.marks)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.marks[middle][0] <= number else (low, middle)
        return self.marks[low][1]


class Journal:
    """The journal in `folder`, recovered when it is already there. Not thread-safe; one process has it open.

    `limit` bounds the bytes on the disk, `tail` those held in memory. Raises `NotWritable` when the folder cannot be used.
    """

    def __init__(self, folder: Path, *, limit: int = DEFAULT_LIMIT, tail: int = _TAIL) -> None:
        self._folder = folder
        self._limit = max(limit, 4096)
        self._segment_size = min(_SEGMENT, max(self._limit // 8, 1024))
        self._segments: list[_Segment] = []
        self._descriptor = -1
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._tail: list[Record] = []
        self._tail_start = 0
        self._tail_bytes = 0
        self._tail_limit = tail
        self._resume: dict[int, tuple[_Segment, int]] = {}
        self.on_disk = True
        """Whether the disk still takes what is appended."""
        self.head = 0
        """The number of the newest record; 0 before the first."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._recover()
        except OSError as error:
            message = f"Cannot keep the session's journal in {folder}: {error.strerror}."
            raise NotWritable(message, hint="Free some space, or set JUPYTER_REMOTE_GPU_FOLDER to another folder.") from error

    @property
    def floor(self) -> int:
        """The number of the oldest record that can still be read; `head` + 1 when there is none."""
        held = self._oldest_in_memory
        if self._segments:
            return min(held, self._segments[0].first)
        return min(held, self.head - len(self._pending) + 1)

    @property
    def _oldest_in_memory(self) -> int:
        return self._tail[self._tail_start].number if self._tail_start < len(self._tail) else self.head + 1

    @property
    def size(self) -> int:
        """Bytes on the disk, with those not yet flushed."""
        return sum(segment.size for segment in self._segments) + self._pending_bytes

    def append(self, lane: Lane, body: bytes, *, attachment: str = "", parent: str = "") -> int:
        """Add a record; returns its number. It is readable at once and on the disk after the next `flush`."""
        self.head += 1
        record = Record(self.head, lane, attachment, parent, body)
        self._remember(record)
        if self.on_disk:
            packed = _pack(record)
            self._pending.append(packed)
            self._pending_bytes += len(packed)
            if self._pending_bytes > _BUFFER:
                self.flush()
        return self.head

    def flush(self) -> None:
        """Write what was appended. A disk that refuses ends the journal on disk, not the session."""
        if not self._pending:
            return
        first = self.head - len(self._pending) + 1
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        try:
            self._write(first, pending)
        except OSError:
            self._leave_disk()

    def read(self, after: int, limit: int = _BUFFER) -> Iterator[Record]:
        """The records behind number `after`, at least one (when there is one) and then until `limit` bytes of body.

        Raises `JournalGap`, with `first` and `last` in its details, when the next record is no longer held.
        """
        wanted = after + 1
        if wanted > self.head:
            return
        if wanted < self.floor:
            raise self._gap(wanted, self.floor - 1)
        oldest = self._oldest_in_memory
        source = self._read_tail(wanted - oldest) if wanted >= oldest else self._read_disk(wanted)
        for record in source:
            yield record
            limit -= len(record.body)
            if limit <= 0:
                return

    def get(self, number: int) -> Record | None:
        """One record, or None when it is no longer held."""
        try:
            return next(self.read(number - 1, 1), None)
        except JournalGap:
            return None

    def close(self, *, delete: bool = False) -> None:
        """Write what is left and close; with `delete` remove the folder."""
        if delete:
            self._pending, self._pending_bytes = [], 0
        else:
            self.flush()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if delete:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _gap(self, first: int, last: int) -> JournalGap:
        message = f"The journal no longer holds messages {first} to {last}."
        return JournalGap(message, hint="Its size is bounded; the oldest output goes first.", first=first, last=last)

    def _remember(self, record: Record) -> None:
        self._tail.append(record)
        self._tail_bytes += len(record.body) + _RECORD_COST
        while self._tail_bytes > self._tail_limit and self._tail_start < len(self._tail) - 1:
            self._tail_bytes -= len(self._tail[self._tail_start].body) + _RECORD_COST
            self._tail_start += 1
        if self._tail_start > 256 and self._tail_start * 2 > len(self._tail):  # noqa: PLR2004  amortised: each record moves once
            del self._tail[: self._tail_start]
            self._tail_start = 0

    def _read_tail(self, position: int) -> Iterator[Record]:
        tail, index = self._tail, self._tail_start + position
        yield from tail[index : index + 2048]

    def _read_disk(self, wanted: int) -> Iterator[Record]:
        self.flush()
        if not self._segments:  # the disk refused just now
            raise self._gap(wanted, self.floor - 1)
        found = self._resume.pop(wanted, None)
        if found is None or found[0] not in self._segments:
            segment = next(each for each in reversed(self._segments) if each.first <= wanted)
            found = (segment, segment.before(wanted))
        segment, offset = found
        while True:
            try:
                for record, end in _scan(segment.path, offset):
                    if record.number >= wanted:
                        wanted = record.number + 1
                        self._note_resume(wanted, segment, end)
                        yield record
            except OSError:  # somebody removed the file, or the disk fails
                self._leave_disk()
                if wanted < self.floor:
                    raise self._gap(wanted, self.floor - 1) from None
                return
            if wanted <= segment.last:  # damaged on the disk
                raise self._gap(wanted, segment.last)
            following = [each for each in self._segments if each.first > segment.first]
            if not following or not following[0].size:
                return
            segment, offset = following[0], 0

    def _note_resume(self, wanted: int, segment: _Segment, end: int) -> None:
        self._resume.pop(wanted - 1, None)
        self._resume[wanted] = (segment, end)
        if len(self._resume) > 64:  # noqa: PLR2004  one for each reader that is behind
            del self._resume[next(iter(self._resume))]

    def _write(self, first: int, pending: list[bytes]) -> None:
        start = 0
        while start < len(pending):
            segment = self._writable(first + start)
            stop, size = start, segment.size
            while stop < len(pending) and (stop == start or size < self._segment_size):
                size += len(pending[stop])
                stop += 1
            data = memoryview(b"".join(pending[start:stop]))
            while data:
                data = data[os.write(self._descriptor, data) :]
            for number, packed in enumerate(pending[start:stop], first + start):
                segment.took(number, segment.size + len(packed))
            start = stop
        self._drop_oldest()

    def _writable(self, number: int) -> _Segment:
        if self._descriptor >= 0 and self._segments and self._segments[-1].size < self._segment_size:
            return self._segments[-1]
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        segment = _Segment(self._folder, number)
        self._descriptor = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._segments.append(segment)
        return segment

    def _drop_oldest(self) -> None:
        total = sum(segment.size for segment in self._segments)
        while total > self._limit and len(self._segments) > 1:
            oldest = self._segments.pop(0)
            total -= oldest.size
            oldest.path.unlink(missing_ok=True)

    def _leave_disk(self) -> None:
        """Go on in memory alone, with more of it. What was on the disk is given up: it may be what fills it."""
        self.on_disk = False
        self._pending, self._pending_bytes = [], 0
        self._tail_limit = max(self._tail_limit, _TAIL_ALONE)
        for segment in self._segments:
            segment.path.unlink(missing_ok=True)
        self._segments.clear()
        self._resume.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _recover(self) -> None:
        paths = sorted(self._folder.glob("*.log"))
        for position, path in enumerate(paths):
            segment = _Segment(self._folder, int(path.stem))
            if self._segments and segment.first != self.head + 1:
                for lost in paths[position:]:
                    lost.unlink()
                break
            for record, end in _scan(path):
                if record.number != segment.last + 1:
                    break
                segment.took(record.number, end)
                self._remember(record)
            if segment.size < path.stat().st_size:  # a torn write
                os.truncate(path, segment.size)
            self.head = segment.last
            self._segments.append(segment)
        self._tail_start, self._tail_bytes = 0, 0
        self._tail.clear()
        if self._segments:
            self._descriptor = os.open(self._segments[-1].path, os.O_WRONLY | os.O_APPEND)
