"""numpy's arrays, scalars and dtypes. An array is raw memory whose size must fit its shape exactly; objects come one by one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, natural, one_of, raw, text
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["ARRAYS", "array_of", "dtype_of"]

_SIMPLE = re.compile(r"[<>|][biufcmMSUV]\d{1,9}(\[\d{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
_MOST_AXES = 64
_DEEPEST = 20
_MOST_FIELDS = 10_000
_SCALAR_TYPES = frozenset(
    [
        "bool_",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "intp",
        "uintp",
        "float16",
        "float32",
        "float64",
        "longdouble",
        "complex64",
        "complex128",
        "clongdouble",
        "str_",
        "bytes_",
        "datetime64",
        "timedelta64",
        "void",
        "object_",
        "number",
        "integer",
        "floating",
        "generic",
    ]
)


def dtype_of(claimed: object, depth: int = 0) -> Any:
    """The dtype that the node describes: the string of a simple one, or the fields of a structure; never of objects."""
    import numpy as np

    if depth > _DEEPEST:
        raise UnsafeValue("A dtype is nested too deep.")
    if type(claimed) is str:
        if not _SIMPLE.fullmatch(claimed):
            raise UnsafeValue(f"{claimed[:50]!r} is no dtype whose values are plain memory.")
        return np.dtype(claimed)
    kind, *parts = exactly(claimed, tuple)
    if one_of(kind, "sub", "struct") == "sub":
        base, shape = parts
        return np.dtype((dtype_of(base, depth + 1), _shape(shape)))
    names, formats, offsets, titles, size, aligned = parts
    if len(exactly(names, list)) > _MOST_FIELDS:
        raise UnsafeValue("A dtype has too many fields.")
    fields = {
        "names": [text(name) for name in names],
        "formats": [dtype_of(each, depth + 1) for each in exactly(formats, list)],
        "offsets": [natural(each) for each in exactly(offsets, list)],
        "itemsize": natural(size, 1 << 31),
        "aligned": exactly(aligned, bool),
    }
    if titles is not None:
        fields["titles"] = [each if each is None else text(each) for each in exactly(titles, list)]
    made = np.dtype(fields)
    if made.hasobject:
        raise UnsafeValue("A dtype of plain memory holds objects.")
    return made


def _shape(claimed: object) -> tuple[int, ...]:
    shape = exactly(claimed, tuple)
    if len(shape) > _MOST_AXES:
        raise UnsafeValue("An array has too many axes.")
    return tuple(natural(each) for each in shape)


def array_of(value: object, *, axes: int | None = None) -> Any:
    """`value`, which must be a plain ndarray that was built here, with that many axes."""
    import numpy as np

    made = exactly(value, np.ndarray)
    if axes is not None and made.ndim != axes:
        raise UnsafeValue(f"An array of {axes} axes was expected, not of {made.ndim}.")
    return made


def dtype(_: Context, claimed: object) -> Any:
    """A dtype as a value."""
    return dtype_of(claimed)


def object_dtype(_: Context) -> Any:
    """The dtype of objects, as a value."""
    import numpy as np

    return np.dtype(object)


def ndarray(_: Context, memory: object, claimed: object, shape: object, order: object, writable: object) -> Any:
    """An array over `memory`, which is copied only where it is read-only and the array was not."""
    import numpy as np

    kind, sides, view = dtype_of(claimed), _shape(shape), raw(memory)
    if math.prod(sides) * kind.itemsize != view.nbytes:
        raise UnsafeValue("The memory of an array does not fit its shape.")
    if exactly(writable, bool) and view.readonly:
        view = memoryview(bytearray(view))
    made: Any = np.ndarray(sides, kind, buffer=view, order=one_of(order, "C", "F"))
    if not made.flags.aligned:
        made = made.copy(order="K")
    if not writable:
        made.flags.writeable = False
    return made


def objects(context: Context, shape: object, order: object) -> Any:
    """An array of objects, to be filled by `objects_fill`: its items may contain it."""
    import numpy as np

    sides = _shape(shape)
    context.spend(math.prod(sides))
    return context.begin(np.empty(sides, object, order=one_of(order, "C", "F")))


def objects_fill(context: Context, target: object, items: object) -> None:
    """Fill what `objects` made, in the order of its memory."""
    made, found = array_of(context.take(target)), exactly(items, list)
    if len(found) != made.size:
        raise UnsafeValue("An array of objects came with another number of objects.")
    flat = made.reshape(-1, order="A")
    for index, item in enumerate(found):
        flat[index] = item


_GAPS: Mapping[str, Mapping[str, Any]] = {"": {}, "None": {"na_object": None}, "nan": {"na_object": float("nan")}}


def strings(_: Context, shape: object, items: object, gap: object = "", coerce: object = True) -> Any:
    """An array of numpy's variable-width strings; `gap` is how it shows a missing one, which comes as None."""
    import numpy as np

    options = _GAPS.get(exactly(gap, str))
    if options is None:
        raise UnsafeValue("An array of strings came with an unknown sign for a missing one.")
    found = [options["na_object"] if item is None and options else exactly(item, str) for item in exactly(items, list)]
    return np.array(found, dtype=np.dtypes.StringDType(coerce=exactly(coerce, bool), **options)).reshape(_shape(shape))


def scalar(_: Context, memory: object, claimed: object) -> Any:
    """One numpy number, text, time or record."""
    import numpy as np

    kind, view = dtype_of(claimed), raw(memory)
    if view.nbytes != kind.itemsize:
        raise UnsafeValue("The memory of a number does not fit its dtype.")
    return np.ndarray((), kind, buffer=bytearray(view) or bytearray(1))[()]


def masked(_: Context, data: object, mask: object, fill_value: object, hard: object) -> Any:
    """A masked array."""
    import numpy as np

    values, hidden = array_of(data), mask if mask is None else array_of(mask)
    fill = None if fill_value is None else array_of(fill_value, axes=0)[()]
    made = np.ma.MaskedArray(values, mask=np.ma.nomask if hidden is None else hidden, copy=False)
    if fill is not None:
        made.fill_value = fill
    if exactly(hard, bool):
        made.harden_mask()
    return made


def masked_constant(_: Context) -> Any:
    """The masked constant."""
    import numpy as np

    return np.ma.masked


def view_as(_: Context, kind: object, data: object) -> Any:
    """The array as a record array or a matrix."""
    import numpy as np

    values = array_of(data)
    if one_of(kind, "recarray", "matrix") == "recarray":
        return values.view(np.recarray)
    return values.view(np.matrix)


def scalar_type(_: Context, name: object) -> type:
    """A class of numpy's scalars, as a value."""
    import numpy as np

    if text(name) not in _SCALAR_TYPES:
        raise UnsafeValue("The node named a class of numpy's that may not come.")
    found: type = getattr(np, str(name))
    return found


ARRAYS: dict[str, Callable[..., Any]] = {
    "dtype": dtype,
    "object_dtype": object_dtype,
    "ndarray": ndarray,
    "objects": objects,
    "objects_fill": objects_fill,
    "strings": strings,
    "scalar": scalar,
    "masked": masked,
    "masked_constant": masked_constant,
    "view_as": view_as,
    "scalar_type": scalar_type,
}
