"""scipy's sparse matrices. Their indices are checked one by one: scipy's own loops would follow wrong ones out of the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remote_gpu.codec.rebuild.arrays import array_of
from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, natural, one_of
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["SPARSE"]

_COMPRESSED = ("csr", "csc", "bsr")
_FORMATS = (*_COMPRESSED, "coo", "dia", "lil", "dok")


def sparse(_: Context, form: object, is_array: object, shape: object, parts: object) -> Any:
    """A sparse matrix or array, of any of scipy's formats."""
    from scipy import sparse as library

    chosen = one_of(form, *_FORMATS)
    sides = tuple(natural(side) for side in exactly(shape, tuple))
    values, *places = [array_of(part) for part in exactly(parts, list)]
    if values.dtype.kind not in "biufc" or any(str(place.dtype) not in ("int32", "int64") or place.ndim != 1 for place in places):
        raise UnsafeValue("A sparse matrix consists of something else than numbers and places.")
    stored = {"lil": "csr", "dok": "coo"}.get(chosen, chosen)
    if stored in _COMPRESSED:
        _check_compressed(stored, sides, values, *places)
    elif stored == "coo":
        _check_places(sides, values, places)
    elif len(sides) != 2 or (abs(places[0]) > max(sides)).any():  # noqa: PLR2004  a matrix
        raise UnsafeValue("A diagonal of a sparse matrix lies outside it.")
    kind = getattr(library, f"{stored}_{'array' if exactly(is_array, bool) else 'matrix'}")
    made = kind((values, tuple(places)) if stored == "coo" else (values, *places), shape=sides, copy=False)
    return made if stored == chosen else made.asformat(chosen)


def _check_compressed(form: str, sides: tuple[int, ...], values: Any, indices: Any, pointers: Any) -> None:
    """That each row (or column) is a part of the values, and each index within the other side."""
    rows, columns = (1, *sides) if len(sides) == 1 else sides
    if form == "csc":
        rows, columns = columns, rows
    if form == "bsr":
        rows, columns = (_blocks(side, block) for side, block in zip((rows, columns), values.shape[1:], strict=True))
    fits = len(pointers) == rows + 1 and pointers[0] == 0 and pointers[-1] == len(indices) == len(values)
    if not fits or (pointers[1:] < pointers[:-1]).any() or _outside(indices, columns):
        raise UnsafeValue("The indices of a sparse matrix lie outside it.")


def _blocks(side: int, block: int) -> int:
    if not block or side % block:
        raise UnsafeValue("The blocks of a sparse matrix do not fit its shape.")
    return side // block


def _check_places(sides: tuple[int, ...], values: Any, places: list[Any]) -> None:
    if len(places) != len(sides) or values.ndim != 1 or any(len(place) != len(values) for place in places):
        raise UnsafeValue("The places of a sparse matrix are not as many as its values.")
    if any(_outside(place, side) for place, side in zip(places, sides, strict=True)):
        raise UnsafeValue("The indices of a sparse matrix lie outside it.")


def _outside(indices: Any, side: int) -> bool:
    return bool(len(indices)) and (int(indices.min()) < 0 or int(indices.max()) >= side)


SPARSE: dict[str, Callable[..., Any]] = {"sparse": sparse}
