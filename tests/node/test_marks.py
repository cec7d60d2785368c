"""Marks tell whether a cell changed a value in place."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from remote_gpu.node.marks import MARKED_BYTES, mark


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1, 2], lambda value: value.append(3)),
        ({"a": [1]}, lambda value: value["a"].append(2)),
        ({1, 2}, lambda value: value.add(3)),
        (([1], 2), lambda value: value[0].append(3)),
        (bytearray(b"ab"), lambda value: value.extend(b"c")),
        (np.zeros(1000), lambda value: value.sort() or value.__setitem__(5, 1.0)),
    ],
)
def test_a_change_in_place_changes_the_mark(value, change):
    before = mark(value)
    assert before is not None
    assert mark(value) == before
    change(value)
    assert mark(value) != before


@pytest.mark.parametrize(
    "value", [1, "text", None, threading.Lock(), np.zeros(MARKED_BYTES // 8 + 1), [0] * (MARKED_BYTES + 1), [threading.Lock()]]
)
def test_what_cannot_change_or_is_too_large_or_cannot_be_pickled_has_no_mark(value):
    assert mark(value) is None


def test_a_value_whose_pickling_fails_has_no_mark():
    class Bad(list):
        def __reduce__(self):
            raise RuntimeError("no")

    assert mark([Bad()]) is None
