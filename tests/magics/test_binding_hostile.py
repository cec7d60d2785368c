"""What a node says of the cell's names is checked before any name is bound."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.fakes import hostile, parcels

from remote_gpu.binding import Binder
from remote_gpu.codec.decode import UnsafeValue
from remote_gpu.summary import Summary


def _binder(namespace, **options):
    def never(*_):
        raise AssertionError

    return Binder(namespace, classes={}, handle=options.pop("handle", never), fetch=never, imports={}, trusted=False, **options)


def _message(entries, head=b"", buffers=(), refs=None):
    content = {"entries": entries, "head": {"inline": 0}, "buffers": refs or []}
    return SimpleNamespace(content=content, buffers=[head, *buffers])


def test_one_hostile_value_keeps_all_names_of_the_cell_from_being_bound(tmp_path):
    canary = hostile.Canary(tmp_path)
    head = parcels.parcel({"good": 1})[0] + hostile.pickles(canary)["protocol 5"]
    namespace = {"good": "mine", "gone": 1}
    entries = {"gone": {"kind": "gone"}, "good": {"kind": "value"}, "bad": {"kind": "value"}}
    with pytest.raises(UnsafeValue):
        _binder(namespace).bind(_message(entries, head), Summary())
    assert namespace == {"good": "mine", "gone": 1}
    assert not canary.sang


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"entries": None},
        {"entries": {"a": None}},
        {"entries": {"a": {"kind": "value"}}},
        {"entries": {"a": {"kind": "value"}}, "head": {"inline": 9}, "buffers": []},
        {"entries": {"a": {"kind": "value"}}, "head": {"inline": "x"}, "buffers": []},
        {"entries": {"a": {"kind": "value"}}, "head": {"inline": 0}, "buffers": [None]},
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_read_is_refused(content):
    namespace = {"a": 1}
    with pytest.raises(UnsafeValue):
        _binder(namespace).bind(SimpleNamespace(content=content, buffers=[b""]), Summary())
    assert namespace == {"a": 1}


@pytest.mark.parametrize("kind", [*hostile.entries(hostile.Canary(hostile.Path("/nowhere")))])
def test_a_handle_that_is_wrongly_described_is_neither_made_nor_fetched(tmp_path, kind):
    entry = hostile.entries(hostile.Canary(tmp_path))[kind]
    for fetch in (False, True):
        with pytest.raises(UnsafeValue):
            _binder({}).bind(_message({"a": {**entry, "fetch": fetch}}), Summary())


def test_a_name_that_the_notebook_does_not_give_away_is_not_bound():
    head, _, names = parcels.parcel({"a": 1, "get_ipython": 2, "_ih": 3})
    namespace = {"get_ipython": "the shell's", "_ih": "the shell's"}
    _binder(namespace, may_bind={"a"}.__contains__).bind(_message({name: {"kind": "value"} for name in names}, head), Summary())
    assert namespace == {"a": 1, "get_ipython": "the shell's", "_ih": "the shell's"}
