"""One stream between a gateway and the supervisor: frames in, frames out, urgent ones first."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from remote_gpu.frames import Assembler, Frame, FrameReader, Kind, Lane, encode, encode_json, preamble

if TYPE_CHECKING:
    from remote_gpu.node.attachments import Attachment

__all__ = ["AHEAD", "Connection"]

AHEAD = 512 * 1024
"""The most bytes that are encoded ahead of the transport: an urgent frame waits for no more than these."""

PING_AFTER = 5.0
GIVE_UP_AFTER = 20.0

_CHUNK = 256 * 1024
_COMPANY = 0.02
"""Seconds that acknowledgements wait for something to travel with. Slurm's connection between a step and its srun has Nagle's algorithm on: a small
message waits there until the one before is acknowledged, 40 ms later, unless the other side has something to say. So none goes ahead of a cell's output.
"""
_MOST_URGENT = 10_000  # a gateway that takes so few is not there, whatever it sends
_NEVER = float("inf")
_READS = 4
_SENDING_LANES = (Lane.CONTROL, Lane.SHELL, Lane.STDIN, Lane.IOPUB)


class Connection:
    """A connected stream. The supervisor's loop calls `read` and `write` when the socket allows; neither blocks."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.peer = peer
        self.attachments: dict[int, Attachment] = {}
        self.assembler = Assembler()
        self.closing = False
        """Set once nothing more is read: what is encoded is still written, then the stream is closed."""
        self._reader = FrameReader()
        self._out = bytearray(preamble())
        self._urgent: deque[Frame] = deque()
        self._acks_due = _NEVER
        self._turn = 0
        self._heard = self._said = time.monotonic()

    def fileno(self) -> int:
        """The socket's descriptor, for the poller."""
        return self.peer.fileno()

    @property
    def waiting(self) -> bool:
        """Whether bytes wait to be written."""
        return bool(self._out)

    @property
    def due(self) -> float:
        """When, by the monotonic clock, `write` is to be called at the latest, for acknowledgements that nothing came along with."""
        return self._acks_due

    @property
    def finished(self) -> bool:
        """Whether the stream was to be closed and everything is written."""
        return self.closing and not self._out and not self._urgent

    def send(self, frame: Frame) -> None:
        """Queue a frame of the link itself; such frames go before all data."""
        self._urgent.append(frame)

    def send_json(self, kind: Kind, value: dict[str, Any], attachment: int = 0) -> None:
        """Queue a frame that holds JSON."""
        self._urgent.append(encode_json(kind, value, attachment))

    def read(self) -> Iterable[Frame] | None:
        """The frames that arrived; None at the end of the stream. Raises what `FrameReader.feed` raises."""
        frames: list[Frame] = []
        for _ in range(_READS):
            try:
                data = self.peer.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                return None
            if not data:
                return frames or None
            self._heard = time.monotonic()
            frames += self._reader.feed(data)
            if len(data) < _CHUNK // 4:
                break
        return frames

    def write(self) -> bool:
        """Encode and write as much as the transport takes; False when the stream broke."""
        while True:
            self._fill()
            if not self._out:
                return True
            try:
                sent = self.peer.send(self._out)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._said = time.monotonic()
            del self._out[:sent]

    def keep_alive(self, now: float) -> bool:
        """Queue a PING when nothing was said for a while; False when nothing was heard, or taken, for too long."""
        if now - self._said > PING_AFTER:
            self._said = now
            self.send(Frame(Kind.PING, number=int(now * 1000)))
        return now - self._heard < GIVE_UP_AFTER and len(self._urgent) < _MOST_URGENT

    def _fill(self) -> None:
        out = self._out
        while len(out) < AHEAD:
            while self._urgent:
                out += encode(self._urgent.popleft())
            if self.closing or not self._fill_data(out):
                break
        if not self.closing:
            self._fill_acks(out)

    def _fill_acks(self, out: bytearray) -> None:
        now = time.monotonic()
        if out or now >= self._acks_due:
            for attachment in self.attachments.values():
                attachment.acknowledge(out)
            self._acks_due = _NEVER
        elif self._acks_due == _NEVER and any(attachment.owes for attachment in self.attachments.values()):
            self._acks_due = now + _COMPANY

    def _fill_data(self, out: bytearray) -> bool:
        """Add one portion of the most urgent lane that has something, the attachments by turns."""
        everybody = list(self.attachments.values())
        for lane in _SENDING_LANES:
            for step in range(len(everybody)):
                if everybody[(self._turn + step) % len(everybody)].emit(lane, out):
                    self._turn += step + 1
                    return True
        return False
