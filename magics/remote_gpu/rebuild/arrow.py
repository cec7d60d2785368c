"""pyarrow's and polars' columns. The stream is read by the library's own reader, which runs no code of it; then it is checked."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from remote_gpu.rebuild.checks import UnsafeValue, natural, one_of, raw
from remote_gpu.rebuild.notebook import Context

__all__ = ["ARROW"]

_SAFE_SINCE = (14, 0, 1)  # before, a stream could name a Python class to be unpickled


def _version(library: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in library.__version__.split(".")[:3] if part.isdigit())


def arrow(_: Context, form: object, memory: object) -> Any:
    """A table, batch, array, scalar, schema or type of pyarrow's."""
    import pyarrow as pa
    import pyarrow.ipc

    if _version(pa) < _SAFE_SINCE:
        raise UnsafeValue(f"pyarrow {pa.__version__} does not read data from others safely.", hint="Upgrade it here to 14.0.1 or later.")
    kind = one_of(form, "table", "batch", "array", "chunked", "scalar", "schema", "type")
    with pyarrow.ipc.open_stream(pa.py_buffer(raw(memory))) as reader:
        table = reader.read_all()
    if any(b"py_extension_type" in (column.metadata or {}).get(b"ARROW:extension:name", b"") for column in table.schema):
        raise UnsafeValue("A column names a Python class of its own.")
    table.validate(full=True)
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
    """A table or column of polars'."""
    import polars as pl

    frame = pl.read_ipc_stream(io.BytesIO(raw(memory)))
    if frame.shape != (natural(height), natural(width)):
        raise UnsafeValue("A table of polars came in another shape than announced.")
    return frame if one_of(form, "frame", "series") == "frame" else frame.to_series()


ARROW: dict[str, Callable[..., Any]] = {"arrow": arrow, "polars": polars}
