"""Instances of classes that the notebook sent: their attributes, under the name of the class."""

from __future__ import annotations

import contextlib
import enum
import types
from collections.abc import Callable, Iterator
from typing import Any

from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["reducer"]

_FILLED = (dict, list, set)
_WHOLE = (tuple, str, int, float, bytes, frozenset, complex)


def reducer(kind: type, name: str) -> Callable[[Any, Sender], Reduction]:
    """The reducer of instances of `kind`, which the notebook sent under `name`."""
    if hasattr(kind, "__del__"):
        raise Unsupported(f"an instance of {name}, which has a __del__")
    if issubclass(kind, enum.Enum):
        return lambda value, _: _member(value, name)
    if issubclass(kind, Exception):
        return lambda value, _: build("error", name, value.args, then=("fill", (_attributes(value), None)))
    whole = next((base for base in kind.__mro__ if base in _WHOLE), None)
    if whole is not None:
        return lambda value, _: build("whole", name, _plain(whole, value), then=("fill", (_attributes(value), None)))
    filled = next((base for base in kind.__mro__ if base in _FILLED), None)
    return lambda value, _: build("instance", name, then=("fill", (_attributes(value), filled and _plain(filled, value))))


def _member(value: enum.Enum, name: str) -> Reduction:
    if type(value).__members__.get(str(value.name)) is value:
        return build("member", name, value.name)
    if isinstance(value, enum.Flag):
        return build("flags", name, value.value)
    raise Unsupported(f"a member of {name} without a name")


def _plain(base: Any, value: Any) -> Any:
    """What an instance holds, as the builtin type that its class is built on; no method of the class is called."""
    if base is dict:
        return dict(dict.items(value))
    if base in (list, set, tuple, frozenset):
        return base(base.__iter__(value))
    if base is str:
        return str.__str__(value)
    if base is bytes:
        return bytes.__getitem__(value, slice(None))
    return base.__pos__(value)


def _attributes(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__):
        found.update(_slots(kind, value))
    with contextlib.suppress(AttributeError):  # it has slots only
        found.update(object.__getattribute__(value, "__dict__"))
    return found


def _slots(kind: type, value: Any) -> Iterator[tuple[str, Any]]:
    if "__slots__" not in vars(kind):
        return
    for name, slot in vars(kind).items():
        if isinstance(slot, types.MemberDescriptorType):
            try:
                yield name, slot.__get__(value)
            except AttributeError:  # never set
                continue
