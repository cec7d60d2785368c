"""The standard library's values: times, numbers, identifiers, paths, further containers, exceptions."""

from __future__ import annotations

import array as arrays
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

from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, natural, one_of, raw, text
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["CLASSES", "ERRORS", "PLAIN"]

CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object, range, set, slice, str, tuple, type(None))
}
"""Classes that may come as themselves: a dtype in a table of settings, the factory of a defaultdict."""

_LOCAL_MEANING = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)

ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (*_LOCAL_MEANING, BaseExceptionGroup))
}
"""Exceptions that come as themselves."""

_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,40}(/[A-Za-z0-9_+\-]{1,40}){0,3}")
_DECIMAL = re.compile(r"-?(\d+(\.\d*)?([eE][+-]?\d{1,18})?|Infinity|s?NaN\d*)", re.ASCII | re.IGNORECASE)
_LONGEST_PATTERN = 10_000
_PATTERN_FLAGS = int(re.ASCII | re.IGNORECASE | re.LOCALE | re.MULTILINE | re.DOTALL | re.UNICODE | re.VERBOSE)
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "path": pathlib.Path,
    "posix": pathlib.PurePosixPath,
    "windows": pathlib.PureWindowsPath,
}


def complex_(_: Context, real: object, imaginary: object) -> complex:
    """A complex number."""
    return complex(exactly(real, float), exactly(imaginary, float))


def range_(_: Context, start: object, stop: object, step: object) -> range:
    """A range."""
    return range(exactly(start, int), exactly(stop, int), exactly(step, int))


def slice_(_: Context, *bounds: object) -> slice:
    """A slice of numbers or labels."""
    if len(bounds) != 3 or any(type(each) not in (int, float, str, type(None), bool) for each in bounds):  # noqa: PLR2004  its three bounds
        raise UnsafeValue("A slice has three simple bounds.")
    return slice(*bounds)


def constant(_: Context, name: object) -> Any:
    """Ellipsis or NotImplemented."""
    return getattr(builtins, one_of(name, "Ellipsis", "NotImplemented"))


def class_(_: Context, name: object) -> type:
    """One of `CLASSES`."""
    return CLASSES[text(name)]


def date(_: Context, *parts: object) -> dt.date:
    """A date: year, month, day."""
    return dt.date(*(exactly(part, int) for part in parts))


def _zone(value: object) -> dt.tzinfo | None:
    if value is not None and type(value) not in (dt.timezone, zoneinfo.ZoneInfo):
        raise UnsafeValue("A time zone was expected.")
    return value  # type: ignore[return-value]


def time(_: Context, hour: object, minute: object, second: object, micro: object, zone: object, fold: object) -> dt.time:
    """A time of day."""
    h, m, s, us = (exactly(part, int) for part in (hour, minute, second, micro))
    return dt.time(h, m, s, us, _zone(zone), fold=exactly(fold, int))


def datetime_(_: Context, *parts: object) -> dt.datetime:
    """A date and time: seven numbers, the zone, the fold."""
    *numbers, zone, fold = parts
    year, month, day, h, m, s, us = (exactly(part, int) for part in numbers)
    return dt.datetime(year, month, day, h, m, s, us, _zone(zone), fold=exactly(fold, int))


def timedelta(_: Context, days: object, seconds: object, micros: object) -> dt.timedelta:
    """A span of time."""
    return dt.timedelta(exactly(days, int), exactly(seconds, int), exactly(micros, int))


def timezone(_: Context, offset: object, name: object) -> dt.timezone:
    """A fixed offset from UTC, with its name if it has one."""
    span = exactly(offset, dt.timedelta)
    if name is not None:
        return dt.timezone(span, text(name))
    return dt.timezone(span) if span else dt.UTC


def zone(_: Context, key: object) -> zoneinfo.ZoneInfo:
    """A time zone by its name, from this machine's tables."""
    if not _ZONE.fullmatch(text(key)):
        raise UnsafeValue(f"{str(key)[:50]!r} is no time zone.")
    return zoneinfo.ZoneInfo(str(key))


def decimal_(_: Context, digits: object) -> decimal.Decimal:
    """A decimal number, exact."""
    if not _DECIMAL.fullmatch(exactly(digits, str)):
        raise UnsafeValue("A decimal number was expected.")
    return decimal.Decimal(str(digits))


def fraction(_: Context, numerator: object, denominator: object) -> fractions.Fraction:
    """A fraction."""
    return fractions.Fraction(exactly(numerator, int), exactly(denominator, int))


def uuid_(_: Context, number: object) -> uuid.UUID:
    """A UUID, from its 128 bits."""
    return uuid.UUID(int=exactly(number, int))


def path(_: Context, kind: object, name: object) -> pathlib.PurePath:
    """A path, as words: nothing is looked up."""
    return _PATHS[text(kind)](exactly(name, str))


def array(_: Context, code: object, width: object, memory: object) -> arrays.array[Any]:
    """An array of the module `array`; `width` is the node's bytes per item, which must be ours."""
    made = arrays.array(one_of(code, *"bBhHiIlLqQfd"))
    if made.itemsize != width:
        raise UnsafeValue("The node's numbers have another width than ours.")
    made.frombytes(raw(memory))
    return made


def pattern(_: Context, source: object, flags: object) -> re.Pattern[Any]:
    """A regular expression, compiled here."""
    if not isinstance(source, str | bytes) or len(source) > _LONGEST_PATTERN:
        raise UnsafeValue("A regular expression of bounded length was expected.")
    chosen = natural(flags)
    if chosen & ~_PATTERN_FLAGS:
        raise UnsafeValue("A regular expression has a flag that it cannot come with.")
    return re.compile(source, chosen)


def container(context: Context, kind: object, argument: object) -> Any:
    """An empty container, to be filled by `contents`: its items may contain it."""
    match text(kind):
        case "deque":
            made: Any = collections.deque(maxlen=None if argument is None else natural(argument))
        case "OrderedDict":
            made = collections.OrderedDict()
        case "Counter":
            made = collections.Counter()
        case "defaultdict":
            if argument is not None and argument not in CLASSES.values():
                raise UnsafeValue("The factory of a defaultdict is none that may come.")
            factory: Any = argument
            made = collections.defaultdict(factory)
        case "SimpleNamespace":
            made = types.SimpleNamespace()
        case _:
            raise UnsafeValue("The node named a container that is none.")
    return context.begin(made)


def contents(context: Context, target: object, items: object) -> None:
    """Fill what `container` made."""
    made = context.take(target)
    if type(made) is collections.deque:
        made.extend(exactly(items, list))
    elif type(made) is types.SimpleNamespace:
        vars(made).update({text(name): value for name, value in exactly(items, dict).items()})
    elif type(made) in (collections.OrderedDict, collections.Counter, collections.defaultdict):
        dict.update(made, exactly(items, dict)) if type(made) is not collections.OrderedDict else made.update(exactly(items, dict))
    else:
        raise UnsafeValue("Items came for something that is no container.")


def mappingproxy(_: Context, content: object) -> types.MappingProxyType[Any, Any]:
    """A read-only view of a dict."""
    return types.MappingProxyType(exactly(content, dict))


def exception(_: Context, name: object, arguments: object, notes: object) -> Exception:
    """An exception of `ERRORS`, without its traceback."""
    made = ERRORS[text(name)](*exactly(arguments, tuple))
    for note in exactly(notes, list):
        made.add_note(exactly(note, str))
    return made


PLAIN: dict[str, Callable[..., Any]] = {
    "complex": complex_,
    "range": range_,
    "slice": slice_,
    "constant": constant,
    "class": class_,
    "date": date,
    "time": time,
    "datetime": datetime_,
    "timedelta": timedelta,
    "timezone": timezone,
    "zone": zone,
    "decimal": decimal_,
    "fraction": fraction,
    "uuid": uuid_,
    "path": path,
    "array": array,
    "pattern": pattern,
    "container": container,
    "contents": contents,
    "mappingproxy": mappingproxy,
    "exception": exception,
}
