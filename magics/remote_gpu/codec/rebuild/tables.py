"""pandas' tables, indexes, extension arrays and scalars, by their public constructors, which check what they are given."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable
from typing import Any

from remote_gpu.codec.rebuild.arrays import array_of
from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, one_of, text
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["TABLES"]

_UNITS = ("s", "ms", "us", "ns")
_CLOSED = ("left", "right", "both", "neither")
_NUMBERS = frozenset(["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "boolean"])
_INDEXES = ("Index", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex", "IntervalIndex", "CategoricalIndex")


def _index_of(value: object) -> Any:
    import pandas as pd

    if not isinstance(value, pd.Index):
        raise UnsafeValue("An index was expected.")
    return value


def _column_of(value: object) -> Any:
    """A column: a plain array of one axis, or an extension array."""
    import pandas as pd

    if isinstance(value, pd.api.extensions.ExtensionArray):
        return value
    return array_of(value, axes=1)


def _zone(value: object) -> dt.tzinfo | None:
    if value is not None and type(value) not in (dt.timezone, zoneinfo.ZoneInfo):
        raise UnsafeValue("A time zone was expected.")
    return value  # type: ignore[return-value]


def _frame(made: Any, columns: object, attributes: object, duplicates: object) -> Any:
    made.columns = _index_of(columns)
    made.attrs.update(exactly(attributes, dict))
    return made if exactly(duplicates, bool) else made.set_flags(allows_duplicate_labels=False)


def frame(_: Context, content: object, index: object, columns: object, attributes: object, duplicates: object) -> Any:
    """A table of columns."""
    import pandas as pd

    rows, parts = _index_of(index), [_column_of(column) for column in exactly(content, list)]
    if any(len(part) != len(rows) for part in parts):
        raise UnsafeValue("A column of a table has another length than its index.")
    return _frame(pd.DataFrame(dict(enumerate(parts)), index=rows, copy=False), columns, attributes, duplicates)


def block_frame(_: Context, values: object, index: object, columns: object, attributes: object, duplicates: object) -> Any:
    """A table whose columns are all of one dtype: one array, which it keeps."""
    import pandas as pd

    return _frame(pd.DataFrame(array_of(values, axes=2), index=_index_of(index), copy=False), columns, attributes, duplicates)


def series(_: Context, values: object, index: object, name: object, attributes: object) -> Any:
    """A column with its index."""
    import pandas as pd

    made = pd.Series(_column_of(values), index=_index_of(index), name=name, copy=False)
    made.attrs.update(exactly(attributes, dict))
    return made


def index(_: Context, kind: object, values: object, name: object, frequency: object) -> Any:
    """An index of one level."""
    import pandas as pd

    column = _column_of(values)
    if one_of(kind, *_INDEXES) == "Index":
        return pd.Index(column, dtype=column.dtype, name=name)
    options = {} if frequency is None else {"freq": text(frequency, 50)}
    return getattr(pd, str(kind))(column, name=name, **options)


def range_index(_: Context, start: object, stop: object, step: object, name: object) -> Any:
    """The index 0, 1, 2, … or a like one."""
    import pandas as pd

    return pd.RangeIndex(exactly(start, int), exactly(stop, int), exactly(step, int), name=name)


def multi_index(_: Context, levels: object, codes: object, names: object) -> Any:
    """An index of several levels; that the codes fit the levels is checked."""
    import pandas as pd

    parts = [_index_of(level) for level in exactly(levels, list)]
    numbers = [array_of(code, axes=1) for code in exactly(codes, list)]
    return pd.MultiIndex(parts, numbers, names=exactly(names, list), verify_integrity=True)


def categorical(_: Context, codes: object, categories: object, ordered: object) -> Any:
    """Values out of a fixed set; that the codes fit the set is checked."""
    import pandas as pd

    return pd.Categorical.from_codes(array_of(codes, axes=1), _index_of(categories), ordered=exactly(ordered, bool))


def datetimes(_: Context, values: object, zone: object) -> Any:
    """Times, in a zone or without one."""
    import pandas as pd

    made: Any = pd.DatetimeIndex(array_of(values, axes=1))
    found = _zone(zone)
    return made.array if found is None else made.tz_localize("UTC").tz_convert(found).array


def timedeltas(_: Context, values: object) -> Any:
    """Spans of time."""
    import pandas as pd

    return pd.TimedeltaIndex(array_of(values, axes=1)).array


def periods(_: Context, numbers: object, frequency: object) -> Any:
    """Periods of one frequency."""
    import pandas as pd

    return pd.arrays.PeriodArray(array_of(numbers, axes=1), dtype=pd.PeriodDtype(text(frequency, 50)))


def intervals(_: Context, left: object, right: object, closed: object) -> Any:
    """Intervals between two indexes."""
    import pandas as pd

    return pd.arrays.IntervalArray.from_arrays(_index_of(left), _index_of(right), one_of(closed, *_CLOSED))


def masked_column(_: Context, values: object, mask: object) -> Any:
    """Numbers or truths of which some are missing."""
    import pandas as pd

    numbers, hidden = array_of(values, axes=1), array_of(mask, axes=1)
    kinds: dict[str, Any] = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
    return kinds.get(numbers.dtype.kind, pd.arrays.IntegerArray)(numbers, hidden)


def _string_dtype(storage: object, missing: object) -> Any:
    import pandas as pd

    kind: Any = pd.StringDtype
    chosen = one_of(storage, "python", "pyarrow")
    try:
        return kind(chosen, na_value=float("nan")) if one_of(missing, "nan", "NA") == "nan" else kind(chosen)
    except ImportError:  # no pyarrow here
        return kind("python", na_value=float("nan")) if missing == "nan" else kind("python")


def string_dtype(_: Context, storage: object, missing: object) -> Any:
    """The dtype of text."""
    return _string_dtype(storage, missing)


def text_column(_: Context, items: object, storage: object, missing: object) -> Any:
    """Text of which some is missing."""
    import pandas as pd

    found = exactly(items, list)
    if not {str, type(None)}.issuperset(map(type, found)):
        raise UnsafeValue("A column of text holds something else.")
    return pd.array(found, dtype=_string_dtype(storage, missing))


def arrow_column(_: Context, values: object) -> Any:
    """A column of Arrow's."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        raise UnsafeValue("An array of Arrow's was expected.")
    return pd.arrays.ArrowExtensionArray(values)


def numpy_column(_: Context, values: object) -> Any:
    """A plain array in pandas' clothes."""
    import pandas as pd

    return pd.Series(array_of(values, axes=1)).array


def timestamp(_: Context, number: object, unit: object, zone: object) -> Any:
    """One time."""
    import numpy as np
    import pandas as pd

    made = pd.Timestamp(np.datetime64(exactly(number, int), one_of(unit, *_UNITS)))
    found = _zone(zone)
    return made if found is None else made.tz_localize("UTC").tz_convert(found)


def pandas_timedelta(_: Context, number: object, unit: object) -> Any:
    """One span of time."""
    import numpy as np
    import pandas as pd

    return pd.Timedelta(np.timedelta64(exactly(number, int), one_of(unit, *_UNITS)))


def period(_: Context, ordinal: object, frequency: object) -> Any:
    """One period."""
    import pandas as pd

    return pd.Period(ordinal=exactly(ordinal, int), freq=text(frequency, 50))


def interval(_: Context, left: object, right: object, closed: object) -> Any:
    """One interval."""
    import pandas as pd

    return pd.Interval(left, right, one_of(closed, *_CLOSED))


def missing(_: Context, name: object) -> Any:
    """NaT or NA."""
    import pandas as pd

    return pd.NaT if one_of(name, "NaT", "NA") == "NaT" else pd.NA


def categorical_dtype(_: Context, categories: object, ordered: object) -> Any:
    """The dtype of values out of a fixed set."""
    import pandas as pd

    return pd.CategoricalDtype(None if categories is None else _index_of(categories), one_of(ordered, True, False, None))


def zoned_dtype(_: Context, unit: object, zone: object) -> Any:
    """The dtype of times in a zone."""
    import pandas as pd

    return pd.DatetimeTZDtype(one_of(unit, *_UNITS), _zone(zone))


def number_dtype(_: Context, name: object) -> Any:
    """The dtype of numbers of which some are missing."""
    import pandas as pd

    if text(name) not in _NUMBERS:
        raise UnsafeValue("The node named a dtype of pandas' that may not come.")
    return pd.api.types.pandas_dtype(name)


TABLES: dict[str, Callable[..., Any]] = {
    "frame": frame,
    "block_frame": block_frame,
    "series": series,
    "index": index,
    "range_index": range_index,
    "multi_index": multi_index,
    "categorical": categorical,
    "datetimes": datetimes,
    "timedeltas": timedeltas,
    "periods": periods,
    "intervals": intervals,
    "masked_column": masked_column,
    "string_dtype": string_dtype,
    "text_column": text_column,
    "arrow_column": arrow_column,
    "numpy_column": numpy_column,
    "timestamp": timestamp,
    "pandas_timedelta": pandas_timedelta,
    "period": period,
    "interval": interval,
    "missing": missing,
    "categorical_dtype": categorical_dtype,
    "zoned_dtype": zoned_dtype,
    "number_dtype": number_dtype,
}
