"""numpy's arrays, scalars and dtypes. Looked for only where numpy is loaded already."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["Writable", "find", "ndarray", "writable"]

_PLAIN_KINDS = frozenset("biufcmMSUV")


class Writable:
    """An array that is a part of something else, whose memory must be writable over there whatever this view of it says."""

    def __init__(self, array: Any) -> None:
        self.array = array


def writable(value: Writable, sender: Sender) -> Reduction:
    """The array itself."""
    array = value.array.view()
    with contextlib.suppress(ValueError):  # it is read-only all the way down: then it is copied over there
        array.flags.writeable = True
    return ndarray(array, sender, read_only=False)


def find(kind: type) -> Callable[[Any, Sender], Reduction] | None:
    """The reducer of a type of numpy's."""
    np: Any = sys.modules["numpy"]
    exact: dict[type, Callable[[Any, Sender], Reduction]] = {
        np.ndarray: ndarray,
        np.memmap: ndarray,
        np.ma.MaskedArray: _masked,
        type(np.ma.masked): lambda _value, _sender: build("masked_constant"),
        np.recarray: lambda value, _: build("view_as", "recarray", _bare(value)),
        np.matrix: lambda value, _: build("view_as", "matrix", _bare(value)),
    }
    if kind in exact:
        return exact[kind]
    if issubclass(kind, np.dtype):
        return _dtype
    if issubclass(kind, np.generic) and kind.__module__ == "numpy" and kind is not np.record:
        return _scalar
    return None


def described(dtype: Any) -> Any:
    """A dtype as the laptop's constructors read it; raises `Unsupported` where its values are not plain memory."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ("sub", described(base), tuple(shape))
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        titles = [field[2] if len(field) > 2 else None for field in fields]  # noqa: PLR2004  dtype, offset, title
        return (
            "struct",
            list(dtype.names),
            [described(field[0]) for field in fields],
            [int(field[1]) for field in fields],
            titles if any(titles) else None,
            dtype.itemsize,
            bool(dtype.isalignedstruct),
        )
    if dtype.kind not in _PLAIN_KINDS or dtype.hasobject or not dtype.type.__module__.startswith("numpy"):
        raise Unsupported(f"an array of {dtype}")
    return str(dtype.str)


def _bare(value: Any) -> Any:
    """The same memory as a plain ndarray."""
    np: Any = sys.modules["numpy"]
    found = value.view(np.ndarray)
    if found.dtype.type is np.record:
        found = found.view(np.dtype((np.void, found.dtype)))
    return found


def _gap(dtype: Any) -> str:
    """How numpy's variable-width strings show a missing one: "None", "nan", or "" where none can be missing."""
    gap = getattr(dtype, "na_object", "")
    if gap is None or (isinstance(gap, float) and gap != gap) or not hasattr(dtype, "na_object"):  # noqa: PLR0124  a nan
        return str(gap)
    raise Unsupported(f"an array of {dtype}")


def ndarray(value: Any, sender: Sender, *, read_only: bool | None = None) -> Reduction:
    """An array: its memory, or its objects one by one."""
    np: Any = sys.modules["numpy"]
    dtype = value.dtype
    if dtype.kind == "T":
        items = [item if isinstance(item, str) else None for item in value.ravel().tolist()]
        return build("strings", value.shape, items, _gap(dtype), bool(dtype.coerce))
    if dtype.kind == "O":
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        return build("objects", value.shape, order, then=("objects_fill", value.ravel(order).tolist()))
    description = described(dtype)
    free = bool(value.flags.writeable) if read_only is None else not read_only
    if not value.flags.forc:
        sender.reserve(value.nbytes)
        value = value.copy(order="K")
        if not value.flags.forc:
            value = np.ascontiguousarray(value)
    order = "C" if value.flags.c_contiguous else "F"
    if not value.nbytes:
        return build("ndarray", b"", description, value.shape, order, free)
    flat = np.asarray(value if order == "C" else value.T).reshape(-1).view(np.uint8)
    return build("ndarray", sender.memory(memoryview(flat), writable=free), description, value.shape, order, free)


def _scalar(value: Any, _: Sender) -> Reduction:
    np: Any = sys.modules["numpy"]
    memory = np.asarray(value)
    return build("scalar", memory.tobytes(), described(memory.dtype))


def _dtype(value: Any, _: Sender) -> Reduction:
    if value.kind == "O":
        return build("object_dtype")
    return build("dtype", described(value))


def _masked(value: Any, _: Sender) -> Reduction:
    np: Any = sys.modules["numpy"]
    mask = None if value.mask is np.ma.nomask else np.asarray(value.mask)
    fill = None if value._fill_value is None else np.asarray(value._fill_value)  # noqa: SLF001  None says that it was never set
    return build("masked", np.asarray(value.data), mask, fill, bool(value.hardmask))
