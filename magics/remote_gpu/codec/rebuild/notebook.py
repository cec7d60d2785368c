"""Instances of the classes that the notebook itself defined: found by the name under which the class was sent, never by another.

No code of the class runs: an empty instance is made by the builtin type that it is built on, and its attributes are set. What
its methods later do with attributes that a node chose is the notebook's own code, so a class with a ``__del__`` is left out.
"""

from __future__ import annotations

import builtins
import enum
import types
from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, text

__all__ = ["NOTEBOOK", "Context"]

_FILLED: tuple[type, ...] = (dict, list, set)
_WHOLE: tuple[type, ...] = (tuple, str, int, float, bytes, frozenset, complex)
_ERRORS: tuple[type, ...] = tuple(kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, Exception))


class Context:
    """What the constructors share while one parcel is decoded: the notebook's classes, and the instances still to be filled."""

    def __init__(self, classes: Mapping[str, type], size: int) -> None:
        self._classes = classes
        self._left = size
        self._empty: dict[int, Any] = {}

    def find(self, name: object) -> type:
        """The notebook's class that was sent under `name`."""
        found = self._classes.get(text(name))
        if not isinstance(found, type):
            raise UnsafeValue(f"The node sent an instance of {name!r}, which is no class that this notebook sent.")
        if hasattr(found, "__del__"):
            raise UnsafeValue(f"Instances of {name!r} are not built from a node's data: the class has a __del__.")
        return found

    def spend(self, count: int) -> None:
        """Make room for `count` objects, of which there are no more than bytes that came."""
        self._left -= count
        if self._left < 0:
            raise UnsafeValue("The node announced more objects than it sent.")

    def begin(self, value: Any) -> Any:
        """Remember `value` as one that the node has yet to fill, once."""
        self._empty[id(value)] = value
        return value

    def take(self, value: Any) -> Any:
        """`value`, which must be one that waits to be filled; from now on it does not."""
        if self._empty.pop(id(value), None) is not value or value is None:
            raise UnsafeValue("The node asked to change an object that is complete.")
        return value

    def finish(self) -> None:
        """Raise `UnsafeValue` when an object was begun and never filled."""
        if self._empty:
            raise UnsafeValue("An object that the node sent is not complete.")


def _built_on(kind: type, allowed: tuple[type, ...]) -> type:
    return next((each for each in kind.__mro__ if each in allowed), object)


def instance(context: Context, name: object) -> Any:
    """An empty instance of a class of the notebook; dicts, lists and sets are filled later, too."""
    kind = context.find(name)
    if issubclass(kind, (*_WHOLE, enum.Enum, type, BaseException)):
        raise UnsafeValue(f"An instance of {name!r} is not built in this way.")
    base: Any = _built_on(kind, _FILLED)
    return context.begin(base.__new__(kind))


def error(context: Context, name: object, arguments: object) -> Any:
    """An exception of a class of the notebook, with its arguments."""
    kind = context.find(name)
    if not issubclass(kind, Exception):
        raise UnsafeValue(f"{name!r} is no exception.")
    base: Any = _built_on(kind, _ERRORS)
    made = base.__new__(kind)
    BaseException.args.__set__(made, exactly(arguments, tuple))  # type: ignore[attr-defined]
    return context.begin(made)


def whole(context: Context, name: object, value: object) -> Any:
    """An instance of a class of the notebook that is built on an immutable type, such as a named tuple."""
    kind = context.find(name)
    base: Any = _built_on(kind, _WHOLE)
    if base is object or issubclass(kind, enum.Enum):
        raise UnsafeValue(f"An instance of {name!r} is not built in this way.")
    return context.begin(base.__new__(kind, exactly(value, base)))


def fill(context: Context, target: object, state: object) -> None:
    """Give an instance that `instance`, `whole` or `error` made its attributes, and what it holds."""
    made = context.take(target)
    attributes, content = exactly(state, tuple)
    for name, value in exactly(attributes, dict).items():
        _set(made, text(name), value)
    if content is None:
        return
    base: Any = _built_on(type(made), _FILLED)
    if base is dict:
        dict.update(made, exactly(content, dict))
    elif base is list:
        list.extend(made, exactly(content, list))
    elif base is set:
        set.update(made, exactly(content, set))
    else:
        raise UnsafeValue("Items came for an object that holds none.")


def _set(target: Any, name: str, value: Any) -> None:
    for kind in type(target).__mro__:
        found = kind.__dict__.get(name)
        if isinstance(found, types.MemberDescriptorType):  # a slot
            found.__set__(target, value)
            return
    object.__getattribute__(target, "__dict__")[name] = value


def member(context: Context, name: object, member_name: object) -> Any:
    """A member of an enum of the notebook, by its name."""
    kind = context.find(name)
    if not issubclass(kind, enum.Enum):
        raise UnsafeValue(f"{name!r} is no enum.")
    return kind.__members__[text(member_name)]


def flags(context: Context, name: object, value: object) -> Any:
    """A combination of the members of a flag of the notebook."""
    kind = context.find(name)
    if not issubclass(kind, enum.Flag):
        raise UnsafeValue(f"{name!r} is no flag.")
    return kind(exactly(value, int))


NOTEBOOK: dict[str, Callable[..., Any]] = {
    "instance": instance,
    "error": error,
    "whole": whole,
    "fill": fill,
    "member": member,
    "flags": flags,
}
