"""numpy arrays as raw memory and a few words about it: no copy when they are in one piece, one when they are not."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import xxhash

from remote_gpu.codec.standins import call

if TYPE_CHECKING:
    from remote_gpu.codec.pickler import ParcelPickler

__all__ = ["array_key", "raw", "reduce_array", "reduce_masked", "reduce_memory_map", "spread_axes"]

_PIECE = 4 * 1024**2
"""Bytes of an array in many pieces that are copied at a time for comparing."""


def reduce_array(pickler: ParcelPickler, array: Any) -> Any:
    """An exact `numpy.ndarray`: its memory out of band, its order kept."""
    if array.dtype.hasobject:
        return NotImplemented
    pickler.modules.add("numpy")
    if pickler.seal:
        pickler.sealed_size += array.nbytes
        return call["array"], array_key(array)
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return _whole(array, "C" if flags.c_contiguous else "F")
    import numpy as np

    narrow, repeated = _without_repeats(array)
    if repeated:
        return call["broadcast"], (narrow, array.shape)
    axes, back = spread_axes(array.strides)
    dense = np.ascontiguousarray(array.transpose(axes))
    return call["transposed"], (dense, back)


def _whole(array: Any, order: str) -> Any:
    dtype = array.dtype
    plain = dtype.isbuiltin == 1 or dtype.kind in "mMSU"
    plain = plain and dtype.metadata is None
    return call["array"], (pickle.PickleBuffer(raw(array)), dtype.str if plain else dtype, array.shape, order)


def raw(array: Any) -> Any:
    """The memory of an array in one piece, as an array of bytes."""
    import numpy as np

    if array.size == 0 or array.itemsize == 0:
        return np.zeros(0, np.uint8)
    lying = array if array.flags.c_contiguous else array.T
    return lying.reshape(-1).view(np.ndarray).view(np.uint8)


def spread_axes(strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes from the widest stride to the narrowest, and the order that undoes it."""
    axes = tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis])))
    return axes, tuple(axes.index(axis) for axis in range(len(axes)))


def _without_repeats(array: Any) -> tuple[Any, bool]:
    """The array with each repeated axis (stride 0) cut to one; such an array may be far larger than its memory."""
    repeats = [stride == 0 and length > 1 for stride, length in zip(array.strides, array.shape, strict=True)]
    if not any(repeats) or array.flags.writeable:
        return array, False
    return array[tuple(slice(0, 1) if each else slice(None) for each in repeats)], True


def reduce_memory_map(pickler: ParcelPickler, array: Any) -> Any:
    """A memory-mapped file: over there it is an array in memory."""
    import numpy as np

    return reduce_array(pickler, array.view(np.ndarray))


def reduce_masked(_: ParcelPickler, array: Any) -> Any:
    """A masked array: data and mask as arrays of their own."""
    import numpy as np

    if array.dtype.hasobject or array.dtype.names is not None:
        return NotImplemented
    mask = None if array._mask is np.ma.nomask else array._mask.view(np.ndarray)
    return call["masked"], (array._data.view(np.ndarray), mask, array._fill_value, array._hardmask)


def array_key(array: Any) -> tuple[Any, ...]:
    """What tells the content of an array that holds no objects: (dtype, shape, order, writable, XXH3-128 of its memory)."""
    flags, dtype = array.flags, array.dtype
    about = dtype.str if dtype.names is None and dtype.kind != "V" else repr(dtype)
    if flags.c_contiguous:
        return about, array.shape, "C", flags.writeable, xxhash.xxh3_128_digest(raw(array))
    if flags.f_contiguous:
        return about, array.shape, "F", flags.writeable, xxhash.xxh3_128_digest(raw(array))
    narrow, _ = _without_repeats(array)
    axes, back = spread_axes(narrow.strides)
    return about, array.shape, back, flags.writeable, _in_pieces(narrow.transpose(axes))


def _in_pieces(array: Any) -> bytes:
    """The digest of an array in many pieces, of which only a part is copied at a time."""
    import numpy as np

    seal = xxhash.xxh3_128()
    todo = [array]
    while todo:
        part = todo.pop()
        if part.nbytes > _PIECE and part.ndim and len(part) > 1:
            step = max(1, len(part) * _PIECE // part.nbytes)
            todo += [part[at : at + step] for at in reversed(range(0, len(part), step))] if step < len(part) else []
        elif part.nbytes > _PIECE and part.ndim > 1:
            todo.append(part[0])
        else:
            seal.update(raw(np.ascontiguousarray(part)))
    return seal.digest()
