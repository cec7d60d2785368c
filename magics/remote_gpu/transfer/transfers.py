"""Arrays over the data stream: to the node as blobs that it keeps, from the node into fresh memory.

Only what the node lacks is sent, in blocks of 1 MiB from where it lies. A cut is mended here: the stream is opened again and the transfer goes on where
the node's copy ends (or where this side's memory is filled to). All calls come from one thread at a time.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from remote_gpu.errors import AccessRefused, BadFrame, LinkProblem, RemoteGpuError, VersionMismatch
from remote_gpu.transfer.addresses import address
from remote_gpu.transfer.channel import Channel, Progress, fresh
from remote_gpu.transfer.frames import Op
from remote_gpu.transfer.packed import STEP
from remote_gpu.transfer.packing import Packing
from remote_gpu.transfer.sending import Sending

__all__ = ["Fetched", "Transfers"]

_Result = TypeVar("_Result")

_DELAYS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Seconds before each further attempt that follows one without progress."""

_PIECE = 8 << 20  # bytes after which progress is told
_TELLS = 1 << 20  # bytes whose time tells of speed

_FINAL = (VersionMismatch, AccessRefused)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object of the node: `entries` as the node describes it, its `head`, and its `buffers` as memory that belongs to the caller."""

    entries: Mapping[str, Any]
    head: memoryview
    buffers: tuple[memoryview, ...]


@dataclass(slots=True)
class _Arriving:
    """A fetch under way: what is known of it, and how far it is."""

    ticket: str
    wanted: Any
    generation: int | None = None
    entries: Mapping[str, Any] | None = None
    parts: tuple[memoryview, ...] = ()
    done: int = 0


class Transfers:
    """One session's transfers. `connect` gives a connected socket to the session's data process; it is called when one is needed."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._channel: Channel | None = None
        self._moves = 0
        self._packing = Packing()
        self._speed = 0.0  # bytes a second that came from the node lately; 0.0 = not known
        self._unfinished: dict[str, str] = {}

    def close(self) -> None:
        """Let go of the stream; the next call opens another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def moved(self) -> None:
        """Note that bytes moved: attempts are counted from the last progress."""
        self._moves += 1

    @property
    def cwd(self) -> str:
        """The session's working folder on the node."""
        return self.attempts(lambda channel: channel.cwd)

    def address(self, view: memoryview) -> str:
        """The address that `view` has in this node's store: 32 hexadecimal digits."""
        return address(view, self.attempts(lambda channel: channel.seed))

    def put_missing(self, views: Sequence[memoryview], progress: Progress | None = None) -> list[str]:
        """Have the node keep all `views` (contiguous bytes); returns their addresses.

        Raises `NoRoom` before anything is sent, `SessionEnded`, and `LinkProblem` when the stream cannot be had again.
        """
        sending = Sending(views, self._packing, self.moved, progress, self._unfinished)
        try:
            return self.attempts(sending.attempt)
        except BaseException:
            sending.leave()
            raise

    def fetch(self, wanted: Any, progress: Progress | None = None) -> Fetched:
        """An object of the node's kernel, by what its `encode` knows it by (the id of a handle).

        Raises what the kernel says, `KernelDied`, `NoRoom` when it does not fit here, and `LinkProblem`.
        """
        arriving = _Arriving(secrets.token_hex(8), wanted)
        try:
            return self.attempts(lambda channel: self._receive(channel, arriving, progress))
        finally:
            if self._channel is not None and arriving.parts:
                try:
                    self._channel.send(Op.GOT, {"ticket": arriving.ticket})
                except RemoteGpuError:
                    self.close()

    def _receive(self, channel: Channel, arriving: _Arriving, progress: Progress | None) -> Fetched:
        question = {"ticket": arriving.ticket, "wanted": arriving.wanted, "offset": arriving.done, "generation": arriving.generation}
        question["speed"] = self._speed or self._packing.speed  # the way back is like the way there, until more is known
        message = channel.ask(Op.FETCH, question, Op.PARCEL)
        channel.broken = True
        self._begin(arriving, message.meta, message.size)
        total, at, came, began = sum(len(part) for part in arriving.parts), 0, 0, time.monotonic()
        for part in arriving.parts:
            start = max(0, min(arriving.done - at, len(part)))
            at += len(part)
            while start < len(part):
                piece = part[start : start + (STEP if message.packed else _PIECE)]
                came += channel.fill(piece, packed=message.packed)
                start += len(piece)
                arriving.done += len(piece)
                self.moved()
                if progress is not None:
                    progress(arriving.done, total)
        channel.broken = False
        if came >= _TELLS:
            speed = came / max(time.monotonic() - began, 1e-6)
            self._speed = max(self._speed, speed) if message.packed else speed  # it may have waited for zlib
        return Fetched(arriving.entries or {}, arriving.parts[0], arriving.parts[1:])

    @staticmethod
    def _begin(arriving: _Arriving, meta: Mapping[str, Any], size: int) -> None:
        """Note what comes; the memory for it is taken once."""
        sizes, offset = meta.get("sizes"), meta.get("offset")
        if not isinstance(sizes, list) or not sizes or not all(isinstance(each, int) and each >= 0 for each in sizes):
            raise BadFrame("The node did not say how large the object is.")
        if offset != arriving.done or [len(part) for part in arriving.parts] != sizes:
            if offset != 0:
                raise BadFrame("The node goes on with an object at the wrong place.")
            arriving.done = 0
            arriving.parts = ()
            arriving.parts = tuple(fresh(sizes))
        if sum(sizes) - arriving.done != size:
            raise BadFrame("The node sends another number of bytes than it says.")
        entries, generation = meta.get("entries"), meta.get("generation")
        arriving.entries = entries if isinstance(entries, dict) else {}
        arriving.generation = generation if isinstance(generation, int) else None

    def attempts(self, work: Callable[[Channel], _Result]) -> _Result:
        """Do `work`; when the stream breaks, open it again and try again, as long as something moves."""
        failures, moved = 0, self._moves
        while True:
            try:
                if self._channel is None:
                    self._channel = Channel(self._connect())
                return work(self._channel)
            except LinkProblem as error:
                self.close()
                failures = 0 if self._moves != moved else failures + 1
                moved = self._moves
                if failures >= len(_DELAYS) or isinstance(error, _FINAL):
                    raise
                time.sleep(_DELAYS[failures])
            except RemoteGpuError:
                if self._channel is not None and self._channel.broken:
                    self.close()
                raise
            except BaseException:  # Ctrl-C in the middle of a message: the stream cannot be used any more
                self.close()
                raise
