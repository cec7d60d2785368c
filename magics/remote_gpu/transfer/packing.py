"""Whether to compress what is sent, decided by what was measured: a slow stream, and a sample of the data that shrinks.

Compression by zlib runs at about 0.1 GB/s, so it can only pay on a stream that is slower; most arrays of floating-point numbers do not
shrink at all. What was sent before tells the stream's speed; three samples of the data tell whether it shrinks.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from remote_gpu.transfer.channel import Channel
from remote_gpu.transfer.frames import Op

__all__ = ["Packing"]

_FAST = 100e6  # bytes/s of a stream that zlib cannot keep up with
_PACK_SPEED = 60e6  # bytes/s of zlib at its quickest, on a slow machine
_PART = 8 << 20  # bytes after which the decision is taken anew
_SAMPLE = 32 << 10
_WORTH = 0.8  # of the size: less than that must be left
_FORGET = 0.5  # weight of the newest measurement


class Packing:
    """Sends blobs on one stream and learns how fast it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.speed = 0.0
        """Bytes a second that the stream took lately; 0.0 when nothing is known."""

    def send(self, channel: Channel, digest: str, view: memoryview, offset: int, told: Callable[[int], None]) -> None:
        """Send `view` from `offset` on as PUT messages; `told` is called with the bytes of it that left."""
        size, sent = len(view), 0
        if not size:
            channel.send(Op.PUT, {"blob": digest, "size": 0, "offset": 0})
        while offset < size:
            part = view[offset:] if self.speed > _FAST else view[offset : offset + _PART]
            meta = {"blob": digest, "size": size, "offset": offset}
            began, before = self._clock(), sent
            if self.pays(part):
                packed = zlib.compress(part, 1)
                began = self._clock()
                channel.send(Op.PUT, meta, packed, packed=True)
                told(sent + len(part))
                self._learn(len(packed), self._clock() - began)
            else:
                channel.send(Op.PUT, meta, part, told=lambda done, _, before=before: told(before + done))  # type: ignore[misc]
                self._learn(len(part), self._clock() - began)
            offset, sent = offset + len(part), sent + len(part)

    def pays(self, part: memoryview) -> bool:
        """Whether packing `part` saves time."""
        if not self.speed or self.speed > _FAST or len(part) < 4 * _SAMPLE:
            return False
        step = (len(part) - _SAMPLE) // 2
        sample = b"".join(part[at : at + _SAMPLE] for at in (0, step, 2 * step))
        ratio = len(zlib.compress(sample, 1)) / len(sample)
        return ratio < _WORTH and ratio / self.speed + 1 / _PACK_SPEED < 1 / self.speed

    def _learn(self, size: int, seconds: float) -> None:
        if size < _PART // 2:  # what fits into buffers tells nothing
            return
        speed = size / max(seconds, 1e-6)
        self.speed = speed if not self.speed else _FORGET * speed + (1 - _FORGET) * self.speed
