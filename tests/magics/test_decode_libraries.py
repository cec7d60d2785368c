"""Values of numpy, pandas, polars, pyarrow, scipy, Pillow and torch come back from the node as what they were."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import pytest
from tests.fakes.crossing import crossed, one, there_and_back

ARRAYS = {
    "floats": np.linspace(0, 1, 10),
    "0-d": np.array(3.5),
    "empty": np.zeros((0, 3)),
    "no axes of an empty one": np.zeros((2, 0)),
    "F order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(20)[::2],
    "backwards": np.arange(5)[::-1],
    "axes swapped": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "big endian": np.arange(5, dtype=">i4"),
    "bool": np.array([True, False]),
    "half": np.arange(3, dtype="f2"),
    "complex": np.array([1 + 2j]),
    "long": np.arange(3, dtype=np.longdouble),
    "text": np.array(["a", "long é"]),
    "no text": np.array(["", ""], dtype="U0"),
    "bytes": np.array([b"a", b"bc"]),
    "times": np.array(["2026-01-01", "NaT"], dtype="M8[ns]"),
    "spans": np.array([1, 2], dtype="m8[25s]"),
    "raw": np.array([b"ab"], dtype="V2"),
    "records": np.array([(1, 2.5, "a")], dtype=[("x", "i4"), ("y", "f8"), ("z", "U3")]),
    "aligned records": np.zeros(2, dtype=np.dtype([("x", "i1"), ("y", "f8")], align=True)),
    "records in records": np.zeros(2, dtype=[("x", [("a", "i1"), ("b", "f4", (2, 3))]), ("y", "i2")]),
    "objects": np.array([None, "a", [1, 2], {"b": 1}], dtype=object),
    "a table of objects": np.array([[1, "a"], [None, 2.5]], dtype=object, order="F"),
    "one object": np.array({"a": 1}, dtype=object),
    "large": np.arange(100_000.0),
    "strings": np.array(["a", "b" * 50], dtype=np.dtypes.StringDType()),
    "strings, one missing": np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None)),
    "strings of strings only": np.array([["a"]], dtype=np.dtypes.StringDType(coerce=False)),
}


def _same(back, value):
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    assert back.shape == value.shape
    assert repr(back) == repr(value)
    assert back.tobytes() == value.tobytes() or value.dtype.hasobject


@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_an_array_comes_back_as_it_was(value):
    back = one(value)
    _same(back, value)
    assert back.flags.c_contiguous == value.flags.c_contiguous or not value.flags.forc
    assert back.flags.writeable == value.flags.writeable


def test_missing_strings_come_back_and_stay_there_where_a_text_stands_for_them():
    back = one(np.array(["a", np.nan], dtype=np.dtypes.StringDType(na_object=np.nan)))
    assert np.isnan(back.dtype.na_object)
    assert np.isnan(back[1])
    entries = crossed({"x": np.array(["a", "?"], dtype=np.dtypes.StringDType(na_object="?"))})[0]
    assert entries["x"]["kind"] == "handle"


def test_an_array_that_holds_itself_comes_back():
    value = np.empty(1, dtype=object)
    value[0] = [value]
    back = one(value)
    assert back[0][0] is back


def test_a_large_array_is_not_copied_on_its_way():
    value = np.arange(100_000.0)
    from remote_gpu.codec.decode import decode
    from remote_gpu.node.held import Held
    from remote_gpu.node.outgoing import collect

    found = collect(["value"], {"value": value}, Held(), limit=1 << 30, inline=1 << 30)
    assert np.shares_memory(np.frombuffer(found.buffers[0]), value)
    memory = bytearray(found.buffers[0])
    back = decode(found.head, [memory], ["value"], {})["value"]
    memory[:8] = np.float64(7).tobytes()
    assert back[0] == 7


def test_memory_that_is_read_only_is_copied_where_the_array_was_writable():
    from remote_gpu.codec.decode import decode
    from remote_gpu.node.held import Held
    from remote_gpu.node.outgoing import collect

    found = collect(["value"], {"value": np.arange(10_000.0)}, Held(), limit=1 << 30, inline=1 << 30)
    back = decode(found.head, [bytes(found.buffers[0])], ["value"], {})["value"]
    back[0] = 5
    assert back[0] == 5


def test_a_read_only_array_stays_read_only():
    for size in (10, 10_000):
        value = np.arange(float(size))
        value.flags.writeable = False
        assert not one(value).flags.writeable


@pytest.mark.parametrize(
    "value",
    [np.float32(1.5), np.int64(3), np.bool_(True), np.str_("é"), np.str_(""), np.bytes_(b"a"), np.datetime64("2026-01-01"), np.timedelta64(5, "m"),
     np.complex64(1j), np.datetime64("NaT"), np.float64(2)],
    ids=repr,
)  # fmt: skip
def test_a_scalar_of_numpy_comes_back_as_it_was(value):
    back = one(value)
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_masked_arrays_records_matrices_and_memory_mapped_files_come_back(tmp_path):
    masked = np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=9.0)
    back = one(masked)
    assert isinstance(back, np.ma.MaskedArray)
    assert back.tolist() == [1.0, None, 3.0]
    assert back.fill_value == 9.0
    assert one(np.ma.masked) is np.ma.masked
    records = np.rec.array([(1, "a")], dtype=[("x", "i4"), ("y", "U2")])
    assert isinstance(one(records), np.recarray)
    assert one(records).x.tolist() == [1]
    assert isinstance(one(np.zeros((1, 2)).view(np.matrix)), np.matrix)
    mapped = np.memmap(tmp_path / "file", dtype="f8", mode="w+", shape=(5,))
    mapped[:] = 4
    assert one(mapped).tolist() == [4.0] * 5


def test_dtypes_and_classes_of_numbers_come_back_as_values():
    assert one(np.dtype("f4")) == np.dtype("f4")
    assert one(np.dtype(object)) == np.dtype(object)
    assert one(np.dtype([("a", "i4")])) == np.dtype([("a", "i4")])
    assert one({"dtype": np.float32, "flag": np.bool_}) == {"dtype": np.float32, "flag": np.bool_}


def test_an_array_spread_out_of_one_number_does_not_leave_as_a_large_one():
    entries, _ = crossed({"x": np.broadcast_to(1.0, (1 << 40,))}, limit=1 << 20)
    assert entries["x"]["kind"] == "handle"


pd = pytest.importorskip("pandas")

TIMES = pd.date_range("2026-01-01", periods=4, freq="D")
COLUMNS = {
    "ints": pd.Series([1, 2, 3, 4]),
    "text": pd.Series(["a", None, "c", "d"]),
    "objects": pd.Series([1, "a", None, [1]], dtype=object),
    "times": pd.Series(TIMES),
    "zoned": pd.Series(TIMES.tz_localize("Europe/London")),
    "utc": pd.Series(TIMES.tz_localize("UTC")),
    "spans": pd.Series(TIMES - TIMES[0]),
    "periods": pd.Series(pd.period_range("2026-01", periods=4, freq="M")),
    "intervals": pd.Series(pd.interval_range(0, 4)),
    "categories": pd.Series(pd.Categorical(["a", "b", None, "a"], categories=["b", "a"], ordered=True)),
    "nullable ints": pd.Series([1, None, 3, 4], dtype="Int64"),
    "nullable floats": pd.Series([1, None, 3, 4], dtype="Float32"),
    "nullable truths": pd.Series([True, None, False, True], dtype="boolean"),
    "python text": pd.Series(["a", None, "c", "d"], dtype=pd.StringDtype("python")),
    "arrow text": pd.Series(["a", None, "c", "d"], dtype=pd.StringDtype("pyarrow")),
    "arrow ints": pd.Series([1, None, 3, 4], dtype="int64[pyarrow]"),
}


@pytest.mark.parametrize("value", COLUMNS.values(), ids=COLUMNS)
def test_a_column_comes_back_as_it_was(value):
    pd.testing.assert_series_equal(one(value), value)
    frame = pd.DataFrame({"a": value, "b": [1.0, 2.0, 3.0, 4.0]})
    pd.testing.assert_frame_equal(one(frame), frame)
    pd.testing.assert_series_equal(one(value[:0]), value[:0])


INDEXES = [
    pd.RangeIndex(2, 10, 2, name="r"),
    pd.Index([1, 2, 3]),
    pd.Index(["a", "b"], name=("x", 1)),
    pd.Index([1, "a"], dtype=object),
    TIMES,
    TIMES.tz_localize("Asia/Tokyo"),
    TIMES - TIMES[0],
    pd.period_range("2026-01", periods=3, freq="M"),
    pd.interval_range(0, 3, closed="both"),
    pd.CategoricalIndex(["a", "b", "a"]),
    pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None]),
    pd.Index([1, None], dtype="Int64"),
]


@pytest.mark.parametrize("value", INDEXES, ids=lambda value: f"{type(value).__name__}-{value.dtype}")
def test_an_index_comes_back_as_it_was(value):
    back = one(value)
    pd.testing.assert_index_equal(back, value, exact=True)
    assert getattr(back, "freq", None) == getattr(value, "freq", None)


def test_a_table_of_numbers_comes_back_without_a_copy_and_can_be_written():
    frame = pd.DataFrame(np.arange(100_000.0).reshape(10_000, 10), columns=list("abcdefghij"), index=pd.RangeIndex(10_000, name="row"))
    frame.attrs["from"] = "there"
    back = one(frame)
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == {"from": "there"}
    back.iloc[0, 0] = -1.0
    back["k"] = 1
    assert back.iloc[0, 0] == -1.0


def test_a_table_with_two_columns_of_one_name_comes_back():
    frame = pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])
    pd.testing.assert_frame_equal(one(frame), frame)
    pd.testing.assert_frame_equal(one(pd.DataFrame()), pd.DataFrame())
    wide = pd.DataFrame({("a", 1): [1], ("a", 2): ["b"]})
    pd.testing.assert_frame_equal(one(wide), wide)


@pytest.mark.parametrize(
    "value",
    [pd.Timestamp("2026-01-01 10:00"), pd.Timestamp("2026-10-25 00:30", tz="UTC").tz_convert("Europe/London"), pd.Timedelta("1 days 3s"), pd.Period("2026-01", "M"),
     pd.Interval(0, 1.5), pd.NaT, pd.NA, pd.CategoricalDtype(["a"], ordered=True), pd.Int64Dtype(), pd.DatetimeTZDtype("ns", "UTC"), pd.StringDtype("python")],
    ids=repr,
)  # fmt: skip
def test_a_scalar_of_pandas_comes_back_as_it_was(value):
    back = one(value)
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_a_table_of_tables_shares_its_index():
    frame = pd.DataFrame({"a": [1.5, 2.5]}, index=pd.Index(["x", "y"]))
    back = there_and_back({"frame": frame, "again": frame, "parts": [frame["a"], frame.index]})
    assert back["frame"] is back["again"]
    assert back["parts"][1] is back["frame"].index


def test_polars_and_pyarrow_come_back():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    frame = pl.DataFrame(
        {"a": [1, None], "b": ["x", "é"], "c": [[1], []], "d": [dt.date(2026, 1, 1), None]}, schema_overrides={"b": pl.Categorical}
    )
    assert one(frame).equals(frame)
    assert one(frame).schema == frame.schema
    series = pl.Series("s", [1.5, None])
    assert one(series).equals(series)
    assert one(series).name == "s"
    assert one(pl.DataFrame()).shape == (0, 0)
    table = pa.table({"a": [1, None], "b": ["x", "y"]}, metadata={"k": "v"})
    assert one(table).equals(table, check_metadata=True)
    for value in (
        table.to_batches()[0],
        table.column(0),
        table.column(0).chunk(0),
        table.schema,
        pa.array([]),
        pa.scalar(3),
        pa.int32(),
        pa.chunked_array([], pa.int8()),
    ):
        back = one(value)
        assert type(back) is type(value)
        assert back == value or back.equals(value)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_a_sparse_matrix_comes_back_as_it_was(form, kind):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.diag([1.0, 2.0, 0.0, 3.0])
    dense[0, 3] = 5
    value = getattr(sparse, f"{form}_{kind}")(dense)
    back = one(value)
    assert type(back) is type(value)
    assert (back.toarray() == dense).all()


def test_a_sparse_vector_comes_back():
    sparse = pytest.importorskip("scipy.sparse")
    value = sparse.coo_array(np.array([0, 1, 0, 2]))
    assert one(value).toarray().tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "I;16"])
def test_an_image_comes_back_pixel_by_pixel(mode):
    pictures = pytest.importorskip("PIL.Image")
    source = pictures.effect_mandelbrot((33, 7), (-2, -1, 1, 1), 50)
    value = (
        source.convert("RGB").convert(mode)
        if mode in ("HSV", "LAB", "YCbCr", "CMYK", "RGBA", "P") and mode != "LAB"
        else pictures.new(mode, (33, 7))
    )
    back = one(value)
    assert (back.mode, back.size) == (value.mode, value.size)
    assert back.tobytes() == value.tobytes()
    if mode == "P":
        assert back.convert("RGB").tobytes() == value.convert("RGB").tobytes()


def test_an_image_that_was_read_from_a_file_comes_back(tmp_path):
    pictures = pytest.importorskip("PIL.Image")
    pictures.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    with pictures.open(tmp_path / "a.png") as value:
        assert one(value).getpixel((2, 1)) == (255, 0, 0)


def test_tensors_come_back_as_they_were():
    torch = pytest.importorskip("torch")
    for value in (
        torch.arange(12.0).reshape(3, 4), torch.tensor(2), torch.zeros(0, 3), torch.arange(12).reshape(3, 4).T, torch.tensor([True]), torch.ones(3, dtype=torch.bfloat16),
        torch.tensor([1j]).conj(), torch.arange(100_000.0), torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.float16),
    ):  # fmt: skip
        back = one(value)
        assert type(back) is type(value)
        assert back.dtype == value.dtype
        assert back.shape == value.shape
        assert torch.equal(back, value)
        assert back.requires_grad == value.requires_grad
    assert one(torch.Size([1, 2])) == torch.Size([1, 2])
    assert one({"d": torch.float32, "on": torch.device("cuda:1")}) == {"d": torch.float32, "on": torch.device("cuda:1")}
    state = torch.nn.Linear(3, 2).state_dict()
    back = one(state)
    assert list(back) == list(state)
    assert torch.equal(back["weight"], state["weight"])


def test_a_network_stays_there_with_its_parameters_counted():
    torch = pytest.importorskip("torch")
    entries, _ = crossed({"net": torch.nn.Linear(10, 5)})
    assert entries["net"]["kind"] == "handle"
    assert entries["net"]["text"] == "Linear with 55 parameters on cpu"
    assert entries["net"]["size"] == 220
    assert entries["net"]["callable"] is True


def test_arrays_of_jax_come_back_as_arrays():
    jax = pytest.importorskip("jax")
    back = one(jax.numpy.arange(5.0))
    assert np.asarray(back).tolist() == [0, 1, 2, 3, 4]


def test_a_value_of_a_library_that_the_laptop_lacks_stays_there():
    entries, back = crossed({"frame": pd.DataFrame({"a": [1]}), "number": 1}, missing=("pandas",))
    assert entries["frame"]["kind"] == "handle"
    assert back == {"number": 1}


def test_zones_come_back_as_zones():
    value = pd.Timestamp("2026-01-01", tz=zoneinfo.ZoneInfo("Europe/Paris"))
    assert one(value).tzinfo == zoneinfo.ZoneInfo("Europe/Paris")
