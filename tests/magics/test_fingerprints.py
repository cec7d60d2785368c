"""What tells a changed value from an unchanged one: changes in place are seen, and a thousand variables cost a few milliseconds."""

from __future__ import annotations

import sys
import threading
import tracemalloc

import pytest
from tests.fakes.other_side import Notebook

from remote_gpu.codec.encode import CannotCross, Scope
from remote_gpu.codec.fingerprints import fingerprint

np = pytest.importorskip("numpy")


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


def key(value, namespace=None):
    return fingerprint(value, Scope({} if namespace is None else namespace, same_python=True, session="s")).key


def test_values_that_differ_have_different_keys():
    values = [
        *(0, 1, True, False, None, ..., 0.0, -0.0, 1.0, 1 + 0j, complex(0, -0.0), 0j),
        *("", "a", b"", b"a", bytearray(b"a"), "x" * 10_000, "y" * 10_000, b"x" * 10_000),
        *([], (), {}, set(), frozenset(), [1], [True], [1.0], [[1]], {"a": 1}, {"a": 2}, {"b": 1}),
        *({"a": 1, "b": 2}, {"b": 2, "a": 1}, int, float, len, np, threading),
        *(np.zeros(3), np.zeros(3, "f4"), np.zeros((3, 1)), np.zeros((1, 3)), np.asfortranarray(np.zeros((2, 2))), np.zeros((2, 2))),
        *(np.array(0.0), np.array(["a"]), np.array(["b"]), np.float64(1), np.zeros(3, "i4,f8"), np.zeros((2, 3)).T),
    ]
    keys = [key(value) for value in values]
    for first, one in enumerate(keys):
        same = [second for second, other in enumerate(keys) if one == other]
        assert same == [first], [values[each] for each in same]


def test_the_same_value_has_the_same_key_and_not_a_number_too():
    nan = float("nan")
    values = [nan, {"a": [1, {2, 3}]}, np.array([nan]), "s" * 10_000, {"x", "y", "z"}, object]
    assert [key(value) for value in values] == [key(value) for value in values]


def test_changes_in_place_are_seen(notebook):
    notebook.cell(
        "import numpy as np\nclass Model: pass\nclass Other(Model):\n    def f(self): return 1\nmodel = Model()\nmodel.w = [np.zeros(3)]\n"
        "rows = [[1], {'k': 2}]\narray = np.zeros((200, 300))\npart = array[::2, ::3]\nobjects = np.array([[1], 'a'], dtype=object)\n"
        "masked = np.ma.masked_array([1, 2], mask=[0, 1])\nstate = Other()\ndef f(a=[1]): return a"
    )
    names = notebook.names
    changes = {
        "model": ["model.w[0][1] = 5", "model.new = 1", "Model.extra = 1"],
        "rows": ["rows[0].append(2)", "rows[1]['k'] = 3"],
        "array": ["array[199, 299] = 1", "array.flags.writeable = False"],
        "part": ["array.flags.writeable = True; array[198, 297] = 9"],
        "objects": ["objects[0].append(1)"],
        "masked": ["masked.mask[0] = True", "masked.fill_value = 7"],
        "state": ["Other.f = lambda self: 2", "Model.more = 2"],
        "f": ["f.note = 1", "f.__defaults__[0].append(1)", "f.__code__ = (lambda a: 5).__code__"],
    }
    for name, steps in changes.items():
        for step in steps:
            before = fingerprint(names[name], notebook.scope()).key
            assert fingerprint(names[name], notebook.scope()).key == before
            notebook.cell(step)
            assert fingerprint(names[name], notebook.scope()).key != before, step


def test_a_change_that_the_array_does_not_show_is_not_seen():
    array = np.zeros((100, 100))
    part = array[::2]
    before = key(part)
    array[1] = 5
    assert key(part) == before


def test_changes_in_tables_and_tensors_are_seen():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "s": ["x", "y"]})
    before = key(frame)
    assert key(frame) == before
    frame.loc[0, "s"] = "z"
    changed = key(frame)
    assert changed != before
    frame.columns = ["b", "s"]
    assert key(frame) != changed


def test_changes_in_tensors_are_seen():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(10, requires_grad=True)
    before = key(tensor)
    assert key(tensor) == before
    with torch.no_grad():
        tensor[3] = 1
    changed = key(tensor)
    assert changed != before
    layer = torch.nn.Linear(2, 2)
    before = key(layer)
    layer.eval()
    assert key(layer) != before


def test_a_function_says_which_names_and_modules_it_needs(notebook):
    notebook.cell(
        "import json\nk = 1\ndef f(x):\n    return json.dumps(g(x) * k)\ndef g(x): return x\nclass A:\n    def m(self): return f(1)\na = [A()]"
    )
    assert fingerprint(notebook.names["f"], notebook.scope()).needs == {"f", "json", "g", "k"}
    scope = notebook.scope()
    for _ in range(2):
        assert fingerprint(notebook.names["a"], scope).needs == {"A", "f"}, "also when the class was seen before"
    assert fingerprint(notebook.names["json"], scope).modules == {"json"}
    assert fingerprint([json_decoder()], scope).modules >= {"json.decoder"}


def json_decoder():
    from json import JSONDecodeError

    return JSONDecodeError


def test_what_cannot_cross_says_so(notebook):
    notebook.cell("import threading\ncfg = {'lock': threading.Lock()}")
    with pytest.raises(CannotCross, match=r"cfg\['lock'\] is a lock"):
        fingerprint(notebook.names["cfg"], notebook.scope())


def test_the_size_is_that_of_the_memory(notebook):
    array = np.zeros(1000)
    assert fingerprint(array, notebook.scope()).size == 8000
    assert fingerprint({"a": array, "b": np.zeros(10)}, notebook.scope()).size - 8080 in range(200)
    assert fingerprint(["x" * 100] * 50 + list(range(1000)), notebook.scope()).size in range(2000, 5000)


def test_an_array_in_pieces_is_compared_without_a_copy_of_the_whole():
    whole = np.random.default_rng(0).random((4000, 4000))
    part = whole[::2, 1:3999]
    assert part.nbytes > 60 * 1024**2
    tracemalloc.start()
    try:
        first = key(part)
        nested = key([part])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024**2, peak
    whole[2000, 2000] += 1
    assert key(part) != first
    assert key([part]) != nested


@pytest.mark.timeout(30)
def test_an_array_that_repeats_itself_is_compared_by_what_it_has():
    array = np.broadcast_to(np.arange(4), (10**9, 4))  # whoever reads all of it reads 32 GB
    assert key(array) == key(array)


def _calls(function) -> int:
    """How many Python functions are called meanwhile: what a busy machine does not change."""
    count = 0

    def called(_frame, event, _argument) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def test_a_thousand_small_variables_cost_a_few_calls_each(notebook):
    make = [lambda n: n, str, lambda n: [n, "a", 2.5] * 5, lambda n: {"a": n, "b": [1, 2]}, lambda n: np.arange(50) + n]
    values = [make[number % 5](number) for number in range(1000)]
    scope = notebook.scope()
    calls = _calls(lambda: [fingerprint(value, scope) for value in values])
    assert calls < 12_000, calls


def test_a_thousand_instances_have_their_class_looked_at_once(notebook):
    notebook.cell(
        "class Point:\n    def __init__(self, x): self.x = x\n    def norm(self): return abs(self.x)\npoints = [Point(i) for i in range(1000)]"
    )
    scope = notebook.scope()
    calls = _calls(lambda: [fingerprint(value, scope) for value in notebook.names["points"]])
    assert calls < 100_000, calls
    assert len({fingerprint(value, scope).key for value in notebook.names["points"]}) == 1000
