"""The standard library's values."""

from __future__ import annotations

import array
import builtins
import collections
import datetime as dt
import decimal
import fractions
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["PLAIN"]

_CLASSES = frozenset(
    {bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object, range, set, slice, str, tuple, type(None)}
)
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
_NO_ERRORS = (StopIteration, StopAsyncIteration, *((builtins.BaseExceptionGroup,) if hasattr(builtins, "BaseExceptionGroup") else ()))


def _class(value: type, _: Sender) -> Reduction:
    if value in _CLASSES:
        return build("class", value.__name__)
    if value.__module__ == "numpy" and value.__name__ in _SCALAR_TYPES:
        return build("scalar_type", value.__name__)
    if value.__module__ == "numpy" and value.__name__ == "bool":
        return build("scalar_type", "bool_")
    raise Unsupported("a class")


def _time(value: dt.time, _: Sender) -> Reduction:
    return build("time", value.hour, value.minute, value.second, value.microsecond, value.tzinfo, value.fold)


def _datetime(value: dt.datetime, _: Sender) -> Reduction:
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return build("datetime", *parts, value.tzinfo, value.fold)


def _timezone(value: dt.timezone, _: Sender) -> Reduction:
    arguments = value.__getinitargs__()  # type: ignore[attr-defined]
    return build("timezone", arguments[0], arguments[1] if len(arguments) > 1 else None)


def _zone(value: zoneinfo.ZoneInfo, _: Sender) -> Reduction:
    if value.key is None:
        raise Unsupported("a time zone without a name")
    return build("zone", value.key)


def _array(value: array.array[Any], sender: Sender) -> Reduction:
    if value.typecode in "uw":
        raise Unsupported("an array of characters")
    return build("array", value.typecode, value.itemsize, sender.memory(memoryview(value).cast("B")))


def _deque(value: collections.deque[Any], _: Sender) -> Reduction:
    return build("container", "deque", value.maxlen, then=("contents", list(value)))


def _mapping(value: dict[Any, Any], _: Sender) -> Reduction:
    factory = value.default_factory if isinstance(value, collections.defaultdict) else None
    if factory is not None and factory not in _CLASSES:
        raise Unsupported("a defaultdict with a function of its own")
    return build("container", type(value).__name__, factory, then=("contents", dict(value)))


def _namespace(value: types.SimpleNamespace, _: Sender) -> Reduction:
    return build("container", "SimpleNamespace", None, then=("contents", dict(vars(value))))


def _proxy(value: types.MappingProxyType[Any, Any], _: Sender) -> Reduction:
    return build("mappingproxy", dict(value))


def _exception(value: Exception, _: Sender) -> Reduction:
    arguments = value.args
    if isinstance(value, OSError) and value.filename is not None and len(arguments) == 2:  # noqa: PLR2004  errno, text
        arguments = (*arguments, value.filename)
    return build("exception", type(value).__name__, arguments, list(getattr(value, "__notes__", ())))


def _errors() -> list[type]:
    kinds = [kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return [kind for kind in kinds if not issubclass(kind, _NO_ERRORS)]


PLAIN: dict[type, Callable[[Any, Sender], Reduction]] = {
    type: _class,
    type(Ellipsis): lambda _value, _sender: build("constant", "Ellipsis"),
    type(NotImplemented): lambda _value, _sender: build("constant", "NotImplemented"),
    complex: lambda value, _: build("complex", value.real, value.imag),
    range: lambda value, _: build("range", value.start, value.stop, value.step),
    slice: lambda value, _: build("slice", value.start, value.stop, value.step),
    dt.date: lambda value, _: build("date", value.year, value.month, value.day),
    dt.time: _time,
    dt.datetime: _datetime,
    dt.timedelta: lambda value, _: build("timedelta", value.days, value.seconds, value.microseconds),
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone,
    decimal.Decimal: lambda value, _: build("decimal", str(value)),
    fractions.Fraction: lambda value, _: build("fraction", value.numerator, value.denominator),
    uuid.UUID: lambda value, _: build("uuid", value.int),
    pathlib.PosixPath: lambda value, _: build("path", "path", str(value)),
    pathlib.WindowsPath: lambda value, _: build("path", "path", str(value)),
    pathlib.PurePosixPath: lambda value, _: build("path", "posix", str(value)),
    pathlib.PureWindowsPath: lambda value, _: build("path", "windows", str(value)),
    re.Pattern: lambda value, _: build("pattern", value.pattern, int(value.flags & ~re.DEBUG)),
    array.array: _array,
    collections.deque: _deque,
    collections.OrderedDict: _mapping,
    collections.Counter: _mapping,
    collections.defaultdict: _mapping,
    types.SimpleNamespace: _namespace,
    types.MappingProxyType: _proxy,
    **dict.fromkeys(_errors(), _exception),
}
"""Reducers by exact type."""
