"""pyarrow's and polars' columns, in Arrow's own stream format, not compressed."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.calls import Reduction, Sender, build

__all__ = ["find", "find_polars"]

_Reducer = Callable[[Any, Sender], Reduction]


def find(kind: type) -> _Reducer | None:
    """The reducer of a type of pyarrow's."""
    pa: Any = sys.modules["pyarrow"]
    found: dict[type, _Reducer] = {
        pa.Table: lambda value, sender: _stream("table", value.schema, value.to_batches(), sender),
        pa.RecordBatch: lambda value, sender: _stream("batch", value.schema, [value], sender),
        pa.ChunkedArray: lambda value, sender: _table("chunked", pa.table([value], names=[""]), sender),
        pa.Schema: lambda value, sender: _stream("schema", value, [], sender),
    }
    if kind in found:
        return found[kind]
    if issubclass(kind, pa.Array):
        return lambda value, sender: _table("array", pa.table([value], names=[""]), sender)
    if issubclass(kind, pa.DataType):
        return lambda value, sender: _stream("type", pa.schema([("", value)]), [], sender)
    if issubclass(kind, pa.Scalar):
        return lambda value, sender: _table("scalar", pa.table([pa.array([value], value.type)], names=[""]), sender)
    return None


def _table(form: str, table: Any, sender: Sender) -> Reduction:
    return _stream(form, table.schema, table.to_batches(), sender)


def _stream(form: str, schema: Any, batches: list[Any], sender: Sender) -> Reduction:
    pa: Any = sys.modules["pyarrow"]
    ipc = importlib.import_module("pyarrow.ipc")  # a part of what is loaded already

    sender.reserve(sum(batch.nbytes for batch in batches))
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return build("arrow", form, sender.memory(memoryview(sink.getvalue()), writable=False))


def find_polars(kind: type) -> _Reducer | None:
    """The reducer of a type of polars'."""
    pl: Any = sys.modules["polars"]
    if kind is pl.DataFrame:
        return lambda value, sender: _polars("frame", value, sender)
    if kind is pl.Series:
        return lambda value, sender: _polars("series", value.to_frame(), sender)
    return None


def _polars(form: str, frame: Any, sender: Sender) -> Reduction:
    sender.reserve(int(frame.estimated_size()))
    sink = io.BytesIO()
    pl: Any = sys.modules["polars"]
    frame.write_ipc_stream(sink, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return build("polars", form, frame.height, frame.width, sender.memory(sink.getbuffer(), writable=False))
