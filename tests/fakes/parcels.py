"""Parcels of many types, and the damage that can be done to their bytes."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import fractions
import random
import re
import types
import uuid
import zoneinfo

import numpy as np
import pandas as pd

from remote_gpu.node.held import Held
from remote_gpu.node.outgoing import collect

PLENTY = 1 << 40


def parcel(values):
    """(head, buffers, names) of `values`, as a node sends them."""
    found = collect(list(values), values, Held(), limit=PLENTY, inline=PLENTY)
    return found.head, [bytes(buffer) for buffer in found.buffers], [name for name in values if found.entries[name]["kind"] == "value"]


def plain_values():
    """One of each of the standard library's types, in containers that hold themselves."""
    around: list = [1, 2.5, "x", b"y", None, True, 2**70, bytearray(b"z")]
    around.append({"around": around, (1, "a"): {1, 2}, "f": frozenset({3})})
    return {
        "around": around,
        "times": [dt.datetime.now(zoneinfo.ZoneInfo("Europe/London")), dt.date(2026, 1, 1), dt.time(1, tzinfo=dt.UTC), dt.timedelta(1)],
        "numbers": [decimal.Decimal("1.5"), fractions.Fraction(1, 3), 1j, range(5), slice(1, 2), uuid.UUID(int=5)],
        "containers": [
            collections.deque([1], 3),
            collections.OrderedDict(a=1),
            collections.defaultdict(list),
            collections.Counter("aa"),
            types.SimpleNamespace(a=1),
            array.array("d", [1.0]),
        ],
        "others": [re.compile("a+"), ValueError("x"), int, ...],
        "many": [float(n) for n in range(50)] + list(range(50)) + list(range(1000, 1050)) + list(range(1 << 20, (1 << 20) + 50)),
    }


def numeric_values():
    """Arrays and tables of numpy and pandas."""
    objects = np.array([1, "a", None], dtype=object)
    return {
        "array": np.arange(12.0).reshape(3, 4),
        "records": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8", (2,))]),
        "objects": objects,
        "masked": np.ma.MaskedArray([1.0, 2.0], mask=[0, 1]),
        "scalar": [np.float32(1), np.datetime64("2026-01-01")],
        "large": np.arange(2000.0),
        "frame": pd.DataFrame(
            {"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"]), "t": pd.date_range("2026", periods=2, tz="UTC")}
        ),
        "series": pd.Series([1, None], dtype="Int64", index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    }


def library_values():
    """Values of the libraries that are written in C, Rust and C++."""
    import polars as pl
    import pyarrow as pa
    from PIL import Image
    from scipy import sparse

    return {
        "polars": pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1], []]}),
        "arrow": pa.table({"a": [1, None], "b": ["x", "y"], "c": [[1], []]}),
        "image": Image.new("P", (5, 4)),
        "csr": sparse.random_array((5, 6), density=0.4, format="csr", rng=0),
        "bsr": sparse.bsr_array(np.eye(4)),
        "coo": sparse.coo_array(np.eye(4)),
        "dia": sparse.dia_array(np.eye(4)),
        "lil": sparse.lil_array(np.eye(4)),
    }


def damaged(head, buffers, random_source: random.Random):
    """A parcel with a few bytes changed, cut, doubled or moved."""
    head, buffers = bytearray(head), [bytearray(buffer) for buffer in buffers]
    for _ in range(random_source.choice((1, 1, 2, 5))):
        target = random_source.choice([head, head, head, *buffers])
        at = random_source.randrange(len(target) + 1)
        match random_source.randrange(6):
            case 0 if at < len(target):
                target[at] = random_source.randrange(256)
            case 1 if at < len(target):
                target[at] ^= 1 << random_source.randrange(8)
            case 2:
                del target[at:]
            case 3:
                del target[at : at + random_source.randrange(1, 20)]
            case 4:
                length = random_source.randrange(1, 40)
                start = random_source.randrange(len(target) + 1)
                target[at:at] = target[start : start + length]
            case _:
                target[at:at] = random_source.choice(
                    (b"\xff\xff\xff\x7f", b"\x00", b"\x8c\x02os", b"R", b"\x94", b"h\x00", b"(", b"b", b"\x97", b".")
                )
    if buffers and random_source.random() < 0.05:
        buffers.pop()
    return bytes(head), [bytes(buffer) for buffer in buffers]
