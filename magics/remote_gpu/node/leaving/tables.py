"""pandas' tables, indexes, extension arrays and scalars. Looked for only where pandas is loaded already."""

from __future__ import annotations

import datetime as dt
import sys
import zoneinfo
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.arrays import Writable
from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["find"]

_Reducer = Callable[[Any, Sender], Reduction]


def find(kind: type) -> _Reducer | None:
    """The reducer of a type of pandas'."""
    pd: Any = sys.modules["pandas"]
    found = {
        pd.DataFrame: _frame,
        pd.Series: _series,
        pd.RangeIndex: lambda value, _: build("range_index", value.start, value.stop, value.step, value.name),
        pd.MultiIndex: _multi_index,
        **dict.fromkeys((pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex, pd.IntervalIndex, pd.CategoricalIndex), _index),
        pd.Categorical: lambda value, _: build("categorical", Writable(value.codes), value.categories, bool(value.ordered)),
        pd.Timestamp: lambda value, _: build("timestamp", int(value.asm8.view("i8")), value.unit, zone_of(value.tzinfo)),
        pd.Timedelta: lambda value, _: build("pandas_timedelta", int(value.asm8.view("i8")), value.unit),
        pd.Period: lambda value, _: build("period", int(value.ordinal), value.freqstr),
        pd.Interval: lambda value, _: build("interval", value.left, value.right, value.closed),
        type(pd.NaT): lambda _value, _sender: build("missing", "NaT"),
        type(pd.NA): lambda _value, _sender: build("missing", "NA"),
        pd.CategoricalDtype: lambda value, _: build("categorical_dtype", value.categories, value.ordered),
        pd.DatetimeTZDtype: lambda value, _: build("zoned_dtype", value.unit, zone_of(value.tz)),
        pd.StringDtype: lambda value, _: build("string_dtype", value.storage, *_missing_text(value)),
        **_arrays(pd),
    }
    if kind not in found and kind.__name__ in _NUMBERS and getattr(pd, kind.__name__) is kind:
        return lambda value, _: build("number_dtype", str(value))
    return found.get(kind)


_NUMBERS = {
    f"{name}Dtype" for name in ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "Boolean"]
}


def _arrays(pd: Any) -> dict[type, _Reducer]:
    arrays = pd.arrays
    found: dict[str, _Reducer] = {
        "DatetimeArray": _datetimes,
        "TimedeltaArray": lambda value, _: build("timedeltas", Writable(value.to_numpy())),
        "PeriodArray": lambda value, _: build("periods", Writable(value.asi8), value.freqstr),
        "IntervalArray": lambda value, _: build("intervals", value.left, value.right, value.closed),
        "IntegerArray": _masked,
        "FloatingArray": _masked,
        "BooleanArray": _masked,
        "StringArray": _strings,
        "ArrowStringArray": _strings,
        "ArrowExtensionArray": lambda value, _: build("arrow_column", value.__arrow_array__()),
        "NumpyExtensionArray": lambda value, _: build("numpy_column", Writable(value.to_numpy())),
    }
    return {getattr(arrays, name): reducer for name, reducer in found.items() if hasattr(arrays, name)}


def zone_of(zone: Any) -> dt.tzinfo | None:
    """A time zone as the standard library's: pandas' own zones by name are pytz's where it is old."""
    if zone is None or isinstance(zone, (dt.timezone, zoneinfo.ZoneInfo)):
        return zone
    name = getattr(zone, "zone", None)
    if name == "UTC":
        return dt.timezone.utc
    if isinstance(name, str):
        return zoneinfo.ZoneInfo(name)
    raise Unsupported(f"times in a zone of the type {type(zone).__name__}")


def _frame(value: Any, _: Sender) -> Reduction:
    kinds = set(value.dtypes)
    about = (value.index, value.columns, dict(value.attrs), bool(value.flags.allows_duplicate_labels))
    if len(kinds) == 1 and getattr(next(iter(kinds)), "kind", "O") in "biufcmM" and type(next(iter(kinds))).__module__.startswith("numpy"):
        return build("block_frame", Writable(value.to_numpy()), *about)
    return build("frame", [_column(value.iloc[:, index]) for index in range(value.shape[1])], *about)


def _column(series: Any) -> Any:
    """The values of a column or an index, as an array that has a reducer; it is a view."""
    values = series.array
    if type(values).__name__ in ("NumpyExtensionArray", "PandasArray"):
        return Writable(series.to_numpy())
    return values


def _series(value: Any, _: Sender) -> Reduction:
    return build("series", _column(value), value.index, value.name, dict(value.attrs))


def _index(value: Any, _: Sender) -> Reduction:
    frequency = getattr(value, "freqstr", None) if type(value).__name__ in ("DatetimeIndex", "TimedeltaIndex") else None
    return build("index", type(value).__name__, _column(value), value.name, frequency)


def _multi_index(value: Any, _: Sender) -> Reduction:
    return build("multi_index", list(value.levels), [Writable(codes) for codes in value.codes], list(value.names))


def _datetimes(value: Any, _: Sender) -> Reduction:
    numbers = value.asi8.view(f"M8[{value.unit}]")
    return build("datetimes", Writable(numbers), zone_of(value.tz))


def _masked(value: Any, _: Sender) -> Reduction:
    return build("masked_column", Writable(value._data), Writable(value._mask))  # noqa: SLF001  they have no public name


def _missing_text(dtype: Any) -> tuple[str]:
    missing = getattr(dtype, "na_value", None)
    return ("nan",) if isinstance(missing, float) else ("NA",)


def _strings(value: Any, _: Sender) -> Reduction:
    items = value.to_numpy(dtype=object, na_value=None).tolist()
    return build("text_column", items, value.dtype.storage, *_missing_text(value.dtype))
