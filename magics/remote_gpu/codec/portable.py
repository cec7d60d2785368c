"""Classes for another version of Python: what a library generated has no source text, so the node generates it again."""

from __future__ import annotations

import collections
import dataclasses
import inspect
import types
from typing import Any

__all__ = ["is_named_tuple", "named_tuple", "portable"]

_OWN_TO_A_VERSION = frozenset({"__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__"})
_FIELD_OPTIONS = ("default", "default_factory", "init", "repr", "hash", "compare", "metadata", "kw_only")
_REPLACE: Any = getattr(dataclasses, "_replace", None)  # what each dataclass has as __replace__, from Python 3.13
_PARAMETERS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_OF_NAMED_TUPLES = frozenset(vars(collections.namedtuple("_Any", ()))) | {"__orig_bases__", "__replace__"}  # noqa: PYI024  for its parts


def portable(kind: type, state: Any) -> Any:
    """The parts of `kind`; those of a dataclass are told as its fields and options, under ``__dataclass_params__``."""
    attributes = {name: value for name, value in state[0].items() if name not in _OWN_TO_A_VERSION}
    if "__dataclass_params__" in kind.__dict__:
        attributes = {name: value for name, value in attributes.items() if not _generated(value)}
        del attributes["__dataclass_fields__"]
        attributes["__dataclass_params__"] = _dataclass(kind)
    return attributes, state[1]


def _generated(value: Any) -> bool:
    inner = getattr(value, "__wrapped__", value)
    return isinstance(inner, types.FunctionType) and (inner.__code__.co_filename == "<string>" or inner is _REPLACE)


def _dataclass(kind: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    own = inspect.get_annotations(kind)
    fields = {name: _field(field) for name, field in kind.__dataclass_fields__.items() if name in own}
    return {name: getattr(kind.__dataclass_params__, name) for name in _PARAMETERS}, fields


def _field(field: Any) -> dict[str, Any]:
    told = {name: getattr(field, name) for name in _FIELD_OPTIONS}
    return {name: dict(value) if name == "metadata" else value for name, value in told.items() if value is not dataclasses.MISSING}


def is_named_tuple(kind: type) -> bool:
    """Whether `kind` was made by `collections.namedtuple` or as a `typing.NamedTuple`."""
    return kind.__bases__ == (tuple,) and "_field_defaults" in kind.__dict__


def named_tuple(kind: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What `collections.namedtuple` takes, and the attributes that `kind` has beside."""
    defaults = tuple(kind._field_defaults.values())
    others = {name: value for name, value in vars(kind).items() if name not in _OF_NAMED_TUPLES and name not in kind._fields}
    others["__doc__"] = kind.__doc__
    return (kind.__name__, kind._fields, defaults, kind.__module__), others
