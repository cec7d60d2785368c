"""scipy's sparse matrices and arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.arrays import Writable
from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["find"]

_COMPRESSED = ("csr", "csc", "bsr")


def find(kind: type) -> Callable[[Any, Sender], Reduction] | None:
    """The reducer of a type of scipy.sparse."""
    sparse: Any = sys.modules.get("scipy.sparse")
    if sparse is None or getattr(sparse, kind.__name__, None) is not kind:
        return None
    if not kind.__name__.endswith(("_matrix", "_array")) or kind.__name__[:3] not in (*_COMPRESSED, "coo", "dia", "lil", "dok"):
        return None
    return _matrix


def _matrix(value: Any, _: Sender) -> Reduction:
    form = value.format
    stored = value.tocsr() if form == "lil" else value.tocoo() if form == "dok" else value
    if stored.data.dtype.kind not in "biufc":
        raise Unsupported(f"a sparse matrix of {stored.data.dtype}")
    if stored.format in _COMPRESSED:
        used = int(stored.indptr[-1])  # scipy keeps room behind the last value
        parts = [stored.data[:used], stored.indices[:used], stored.indptr]
    elif stored.format == "coo":
        parts = [stored.data, *getattr(stored, "coords", (stored.row, stored.col))]
    else:
        parts = [stored.data, stored.offsets]
    shape = tuple(int(side) for side in value.shape)
    return build("sparse", form, type(value).__name__.endswith("_array"), shape, [Writable(part) for part in parts])
