"""A node that sends what runs code runs nothing here, whatever the channel; what is wrong is refused and nothing else happens."""

from __future__ import annotations

import pickle
import random
import time
import tracemalloc
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import hostile, parcels

from remote_gpu.codec.decode import UnsafeValue, decode
from remote_gpu.execution import Outcome, Result
from remote_gpu.failures import remote_error
from remote_gpu.handles import facts_of, make_handle
from remote_gpu.node.held import Held
from remote_gpu.node.outgoing import collect

KINDS = [*hostile.pickles(hostile.Canary(hostile.Path("/nowhere")))]


@pytest.fixture
def canary(tmp_path):
    return hostile.Canary(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_open_unpickle_would_run_it(canary, kind):
    try:
        pickle.loads(hostile.pickles(canary)[kind])
    except Exception:  # noqa: BLE001  what it raises after it ran is its own affair
        assert canary.sang, "it failed before it ran anything: not an attack"
    assert canary.sang


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_sent_as_a_value_runs_nothing(canary, kind):
    attack = hostile.pickles(canary)[kind]
    with pytest.raises(UnsafeValue):
        decode(attack, [], ["value"], {})
    good = collect(["good"], {"good": [1, 2]}, Held(), limit=1 << 20, inline=1 << 20).head
    with pytest.raises(UnsafeValue):
        decode(good + attack, [], ["good", "value"], {})
    assert not canary.sang


@pytest.mark.parametrize("kind", [*hostile.impostors(hostile.Canary(hostile.Path("/nowhere")))])
def test_nothing_but_a_constructor_is_reached_by_a_name_on_the_wire(canary, kind):
    with pytest.raises(UnsafeValue):
        decode(hostile.impostors(canary)[kind], [], ["value"], {"Model": type("Model", (), {})})
    assert not canary.sang


@pytest.mark.parametrize("kind", [*hostile.bombs()])
def test_a_bomb_takes_neither_time_nor_memory_nor_the_process(kind):
    attack = hostile.bombs()[kind]
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(UnsafeValue):
            decode(attack, [], ["value"], {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 20
    assert peak < 200 * len(attack) + (8 << 20)


def test_references_that_multiply_are_references():
    value: list = []
    for _ in range(200):
        value = [value, value]
    head, buffers, names = parcels.parcel({"value": value})
    back = decode(head, buffers, names, {})["value"]
    assert back[0] is back[1]
    assert back[0][0] is back[1][1]


@pytest.mark.parametrize("kind", [*hostile.entries(hostile.Canary(hostile.Path("/nowhere")))])
def test_a_handle_described_by_something_else_than_text_and_numbers_is_refused(canary, kind):
    with pytest.raises(UnsafeValue):
        facts_of(hostile.entries(canary)[kind])
    assert not canary.sang


class _Nobody:
    session, where = "s", "session s on <b>node</b>"

    def release(self, handle_id):
        pass


def test_what_a_node_says_of_a_handle_is_shown_as_text():
    markup = "<script>alert(1)</script>\x1b]52;c;AAAA\x07\nnew line\u202e"
    entry = {"id": 1, "type": markup, "shape": [3], "dtype": markup, "device": markup, "size": 5, "text": markup * 100}
    handle = make_handle(entry, _Nobody())
    assert "<script" not in handle._repr_html_()
    assert "<b>node" not in handle._repr_html_()
    for shown in (repr(handle), handle._repr_html_()):
        assert not {"\x1b", "\x07", "\n", "\u202e"} & set(shown)
        assert len(shown) < 5000


def test_an_error_of_a_node_is_text_and_none_of_it_is_looked_up(canary):
    for attack in hostile.pickles(canary).values():
        text = attack.decode("latin-1")
        for name in ("ValueError", "os.system", "__import__", "exec", text):
            error = remote_error(Outcome(Result.ERROR, ename=name, evalue=text, traceback=(text,)))
            assert isinstance(error, Exception)
            assert str(error) == text
    assert not canary.sang


@given(st.binary(max_size=300), st.lists(st.binary(max_size=20), max_size=2))
def test_whatever_bytes_come_they_are_values_or_refused(head, buffers):
    try:
        found = decode(b"\x80\x05" + head, buffers, ["value"], {})
    except UnsafeValue:
        return
    assert list(found) == ["value"]


_opcodes = st.lists(
    st.sampled_from(
        [
            bytes([code])
            for code in b"(.0N\x88\x89K\x01M\x01\x02J\x01\x02\x03\x04])}\x8f\x85\x86\x87t\x90\x91aesu\x94h\x00R\x97\x98\x93\x8c\x01a"
        ]
    ),
    max_size=60,
).map(b"".join)


@given(_opcodes)
def test_whatever_instructions_come_in_whatever_order_they_are_values_or_refused(head):
    try:
        decode(b"\x80\x05" + head + b".", [b"abc"], ["value"], {})
    except UnsafeValue:
        return


@pytest.mark.parametrize("values", [parcels.plain_values, parcels.numeric_values, parcels.library_values], ids=lambda each: each.__name__)
def test_a_damaged_parcel_is_values_or_refused(values):
    values = values()
    sent = [*(parcels.parcel({name: value}) for name, value in values.items()), parcels.parcel(values)]
    for head, buffers, names in sent:
        assert list(decode(head, buffers, names, {})) == names
    source = random.Random(3)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3000):
            head, buffers, names = source.choice(sent)
            try:
                decode(*parcels.damaged(head, buffers, source), names, {})
            except UnsafeValue:
                refused += 1
    assert refused > 1000


def test_a_parcel_with_less_or_more_than_it_names_is_refused():
    head, buffers, names = parcels.parcel({"a": [1], "b": parcels.np.arange(5000.0)})
    for wrong in (
        (head, buffers, ["a"]),
        (head, buffers, ["a", "b", "c"]),
        (head, [], names),
        (head, [*buffers, b"x"], names),
        (head + b"x", buffers, names),
        (b"", [], ["a"]),
    ):
        with pytest.raises(UnsafeValue):
            decode(*wrong, {})


def test_a_sparse_matrix_whose_indices_lead_out_of_its_memory_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    np = parcels.np
    from remote_gpu.codec.rebuild.sparse import sparse as build

    good = sparse.csr_array(np.eye(4))
    for indices, pointers in (
        ([0, 1, 2, 9], good.indptr),
        (good.indices, [0, 1, 99999, 3, 4]),
        (good.indices, [0, 9, 0, 3, 4]),
        ([-1, 1, 2, 3], good.indptr),
        (good.indices, [0, 1, 2, 3, 5]),
    ):
        parts = [good.data, np.array(indices, dtype="i4"), np.array(pointers, dtype="i4")]
        for form in ("csr", "csc", "lil"):
            with pytest.raises(UnsafeValue):
                build(None, form, True, (4, 4), parts)
    empty = [np.zeros(0), np.zeros(0, dtype="i4"), np.array([0, 500, 0], dtype="i4")]
    with pytest.raises(UnsafeValue):
        build(None, "csr", True, (2, 4), empty)


def test_a_table_whose_column_names_a_python_class_is_refused(canary):
    pa = pytest.importorskip("pyarrow")
    from remote_gpu.codec.rebuild.arrow import arrow

    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": hostile.pickles(canary)["protocol 5"]}
    schema = pa.schema([pa.field("a", pa.int64(), metadata=about)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table([[1]], schema=schema))
    with pytest.raises(UnsafeValue):
        arrow(None, "table", sink.getvalue().to_pybytes())
    assert not canary.sang
