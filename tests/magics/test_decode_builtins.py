"""Values of the standard library come back from the node as what they were."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import fractions
import math
import pathlib
import re
import types
import uuid
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.crossing import crossed, one, there_and_back

VALUES = [
    None,
    True,
    False,
    0,
    255,
    256,
    65535,
    65536,
    -1,
    2**31,
    -(2**31) - 1,
    2**2000,
    -(2**2000),
    0.5,
    math.inf,
    1j,
    -0.0 - 2j,
    "",
    "é😀\ud800",
    "x" * 300,
    "y" * 70_000,
    b"",
    b"\x00\xff" * 200,
    b"z" * 70_000,
    bytearray(b"abc"),
    bytearray(70_000),
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    [],
    [1],
    [[]],
    {},
    {"a": {"b": [1, {2}]}},
    {(1, ("a", frozenset({2}))): "key"},
    set(),
    {1, 2},
    frozenset(),
    frozenset({"a", (1, 2)}),
    range(3, 30, 4),
    slice(1, None, 2),
    ...,
    NotImplemented,
    int,
    type(None),
    dt.date(2026, 1, 31),
    dt.time(1, 2, 3, 4, fold=1),
    dt.time(1, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 31, 23, 59, 59, 999_999),  # noqa: DTZ001  without a zone, on purpose
    dt.datetime(2026, 1, 31, tzinfo=dt.UTC),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/London"), fold=1),
    dt.timedelta(-1, 5, 7),
    dt.timezone(dt.timedelta(hours=5, minutes=30)),
    dt.timezone(dt.timedelta(hours=-4), "here"),
    dt.UTC,
    zoneinfo.ZoneInfo("America/Toronto"),
    decimal.Decimal("1.200"),
    decimal.Decimal("-Infinity"),
    decimal.Decimal("1E+1000"),
    fractions.Fraction(-22, 7),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    pathlib.Path("/a/b"),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("c:\\a"),
    collections.deque([1, 2], maxlen=3),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("abca"),
    collections.defaultdict(list, {"a": [1]}),
    collections.defaultdict(None, {1: 2}),
    types.SimpleNamespace(a=1, b=[2]),
    types.MappingProxyType({"a": 1}),
    array.array("d", [1.5, 2.5]),
    array.array("i"),
    re.compile(r"a(b)?", re.IGNORECASE),
    re.compile(rb"a"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value):
    back = one(value)
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, set | frozenset)  # the order of a set is its own


def test_a_number_that_is_none_stays_so():
    assert math.isnan(one(math.nan))
    assert one(decimal.Decimal("sNaN")).is_snan()


def test_a_view_of_a_dict_is_still_read_only():
    with pytest.raises(TypeError):
        one(types.MappingProxyType({"a": 1}))["a"] = 2


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        FileNotFoundError(2, "No such file", "/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        KeyError("k"),
        ImportError("no"),
    ],
    ids=repr,
)
def test_a_builtin_exception_comes_back_with_what_it_says(error):
    error.add_note("a note")
    back = one(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.__notes__ == ["a note"]


@pytest.mark.parametrize(
    "numbers", [range(3000), [float(n) for n in range(3000)], range(300, 2300), range(-5, 2000), range(1 << 20, (1 << 20) + 2500)]
)
def test_long_runs_of_numbers_come_back_exactly(numbers):
    assert one(list(numbers)) == list(numbers)
    mixed = [item for number in numbers for item in (number, str(number))]
    assert one(mixed) == mixed


def test_an_object_that_two_names_share_is_one_object():
    shared = [1]
    back = there_and_back({"a": shared, "b": {"inside": shared}, "c": (shared,)})
    assert back["a"] is back["b"]["inside"] is back["c"][0]


def test_cycles_come_back_as_cycles():
    around: list = []
    around.append((around, {"me": around}))
    queue: collections.deque = collections.deque()
    queue.append(queue)
    space = types.SimpleNamespace()
    space.me = space
    back = there_and_back({"around": around, "queue": queue, "space": space})
    assert back["around"][0][0] is back["around"]
    assert back["around"][0][1]["me"] is back["around"]
    assert back["queue"][0] is back["queue"]
    assert back["space"].me is back["space"]


def test_ten_thousand_names_come_back():
    values = {f"name{n}": {"number": n, "text": str(n)} for n in range(10_000)}
    assert there_and_back(values) == values


def test_a_deep_nesting_comes_back_or_stays_there_and_never_breaks():
    for depth in (100, 100_000):
        nested: list = []
        for _ in range(depth):
            nested = [nested]
        entries, back = crossed({"nested": nested, "other": 1})
        assert back["other"] == 1
        assert ("nested" in back) == (depth == 100)
        assert entries["nested"]["kind"] == ("value" if depth == 100 else "handle")


_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers() | st.tuples(st.text()), inner),
    max_leaves=60,
)


@given(_plain)
def test_whatever_is_nested_in_whatever_comes_back(value):
    back = one(value)
    assert back == value
    assert repr(back) == repr(value)
