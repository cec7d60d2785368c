"""Values of well-known libraries, as the node has them.

What needs torch or jax is skipped where they are not installed: they are too heavy for every test machine.
"""

from __future__ import annotations

import datetime as dt

import pytest
from tests.fakes.other_side import NearNode, Notebook

from remote_gpu.codec.encode import encode
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
    for index in (
        pd.RangeIndex(5),
        pd.period_range("2024-01", periods=2, freq="M"),
        pd.interval_range(0, 3),
        pd.timedelta_range("1s", periods=2),
    ):
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
    large = pl.DataFrame(
        {"a": range(200_000), "s": ["longer than twelve bytes"] * 200_000, "t": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 200_000}
    )
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
    for make in (
        sparse.csr_array,
        sparse.csc_matrix,
        sparse.coo_array,
        sparse.lil_array,
        sparse.dok_array,
        sparse.dia_array,
        sparse.bsr_array,
    ):
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
