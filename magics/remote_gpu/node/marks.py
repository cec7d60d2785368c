"""Marks: whether a cell has changed a value in place, told from a digest of it before and after.

Only values that could come back as values are looked at, up to a size: containers, arrays, tables and instances of the
notebook's own classes. What cannot be told apart cheaply has no mark, and counts as unchanged.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from typing import Any

__all__ = ["MARKED_BYTES", "mark"]

MARKED_BYTES = 4 * 1024**2
"""Values whose pickle is longer have no mark."""

_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), range, slice, type(Ellipsis)})
_CONTAINERS = frozenset({list, dict, set, bytearray})
_LIBRARIES = frozenset({"collections", "numpy", "pandas"})


class _TooLong(Exception):
    pass


class _Digest:
    """A file that keeps nothing of what is written to it but a digest."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._left = MARKED_BYTES

    def write(self, data: Any) -> int:
        size = len(data)
        self._left -= size
        if self._left < 0:
            raise _TooLong
        self._hash.update(data)
        return size

    def buffer(self, buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as view:
            self.write(view)
        return False

    @property
    def value(self) -> bytes:
        return self._hash.digest()


def mark(value: object) -> bytes | None:
    """The digest of `value` as it is now; None for what has none."""
    if not _marked(value):
        return None
    digest = _Digest()
    try:
        pickle.Pickler(digest, 5, buffer_callback=digest.buffer).dump(value)
    except Exception:  # noqa: BLE001  what a user's class raises here is not this cell's business
        return None
    return digest.value


def _marked(value: object) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return False
    if kind in _CONTAINERS:
        return len(value) * 2 <= MARKED_BYTES  # type: ignore[arg-type]
    size = getattr(value, "nbytes", 0)
    if isinstance(size, int) and size > MARKED_BYTES:
        return False
    module = str(kind.__module__)
    return module.partition(".")[0] in _LIBRARIES or (
        module == "__main__" and getattr(sys.modules["__main__"], kind.__name__, None) is kind
    )
