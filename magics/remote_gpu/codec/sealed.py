"""What stands for a class of the notebook where values are only compared: the digest of its parts, made once for a cell.

Without it, each instance would have its whole class taken apart, at a tenth of a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xxhash

from remote_gpu.codec.standins import call

if TYPE_CHECKING:
    from remote_gpu.codec.pickler import ParcelPickler

__all__ = ["sealed_class"]


class _Digest:
    __slots__ = ("head", "write")

    def __init__(self) -> None:
        self.head = xxhash.xxh3_128()
        self.write = self.head.update

    def buffer(self, buffer: Any) -> bool:
        with buffer.raw() as view:
            self.head.update(view)
        return False


def sealed_class(pickler: ParcelPickler, kind: type) -> Any:
    """The reduction of `kind` for comparing; adds to the pickler what the class needs. Raises as pickling its parts does."""
    known = pickler.scope.classes
    if kind not in known:
        known[kind] = _seal(pickler, kind)
    digest, needs, modules = known[kind]
    pickler.needs |= needs
    pickler.modules |= modules
    return call["make_class"], (digest,)


def _seal(pickler: ParcelPickler, kind: type) -> tuple[bytes, set[str], set[str]]:
    digest = _Digest()
    inner = type(pickler)(digest, pickler.scope, digest.buffer, seal=True)
    inner.whole = True
    try:
        inner.dump(kind)
    finally:
        pickler.last = inner.last
    return digest.head.digest(), inner.needs, inner.modules
