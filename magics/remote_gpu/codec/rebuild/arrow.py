"""pyarrow's and polars' columns. The stream is read by the library's own reader, which runs no code of it; then it is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remote_gpu.codec.rebuild.checks import UnsafeValue, natural, one_of, raw
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["ARROW"]

_SAFE_SINCE = (14, 0, 1)  # before, a stream could name a Python class to be unpickled


def _version(library: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in library.__version__.split(".")[:3] if part.isdigit())


def _table(memory: object) -> Any:
    """The table in a stream, each offset and index of it checked."""
    import pyarrow as pa
    import pyarrow.ipc

    if _version(pa) < _SAFE_SINCE:
        raise UnsafeValue(f"pyarrow {pa.__version__} does not read data from others safely.", hint="Upgrade it here to 14.0.1 or later.")
    with pyarrow.ipc.open_stream(pa.py_buffer(raw(memory))) as reader:
        table = reader.read_all()
    if any(b"py_extension_type" in (column.metadata or {}).get(b"ARROW:extension:name", b"") for column in table.schema):
        raise UnsafeValue("A column names a Python class of its own.")
    table.validate(full=True)
    return table


def arrow(_: Context, form: object, memory: object) -> Any:
    """A table, batch, array, scalar, schema or type of pyarrow's."""
    import pyarrow as pa

    kind = one_of(form, "table", "batch", "array", "chunked", "scalar", "schema", "type")
    table = _table(memory)
    if kind in ("table", "schema"):
        return table if kind == "table" else table.schema
    if kind == "batch":
        return (table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)])[0]
    if kind == "type":
        return table.schema.field(0).type
    column = table.column(0)
    if kind == "chunked":
        return column
    whole = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.chunks else pa.array([], column.type)
    return whole if kind == "array" else whole[0]


def polars(_: Context, form: object, height: object, width: object, memory: object) -> Any:
    """A table or column of polars'. pyarrow reads it: polars' own reader ends the process when it meets a wrong length."""
    import polars as pl

    table = _table(memory)
    if table.shape != (natural(height), natural(width)):
        raise UnsafeValue("A table of polars came in another shape than announced.")
    try:
        frame: Any = pl.from_arrow(table)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # polars' own, which is no Exception
            raise
        raise UnsafeValue("polars cannot hold a table that the node sent.") from error
    return frame if one_of(form, "frame", "series") == "frame" else frame.to_series()


ARROW: dict[str, Callable[..., Any]] = {"arrow": arrow, "polars": polars}
