"""Values of the notebook as one parcel for a node: a stream of pickles, and raw memory beside it that is not copied.

All values share one pickler, so two names for one object stay one, and cycles across names work. A value that cannot cross is
left out with the reason; the rest crosses.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote_gpu.codec.deep import is_recursion, with_deep_stack
from remote_gpu.codec.pickler import ParcelPickler, Scope
from remote_gpu.codec.reasons import CannotCross, explain

__all__ = ["CannotCross", "Encoded", "Scope", "encode"]

_OWN_BUFFER_FROM = 8 * 1024
"""Bytes from which memory goes beside the stream; less is copied into it, as each buffer costs a little."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A parcel. `buffers` are contiguous bytes, in the order of the stream; they are the values' own memory, not copies."""

    head: bytes
    buffers: tuple[memoryview, ...]
    names: tuple[str, ...]
    refused: dict[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()


class _Failed(Exception):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name)
        self.name = name
        self.reason = reason


class _TooDeep(Exception):
    pass


class _Nowhere:
    """A file for trying whether something can be pickled."""

    def write(self, data: Any) -> int:
        return len(data)


def encode(values: Mapping[str, object], scope: Scope) -> Encoded:
    """The parcel of `values`, in their order. Never raises for a value: `Encoded.refused` has the reasons by name."""
    try:
        return _encode(values, scope, deep=False)
    except _TooDeep:
        return with_deep_stack(lambda: _encode(values, scope, deep=True))


def _encode(values: Mapping[str, object], scope: Scope, *, deep: bool) -> Encoded:
    refused: dict[str, str] = {}
    while True:
        names = [name for name in values if name not in refused]
        try:
            return _encoded(values, names, scope, refused, deep=deep)
        except _Failed as failed:
            # A pickler that has failed cannot go on: the others are tried alone, so that there is one new start, not one for each.
            refused[failed.name] = failed.reason
            refused.update(_alone(values, names[names.index(failed.name) + 1 :], scope, deep=deep))


def _alone(values: Mapping[str, object], names: Sequence[str], scope: Scope, *, deep: bool) -> dict[str, str]:
    refused = {}
    for name in names:
        pickler = ParcelPickler(_Nowhere(), scope, lambda _: None)
        try:
            _dump(pickler, name, values[name], deep=deep)
        except _Failed as failed:
            refused[name] = failed.reason
    return refused


def _encoded(values: Mapping[str, object], names: Sequence[str], scope: Scope, refused: dict[str, str], *, deep: bool) -> Encoded:
    file = io.BytesIO()
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _OWN_BUFFER_FROM:
            return True
        buffers.append(view)
        return False

    pickler = ParcelPickler(file, scope, keep)
    for name in names:
        _dump(pickler, name, values[name], deep=deep)
    needs, modules = frozenset(pickler.needs), frozenset(pickler.modules)
    return Encoded(file.getvalue(), tuple(buffers), tuple(names), refused, needs, modules)


def _dump(pickler: ParcelPickler, name: str, value: object, *, deep: bool) -> None:
    pickler.last = None
    try:
        pickler.dump(value)
    except Exception as error:
        if is_recursion(error) and not deep:
            raise _TooDeep from error
        raise _Failed(name, explain(value, error, pickler.last, name)) from error
