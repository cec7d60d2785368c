"""scipy's sparse matrices. Their indices are checked one by one: scipy's own loops would follow wrong ones out of the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remote_gpu.rebuild.arrays import array_of
from remote_gpu.rebuild.checks import UnsafeValue, exactly, natural, one_of
from remote_gpu.rebuild.notebook import Context

__all__ = ["SPARSE"]

_COMPRESSED = ("csr", "csc", "bsr")
_FORMATS = (*_COMPRESSED, "coo", "dia", "lil", "dok")


def sparse(_: Context, form: object, is_array: object, shape: object, parts: object) -> Any:
    """A sparse matrix or array, of any of scipy's formats."""
    from scipy import sparse as library

    chosen = one_of(form, *_FORMATS)
    sides = tuple(natural(side) for side in exactly(shape, tuple))
    values, *places = [array_of(part) for part in exactly(parts, list)]
    if values.dtype.kind not in "biufc" or any(place.dtype.kind not in "iu" or place.ndim != 1 for place in places):
        raise UnsafeValue("A sparse matrix consists of something else than numbers and places.")
    stored = {"lil": "csr", "dok": "coo"}.get(chosen, chosen)
    kind = getattr(library, f"{stored}_{'array' if exactly(is_array, bool) else 'matrix'}")
    if stored in _COMPRESSED:
        made = kind((values, *places), shape=sides, copy=False)
        made.check_format(full_check=True)
    elif stored == "coo":
        made = kind((values, tuple(places)), shape=sides, copy=False)
    else:
        made = kind((values, *places), shape=sides, copy=False)
    return made if stored == chosen else made.asformat(chosen)


SPARSE: dict[str, Callable[..., Any]] = {"sparse": sparse}
