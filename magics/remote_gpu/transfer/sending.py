"""One `put_missing`: which views the node lacks, and sending them, over as many attempts as it takes.

The address of a view must be known to ask for it, and computing it takes a tenth of the time that sending takes. So a large view of a size that the node has no
blob of (it must be new there) is sent under a random name first; its address is computed meanwhile and told at the end.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remote_gpu.errors import BadFrame
from remote_gpu.transfer.addresses import SEGMENT, Rolling, address
from remote_gpu.transfer.channel import Channel, Progress
from remote_gpu.transfer.frames import Op
from remote_gpu.transfer.packing import Packing

__all__ = ["Sending"]


@dataclass(slots=True)
class _Blob:
    """A view; `address` is "" until it is known, `name` is what the node knows it by meanwhile."""

    view: memoryview
    address: str = ""
    name: str = ""


class Sending:
    """Has the node keep `views`; `attempt` may be called again after a stream broke, and goes on."""

    def __init__(
        self,
        views: Sequence[memoryview],
        packing: Packing,
        moved: Callable[[], None],
        progress: Progress | None,
        unfinished: dict[str, str],
    ) -> None:
        self._views = views
        self._packing = packing
        self._moved = moved
        self._progress = progress
        self._unfinished = unfinished
        self._seed: int | None = None
        self._blobs: list[_Blob] = []

    def attempt(self, channel: Channel) -> list[str]:
        """Send what is missing; returns the addresses of all views."""
        if self._seed != channel.seed:
            self._blobs = self._named(channel)
            self._seed = channel.seed
        wanted = {blob.name: blob for blob in self._blobs}
        asked = [[name, len(blob.view)] for name, blob in wanted.items()]
        have = _numbers(channel.ask(Op.HAVE, {"blobs": asked}, Op.HAD).meta.get("have"), len(asked))
        total = sum(len(blob.view) for blob in wanted.values())
        done, sent = sum(have), False
        for blob, offset in zip(wanted.values(), have, strict=True):
            missing = len(blob.view) - offset
            if missing or not blob.view:
                self._send(channel, blob, offset, done, total)
                sent = True
            if not blob.address:
                blob.address = address(blob.view, channel.seed)
            if blob.name != blob.address:
                channel.send(Op.NAME, {"blob": blob.name, "size": len(blob.view), "address": blob.address})
                sent = True
            done += missing
        if sent:
            channel.ask(Op.SYNC, {}, Op.DONE)
        for blob in self._blobs:
            blob.name = blob.address
        if self._progress is not None:
            self._progress(total, total)
        return [blob.address for blob in self._blobs]

    def leave(self) -> None:
        """It was given up in the middle: remember what is begun, so that a later call for the same bytes goes on."""
        for blob in self._blobs:
            if self._seed is not None and not blob.address:
                self._unfinished[address(blob.view, self._seed)] = blob.name

    def _named(self, channel: Channel) -> list[_Blob]:
        """What the node is asked for: by address, or by a random name what must be new there."""
        sizes = Counter(len(view) for view in self._views if len(view) > SEGMENT)
        large = [size for size, count in sizes.items() if count == 1]
        new: set[int] = set()
        if large:
            known = _numbers(channel.ask(Op.HAVE, {"sizes": large}, Op.HAD).meta.get("have"), len(large))
            new = {size for size, count in zip(large, known, strict=True) if not count}
        blobs = []
        for view in self._views:
            found = "" if len(view) in new else address(view, channel.seed)
            blobs.append(_Blob(view, found, self._unfinished.pop(found, found) or secrets.token_hex(16)))
        return blobs

    def _send(self, channel: Channel, blob: _Blob, offset: int, done: int, total: int) -> None:
        rolling = Rolling(blob.view, channel.seed) if not blob.address and not offset else None

        def told(count: int) -> None:
            self._moved()
            if rolling is not None:
                rolling.sent(count)
            if self._progress is not None:
                self._progress(done + count, total)

        self._packing.send(channel, blob.name, blob.view, offset, told)
        if rolling is not None:
            blob.address = rolling.address()


def _numbers(found: object, count: int) -> list[int]:
    if not isinstance(found, list) or len(found) != count or not all(isinstance(each, int) for each in found):
        raise BadFrame("The node did not say which blobs it has.")
    return found
