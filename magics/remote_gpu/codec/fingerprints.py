"""Tells whether a value has changed since it was sent, from its content: a value that was changed in place is seen.

A false "changed" is possible and costs a transfer; a false "same" needs two contents with the same XXH3-128.
"""

from __future__ import annotations

import functools
import pickle
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import xxhash

from remote_gpu.codec.arrays import array_key
from remote_gpu.codec.deep import is_recursion, with_deep_stack
from remote_gpu.codec.pickler import ParcelPickler, Scope
from remote_gpu.codec.reasons import CannotCross, explain

__all__ = ["Fingerprint", "fingerprint"]

_LONG = 4096
_NOTHING: frozenset[str] = frozenset()
_NOTHING_SHARED: frozenset[int] = frozenset()


@dataclass(slots=True)  # not frozen: that costs more than the rest of a number's fingerprint
class Fingerprint:
    """`key` compares with ``==``. `needs` are global names of the notebook that functions inside the value use, `modules` those
    whose classes and functions are referred to by name, `size` about how many bytes the value has (0 for a number), `objects`
    the ids of what other values may share with it (tensors, instances).
    """

    key: object
    needs: frozenset[str] = _NOTHING
    modules: frozenset[str] = _NOTHING
    size: int = 0
    objects: frozenset[int] = _NOTHING_SHARED


def fingerprint(value: Any, scope: Scope) -> Fingerprint:
    """The fingerprint of `value` as it is now. Raises `CannotCross` when it cannot be sent, with the reason in words."""
    kind = type(value)
    if kind is int or kind is bool or value is None or kind is type(Ellipsis):
        return Fingerprint((kind, value))
    if kind is str or kind is bytes:
        return Fingerprint((kind, value) if len(value) < _LONG else (kind, len(value), hash(value)), size=len(value))
    if kind is float:
        return Fingerprint((kind, value) if value else (kind, str(value)))  # 0.0 and -0.0 are equal, and not the same
    if kind is ModuleType and _is_importable(value, scope):
        return Fingerprint((kind, value.__name__), modules=frozenset({value.__name__}))
    if kind is complex:
        return Fingerprint((kind, repr(value)))
    if kind.__name__ == "ndarray" and kind.__module__ == "numpy" and not value.dtype.hasobject:
        return Fingerprint((kind, array_key(value)), modules=_NUMPY, size=value.nbytes)
    return _pickled(value, scope)


def _is_importable(module: ModuleType, scope: Scope) -> bool:
    return vars(module) is not scope.namespace and sys.modules.get(module.__name__) is module


_NUMPY = frozenset({"numpy"})


class _Digest:
    """A file that keeps no more of what is written to it than a digest; likewise of the buffers."""

    __slots__ = ("buffers", "head", "size")

    def __init__(self) -> None:
        self.head = xxhash.xxh3_128()
        self.buffers: Any = None
        self.size = 0

    def write(self, data: bytes) -> int:
        size = len(data)
        self.head.update(data)
        self.size += size
        return size

    def buffer(self, buffer: pickle.PickleBuffer) -> bool:
        if self.buffers is None:
            self.buffers = xxhash.xxh3_128()
        with buffer.raw() as view:
            self.buffers.update(view.nbytes.to_bytes(8, "little"))
            self.buffers.update(view)
            self.size += view.nbytes
        return False


def _pickled(value: Any, scope: Scope, *, deep: bool = False) -> Fingerprint:
    digest = _Digest()
    pickler = ParcelPickler(digest, scope, digest.buffer, seal=True)
    try:
        pickler.dump(value)
    except Exception as error:
        if is_recursion(error) and not deep:
            return with_deep_stack(functools.partial(_pickled, value, scope, deep=True))
        raise _refusal(value, error, pickler.last, scope) from error
    return _made(value, digest, pickler)


def _made(value: Any, digest: _Digest, pickler: ParcelPickler) -> Fingerprint:
    key = (type(value), digest.head.digest(), digest.buffers.digest() if digest.buffers is not None else b"")
    return Fingerprint(
        key, frozenset(pickler.needs), frozenset(pickler.modules), digest.size + pickler.sealed_size, frozenset(pickler.objects)
    )


def _refusal(value: Any, error: BaseException, last: object, scope: Scope) -> CannotCross:
    name = next((name for name, each in scope.namespace.items() if each is value), "")
    return CannotCross(explain(value, error, last, name), culprit=getattr(error, "culprit", last))
