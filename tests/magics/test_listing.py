"""The table of variables."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from remote_gpu.listing import Row, html, row_from, row_of, rows, table


def test_the_table_says_where_each_name_is():
    array = Row("numpy.ndarray float64", (2, 3), 48)
    local = {"b": array, "a": Row("int", size=28), "m": Row("Net", handle=True), "x": array, "C": Row("str", size=50)}
    remote = {"b": array, "m": Row("torch.nn.Linear on cuda:0", size=4096), "x": array, "y": Row("list"), "C": Row("str", size=60)}
    assert table(local, remote, differs={"x"}) == (
        "name  type                       shape   size    where\n"
        "a     int                                28 B    here\n"
        "b     numpy.ndarray float64      (2, 3)  48 B    both\n"
        "C     str                                50 B    both\n"
        "m     torch.nn.Linear on cuda:0          4.1 kB  handle\n"
        "x     numpy.ndarray float64      (2, 3)  48 B    differs\n"
        "y     list                                       there\n"
    )


def test_other_shapes_differ_by_themselves_and_both_are_shown():
    assert rows({"x": Row("ndarray", (2,), 16)}, {"x": Row("ndarray", (3,), 24)}) == [
        ("x", "ndarray", "(2,) here, (3,) there", "16 B here, 24 B there", "differs")
    ]
    assert rows({"x": Row("int", None, 28)}, {"x": Row("list", None, None)}, {"x"}) == [
        ("x", "int here, list there", "", "28 B here, – there", "differs")
    ]


def test_another_type_differs_too():
    assert rows({"x": Row("int")}, {"x": Row("str")})[0][-1] == "differs"
    assert rows({"x": Row("ndarray float64")}, {"x": Row("ndarray float32")})[0][-1] == "differs"
    assert rows({"x": Row("pandas.DataFrame")}, {"x": Row("pandas.core.frame.DataFrame on cuda:0")})[0][-1] == "both"


def test_without_names_it_says_so():
    assert table({}, {}) == "No variables, neither here nor there.\n"


def test_values_say_what_they_are():
    class Odd:
        @property
        def shape(self) -> None:
            raise RuntimeError

    frame = pd.DataFrame({"a": [1, 2, 3]})
    assert row_of(np.zeros((2, 3))) == Row("numpy.ndarray float64", (2, 3), 48)
    assert row_of(frame) == Row(f"{type(frame).__module__}.DataFrame", (3, 1), int(frame.memory_usage().sum()))
    assert row_of([1, 2]) == Row("list")
    assert row_of("text").size == sys.getsizeof("text")
    assert row_of(np.ndarray).shape is None
    assert row_of(Odd()).shape is None


def test_what_a_node_says_is_only_shown():
    said = {"type": "torch.\x1b[31mTensor", "dtype": "float32", "device": "cuda:0", "shape": [2, "3"], "size": "many"}
    assert row_from(said) == Row("torch. [31mTensor float32 on cuda:0", (2,), None)
    assert row_from({}) == Row("object")
    assert row_from({"type": "int", "device": "cpu", "size": 28}, handle=True) == Row("int", None, 28, handle=True)


def test_html_is_escaped():
    text = html({"x": Row("<b>")}, {})
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
