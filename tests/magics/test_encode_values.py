"""Values of builtin types and arrays, as the node has them: equal, of the same type, order and identity."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import pathlib
import pickle
import uuid
import warnings
import zoneinfo

import hypothesis
import pytest
from hypothesis import strategies as st
from tests.fakes.other_side import NearNode, Notebook

from remote_gpu.codec.encode import Scope, encode
from remote_gpu.codec.fingerprints import fingerprint

np = pytest.importorskip("numpy")


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


@pytest.fixture
def node(monkeypatch, notebook):
    return NearNode(monkeypatch)


@pytest.fixture
def cross(notebook, node):
    """One value there; its fingerprint is the same whenever it is taken."""

    def send(value):
        notebook.names["value"] = value
        assert fingerprint(value, notebook.scope()).key == fingerprint(value, notebook.scope()).key
        return notebook.send(node, "value")["value"]

    return send


PLAIN = {
    "none": None,
    "bool": True,
    "int": 10**40,
    "negative zero": -0.0,
    "infinity": float("-inf"),
    "complex": 1 + 2j,
    "text": "grüße \ud800 \x00",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "range": range(1, 9, 2),
    "slice": slice(1, None, 2),
    "list": [1, [2, (3,)]],
    "empty containers": [[], (), {}, set(), frozenset(), "", b""],
    "dict in its order": {"b": 1, "a": {2: None}},
    "set": {1, "a", (2, 3)},
    "deque": collections.deque([1, 2], maxlen=2),
    "counter": collections.Counter("abca"),
    "default dict": collections.defaultdict(list, a=[1]),
    "ordered dict": collections.OrderedDict(a=1),
    "chain map": collections.ChainMap({"a": 1}, {"b": 2}),
    "dict views": [{"a": 1}.keys(), {"a": 1}.items()],
    "date": dt.date(2024, 2, 29),
    "moment": dt.datetime(2024, 1, 1, 1, 2, 3, 4, tzinfo=zoneinfo.ZoneInfo("Europe/London"), fold=1),
    "duration": dt.timedelta(days=-1, microseconds=3),
    "decimal": decimal.Decimal("1.10"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "path": pathlib.PurePosixPath("/a/b"),
    "type": int,
    "generic alias": list[int],
    "union": int | None,
    "exception": KeyError,
}


@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_builtins_and_standard_types_cross(cross, value):
    found = cross(value)
    assert type(found) is type(value)
    assert repr(found) == repr(value)
    if not isinstance(value, (list, collections.abc.ValuesView)):
        assert found == value or value is NotImplemented


def _structured():
    return np.array([(1, 2.5, "ab")], dtype=[("a", "<i2"), ("b", ">f8"), ("c", "U3", (1,))])


BASE = np.arange(24.0).reshape(2, 3, 4)
ARRAYS = {
    **{f"of {name}": np.arange(6).astype(name).reshape(2, 3) for name in ("?", "i1", "u8", "f2", ">f4", "f8", "c16", "g")},
    "text": np.array([["a", "bcd"], ["", "ü"]]),
    "bytes text": np.array([b"a", b"bc"]),
    "raw records": np.array([b"ab", b"cd"], dtype="V2"),
    "moments": np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
    "durations": np.array([1, 2], dtype="m8[s]"),
    "structured": _structured(),
    "aligned structure": np.zeros(3, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "with no dimension": np.array(5.0),
    "empty": np.empty((0, 3)),
    "empty text": np.array([""]),
    "column order": np.asfortranarray(BASE),
    "axes in another order": BASE.transpose(1, 0, 2),
    "every second": BASE[:, ::2],
    "backwards": BASE[::-1, :, ::-1],
    "one column": BASE[..., 1],
    "repeated": np.broadcast_to(np.arange(3), (4, 3)),
    "larger": np.arange(5000.0),
    "larger, in pieces": np.arange(20000.0).reshape(100, 200)[::3, ::7],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_keep_type_shape_order_and_content(cross, array):
    found = cross(array)
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape, found.flags.writeable) == (array.dtype, array.shape, array.flags.writeable)
    assert found.tobytes() == array.tobytes()
    for way in ("c_contiguous", "f_contiguous"):
        assert getattr(found.flags, way) or not getattr(array.flags, way)
    order = [axis for axis, length in enumerate(array.shape) if length > 1]
    widest = sorted(order, key=lambda axis: -abs(array.strides[axis]))
    assert widest == sorted(order, key=lambda axis: -abs(found.strides[axis]))
    if found.size and found.flags.writeable:
        found[...] = found[...]


def test_a_read_only_array_is_read_only_there(cross):
    array = np.arange(5000)
    array.flags.writeable = False
    assert not cross(array).flags.writeable


def test_object_arrays_and_their_like_cross(cross):
    array = np.array([[1, "a"], [None, [2]]], dtype=object)
    found = cross(array)
    assert found.dtype == object
    assert found.tolist() == array.tolist()
    strings = np.array(["a", "longer than one word"], dtype=np.dtypes.StringDType())
    assert cross(strings).dtype == strings.dtype
    assert cross(strings).tolist() == strings.tolist()
    assert type(cross(np.float32(1.5))) is np.float32
    assert cross(np.datetime64("2024-01-01")) == np.datetime64("2024-01-01")
    assert cross(np.dtype([("a", "i4")])) == np.dtype([("a", "i4")])
    with warnings.catch_warnings(action="ignore", category=PendingDeprecationWarning):
        assert type(cross(np.matrix([[1, 2]]))) is np.matrix
    records = cross(np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
    assert records.a[0] == 1
    generator = np.random.default_rng(5)
    assert cross(generator).random() == np.random.default_rng(5).random()


def test_masked_arrays_keep_mask_and_fill_value(cross):
    array = np.ma.masked_array(np.arange(6.0).reshape(2, 3), mask=[[0, 1, 0], [1, 0, 0]], fill_value=-1)
    found = cross(array)
    assert type(found) is np.ma.MaskedArray
    assert found.mask.tolist() == array.mask.tolist()
    assert found.filled().tolist() == array.filled().tolist()
    assert cross(np.ma.masked_array([1, 2])).mask is np.ma.nomask
    assert cross(np.ma.masked) is np.ma.masked


def test_a_memory_map_is_an_array_there(cross, tmp_path):
    mapped = np.memmap(tmp_path / "m", dtype="f4", mode="w+", shape=(30, 100))
    mapped[:] = 3
    found = cross(mapped)
    assert type(found) is np.ndarray
    assert found.tolist() == mapped.tolist()
    mapped._mmap.close()


def test_aliases_and_cycles_hold_across_names(notebook, node):
    notebook.cell(
        "import numpy as np\nclass Node: pass\n"
        "a = [1]; b = {'a': a}; a.append(b); array = np.zeros(3); holder = (array, array)\n"
        "first, second = Node(), Node(); first.next, second.next = second, first"
    )
    notebook.send(node, "a", "b", "array", "holder", "first", "second")
    assert node["a"][1] is node["b"]
    assert node["b"]["a"] is node["a"]
    assert node["holder"][0] is node["holder"][1] is node["array"]
    assert node["first"].next is node["second"]
    assert node["second"].next is node["first"]


def test_large_memory_leaves_without_a_copy(notebook):
    array = np.zeros(100_000)
    parcel = encode({"a": array, "b": {"k": array[10:50_000]}}, notebook.scope())
    assert [each.nbytes for each in parcel.buffers] == [800_000, 399_920]
    assert all(each.format == "B" and each.contiguous for each in parcel.buffers)
    array[0] = 7
    array[10] = 8
    assert np.frombuffer(parcel.buffers[0])[0] == 7
    assert np.frombuffer(parcel.buffers[1])[0] == 8
    assert len(parcel.head) < 1000


def test_large_bytes_go_beside_the_stream_and_stay_one_object(notebook, node):
    text, array = b"x" * 100_000, bytearray(100_000)
    notebook.names.update(a=text, b=text, c=array, d=array)
    parcel = notebook.encoded("a", "b", "c", "d")
    assert [each.nbytes for each in parcel.buffers] == [100_000, 100_000]
    assert len(parcel.head) < 1000
    node.take(parcel)
    assert node["a"] == text
    assert node["a"] is node["b"]
    assert type(node["c"]) is bytearray
    assert node["c"] is node["d"]


_ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary() | st.dates() | st.decimals()
)
_KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())


def _containers(inner):
    return (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(_KEYS, inner, max_size=4)
        | st.sets(_KEYS, max_size=4)
        | inner.map(lambda value: [value, {"twice": value}])
    )


@hypothesis.given(value=st.recursive(_ATOMS, _containers, max_leaves=20))
@hypothesis.settings(max_examples=150, deadline=None)
def test_whatever_is_made_of_builtins_crosses_with_its_structure(value):
    """The pickle of what arrived is that of a plain copy: equal values, order, types, and the same objects in the same places."""
    from remote_gpu.node.incoming import load

    parcel = encode({"v": value}, Scope({}, same_python=True, session="s"))
    found = load(parcel.head, parcel.buffers, parcel.names, {}, {}.__getitem__)["v"]
    assert pickle.dumps(found) == pickle.dumps(pickle.loads(pickle.dumps(value)))


def test_ten_thousand_small_variables_cross_quickly(notebook, node):
    import time

    values = {f"v{number}": [number, str(number), [number], {"a": number}, float(number)][number % 5] for number in range(10_000)}
    start = time.perf_counter()
    parcel = encode(values, notebook.scope())
    node.take(parcel)
    spent = time.perf_counter() - start
    assert {name: node.names[name] for name in values} == values
    assert spent < 1.0, spent
