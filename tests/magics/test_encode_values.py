"""Values of all the kinds that a notebook holds, as the node has them: equal, of the same type, order and identity.

What needs torch or jax is skipped where they are not installed: they are too heavy for every test machine.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import pathlib
import uuid
import warnings
import zoneinfo

import pytest
from remote_gpu.encode import encode
from remote_gpu.fingerprints import fingerprint
from tests.fakes.other_side import NearNode, Notebook

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
    "date": datetime.date(2024, 2, 29),
    "moment": datetime.datetime(2024, 1, 1, 1, 2, 3, 4, tzinfo=zoneinfo.ZoneInfo("Europe/London"), fold=1),
    "duration": datetime.timedelta(days=-1, microseconds=3),
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


def test_pandas_crosses(cross):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [0.5, None, 2.0],
            "t": ["a", None, "ü"],
            "c": pd.Categorical(["x", "y", "x"], ordered=True),
            "d": pd.date_range("2024-01-01", periods=3, tz="Europe/Paris"),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "o": [[1], {"a": 2}, None],
        },
        index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", "n"]),
    )
    frame.attrs["note"] = "n"
    found = cross(frame)
    pd.testing.assert_frame_equal(found, frame)
    assert found.attrs == frame.attrs
    found.loc[("a", 1), "f"] = 9.0
    for series in (frame["c"], frame["d"], frame["n"], pd.Series([1, 2], name="s"), pd.Series(dtype="float64")):
        pd.testing.assert_series_equal(cross(series), series)
    for index in (pd.RangeIndex(5), pd.period_range("2024-01", periods=2, freq="M"), pd.interval_range(0, 3), pd.timedelta_range("1s", periods=2)):
        pd.testing.assert_index_equal(cross(index), index)
    assert cross(pd.Timestamp("2024-01-01", tz="UTC")) == pd.Timestamp("2024-01-01", tz="UTC")
    assert cross(pd.NA) is pd.NA
    assert cross(pd.NaT) is pd.NaT


def test_a_large_frame_is_not_copied_into_the_stream(notebook):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.random.default_rng(0).random((10_000, 10)))
    parcel = encode({"frame": frame}, notebook.scope())
    assert sum(each.nbytes for each in parcel.buffers) == 800_000
    assert len(parcel.head) < 5000


def test_polars_and_arrow_cross(cross, notebook):
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    small = pl.DataFrame({"a": [1, None], "s": ["x", "ü"], "l": [[1], []], "c": pl.Series(["p", "q"], dtype=pl.Categorical)})
    assert cross(small).equals(small)
    assert cross(small).schema == small.schema
    large = pl.DataFrame({"a": range(200_000), "s": ["longer than twelve bytes"] * 200_000, "t": [datetime.datetime(2024, 1, 1)] * 200_000})
    found = cross(large)
    assert found.equals(large)
    assert found.schema == large.schema
    assert len(encode({"large": large}, notebook.scope()).head) < 100_000
    assert cross(small.lazy()).collect().equals(small)
    assert cross(small["a"]).equals(small["a"])
    table = pa.table({"a": [1, 2, None], "s": ["a", "b", None], "n": [{"x": 1}, None, {"x": 3}]})
    assert cross(table).equals(table)
    assert cross(table["s"]).equals(table["s"])
    assert cross(pa.array([1.5, None])).equals(pa.array([1.5, None]))


def test_scipy_sklearn_and_pictures_cross(cross):
    sparse = pytest.importorskip("scipy.sparse")
    for make in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_array, sparse.dok_array, sparse.dia_array, sparse.bsr_array):
        matrix = make(np.eye(3) * 2)
        assert type(cross(matrix)) is type(matrix)
        assert cross(matrix).toarray().tolist() == matrix.toarray().tolist()
    ensemble = pytest.importorskip("sklearn.ensemble")
    x, y = np.random.default_rng(0).random((40, 3)), np.arange(40) % 2
    model = ensemble.RandomForestClassifier(5, random_state=0).fit(x, y)
    assert cross(model).predict_proba(x).tolist() == model.predict_proba(x).tolist()
    image = pytest.importorskip("PIL.Image")
    picture = image.fromarray(np.arange(48, dtype="u1").reshape(4, 4, 3))
    picture.info["dpi"] = 3
    assert cross(picture).tobytes() == picture.tobytes()
    assert (cross(picture).mode, cross(picture).info) == ("RGB", {"dpi": 3})


def test_a_picture_from_a_file_crosses_with_its_file_open(cross, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "p.png")
    with image.open(tmp_path / "p.png") as picture:
        assert cross(picture).getpixel((0, 0)) == (1, 2, 3)


def test_torch_crosses(cross, notebook, node):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = [
        base,
        base.permute(2, 0, 1),
        base[:, ::2],
        torch.tensor(5),
        torch.empty(0, 3),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.bool),
        torch.tensor([1 + 2j]).conj(),
        torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.ones(3).expand(4, 3),
        torch.ones(2, dtype=torch.float16),
    ]
    for tensor in tensors:
        found = cross(tensor)
        assert found.dtype == tensor.dtype
        assert found.shape == tensor.shape
        assert torch.equal(found, tensor.resolve_conj())
        assert found.numel() < 2 or tensor.stride()[0] == 0 or not tensor.is_contiguous() or found.is_contiguous()
    last = cross(torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    leaf = torch.ones(3, requires_grad=True)
    (leaf * 2).sum().backward()
    assert cross(leaf).requires_grad
    assert cross(leaf).grad.tolist() == [2, 2, 2]
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    found = cross(layer)
    assert isinstance(found[0].weight, torch.nn.Parameter)
    assert found[0].weight.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), layer.state_dict().values(), strict=True))
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(cross(sparse).to_dense(), torch.eye(3))
    large = torch.zeros(100_000)
    parcel = encode({"large": large, "again": [large]}, notebook.scope())
    assert [each.nbytes for each in parcel.buffers] == [400_000]
    node.take(parcel)
    assert node["again"][0] is node["large"]
    large[0] = 3
    assert np.frombuffer(parcel.buffers[0], "f4")[0] == 3, "the tensor's own memory"
    node.run("large += 1; assert large[1] == 1")


def test_an_optimizer_stays_bound_to_its_model(notebook, node):
    pytest.importorskip("torch")
    notebook.cell(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = torch.nn.Linear(2, 1)\n"
        "    def forward(self, x):\n        return torch.relu(self.a(x))\nnet = Net(); optimizer = torch.optim.Adam(net.parameters())"
    )
    notebook.send(node, "net", "optimizer")
    assert node["optimizer"].param_groups[0]["params"][0] is node["net"].a.weight
    node.run("import torch; net(torch.ones(1, 2)).sum().backward(); optimizer.step()")


def test_a_tensor_of_a_device_that_is_not_there_comes_on_the_cpu_with_a_warning():
    torch = pytest.importorskip("torch")
    from remote_gpu.node.builders import Builders

    about = {"dtype": "float32", "shape": (2,), "back": (0,), "device": "cuda:7", "requires_grad": False, "parameter": False}
    with pytest.warns(UserWarning, match="A tensor that was on cuda:7 is on the CPU here"):
        tensor = Builders.tensor(bytearray(8), about, None)
    assert tensor.device == torch.device("cpu")


def test_jax_crosses(cross):
    jax = pytest.importorskip("jax")
    for value in (jax.numpy.arange(5.0), jax.numpy.ones((2, 3), dtype="bfloat16"), jax.numpy.asarray(3)):
        found = cross(value)
        assert isinstance(found, jax.Array)
        assert (found.dtype, found.weak_type) == (value.dtype, value.weak_type)
        assert (found == value).all()
    assert (jax.random.key_data(cross(jax.random.key(3))) == jax.random.key_data(jax.random.key(3))).all()


def test_ten_thousand_small_variables_cross_quickly(notebook, node):
    import time

    values = {f"v{number}": [number, str(number), [number], {"a": number}, float(number)][number % 5] for number in range(10_000)}
    start = time.perf_counter()
    parcel = encode(values, notebook.scope())
    node.take(parcel)
    spent = time.perf_counter() - start
    assert {name: node.names[name] for name in values} == values
    assert spent < 1.0, spent
