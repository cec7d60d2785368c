"""The address of a blob: XXH3-128 with the store's secret seed; above 32 MiB, that of the digests of segments of 32 MiB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import xxhash

__all__ = ["SEGMENT", "Rolling", "address"]

SEGMENT = 32 << 20


def address(view: memoryview, seed: int) -> str:
    """32 hexadecimal digits; the segments are read side by side."""
    if len(view) <= SEGMENT:
        return xxhash.xxh3_128_hexdigest(view, seed)
    pieces = [view[start : start + SEGMENT] for start in range(0, len(view), SEGMENT)]
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda piece: xxhash.xxh3_128_digest(piece, seed), pieces))
    return xxhash.xxh3_128_hexdigest(b"".join(digests), seed)


class Rolling:
    """The address of `view`, larger than a segment, computed while it is sent: what was just sent is still in the processor's cache."""

    def __init__(self, view: memoryview, seed: int) -> None:
        self._view = view
        self._seed = seed
        self._at = 0
        self._digests: list[bytes] = []
        self._segment = xxhash.xxh3_128(seed=seed)

    def sent(self, end: int) -> None:
        """Everything before byte `end` was sent."""
        while self._at < end:
            stop = min(end, (self._at // SEGMENT + 1) * SEGMENT)
            self._segment.update(self._view[self._at : stop])
            self._at = stop
            if stop % SEGMENT == 0 or stop == len(self._view):
                self._digests.append(self._segment.digest())
                self._segment = xxhash.xxh3_128(seed=self._seed)

    def address(self) -> str:
        """The address; all of it was sent."""
        return xxhash.xxh3_128_hexdigest(b"".join(self._digests), self._seed)
