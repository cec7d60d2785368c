"""Whether to compress what is sent, decided by what was measured: a slow stream, and a sample of the data that shrinks.

Compression by zlib runs at about 0.1 GB/s, so it can only pay on a stream that is slower; most arrays of floating-point numbers do not
shrink at all. The node says when a part has reached it: how soon the parts are gone from here tells nothing, for ssh, Slurm and the system hold megabytes.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable

from remote_gpu.transfer.channel import Channel
from remote_gpu.transfer.frames import Op
from remote_gpu.transfer.packed import FAST, pays, shrinks

__all__ = ["Packing"]

_FIRST = 512 << 10  # bytes of the part that measures a new stream
_PART = 8 << 20  # bytes after which the decision is taken anew
_LATELY = 4  # measurements that count; two answers that are read at once make one of them worthless
_TELLS = 256 << 10  # bytes of the smallest part whose time tells of speed


class Packing:
    """Sends blobs on one stream and learns how fast it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.speed = 0.0
        """Bytes a second that reached the node lately; 0.0 when nothing is known."""
        self._lately: deque[tuple[int, float]] = deque(maxlen=_LATELY)

    def send(self, channel: Channel, digest: str, view: memoryview, offset: int, told: Callable[[int], None]) -> None:
        """Send `view` from `offset` on as PUT messages; `told` is called with the bytes of it that left."""
        size, sent = len(view), 0
        if not size:
            channel.send(Op.PUT, {"blob": digest, "size": 0, "offset": 0})
        while offset < size:
            channel.listen()
            packs, step = self._plan(view[offset:])
            part = view[offset : offset + step]
            meta, began = {"blob": digest, "size": size, "offset": offset}, self._clock()
            if packs:
                packed = zlib.compress(part, 1)
                began = self._clock()
                channel.send(Op.PUT, meta, packed, packed=True)
                told(sent + len(part))
            else:
                channel.send(Op.PUT, meta, part, told=lambda done, _, before=sent: told(before + done))  # type: ignore[misc]
            if (count := len(packed) if packs else len(part)) >= _TELLS:
                channel.mark(began, lambda seconds, count=count: self._learn(count, seconds, channel.pause))  # type: ignore[misc]
                if step == _FIRST:
                    channel.listen(wait=True)
            offset, sent = offset + len(part), sent + len(part)

    def _plan(self, left: memoryview) -> tuple[bool, int]:
        """(whether to pack, bytes) of the next part."""
        if self.speed > FAST:
            return False, len(left)
        if not self.speed:  # what may be packed waits until it is known whether that pays
            return False, _PART if shrinks(left) is None else _FIRST
        return pays(left[:_PART], self.speed), _PART

    def _learn(self, size: int, seconds: float, pause: float) -> None:
        """What `size` bytes took; a round trip of it is no sign of slowness."""
        self._lately.append((size, max(seconds - pause, seconds / 2)))
        self.speed = sum(size for size, _ in self._lately) / max(sum(seconds for _, seconds in self._lately), 1e-6)
