"""What stays on the node: the table behind handles, what is said of an object, and which values leave."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from remote_gpu.node.describing import facts
from remote_gpu.node.held import HandleGone, Held
from remote_gpu.node.outgoing import collect


class Thing:
    pass


def test_one_object_has_one_number_as_long_as_a_handle_of_it_lives():
    held, thing = Held(), Thing()
    first, second = held.keep(thing), held.keep(thing)
    assert first == second
    assert held.keep(Thing()) != first
    held.drop([first, 99])
    assert held.resolve(first) is thing
    held.drop([first])
    with pytest.raises(HandleGone):
        held.resolve(first)
    with pytest.raises(KeyError):
        held.resolve(first)
    assert held.keep(thing) != first


def test_an_object_is_let_go_with_its_last_handle():
    held, thing = Held(), Thing()
    seen = weakref.ref(thing)
    number = held.keep(thing)
    del thing
    gc.collect()
    assert seen() is not None
    held.drop([number])
    gc.collect()
    assert seen() is None


def test_collecting_keeps_nothing_but_what_it_returns():
    thing, array = Thing(), np.arange(10_000.0)
    seen, memory = weakref.ref(thing), weakref.ref(array)
    held = Held()
    found = collect(["a", "b"], {"a": [array], "b": thing}, held, limit=1 << 30, inline=1 << 30)
    held.drop([found.entries["b"]["id"]])
    del found, thing, array
    assert (seen(), memory()) == (None, None)


def test_an_unknown_operation_is_refused():
    held = Held()
    with pytest.raises(Exception, match="does not know the operation"):
        held.operate(held.keep(Thing()), "eval", ("1",))


def test_an_array_is_described_without_being_formatted():
    said = facts(np.zeros((100_000, 3)))
    assert said == {
        "type": "numpy.ndarray", "shape": [100_000, 3], "dtype": "float64", "device": "cpu", "size": 2_400_000,
        "text": "ndarray of 100000 × 3, float64", "callable": False,
    }  # fmt: skip
    assert facts(np.arange(3))["text"] == "array([0, 1, 2])"


def test_tables_functions_classes_and_estimators_are_described():
    pd = pytest.importorskip("pandas")
    said = facts(pd.DataFrame({"a": range(100), "b": "x"}))
    assert said["type"] in ("pandas.DataFrame", "pandas.core.frame.DataFrame")
    assert said["shape"] == [100, 2]
    assert said["size"] > 800

    def function(x, y=2):
        return x + y

    assert facts(function)["text"].endswith("function(x, y=2)")
    assert facts(function)["callable"] is True
    assert facts(Thing)["text"] == "class Thing()"
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression()
    assert facts(linear)["text"] == "LinearRegression()"
    assert facts("a" * 10_000)["size"] > 10_000
    assert len(facts("a" * 10_000)["text"]) <= 200


@pytest.mark.timeout(30, method="thread")  # the other method takes the alarm for itself
def test_a_repr_that_raises_is_long_or_never_ends_does_not_matter():
    class Raises:
        def __repr__(self):
            raise RuntimeError("no")

    class Endless:
        def __repr__(self):
            while True:
                pass

    class Long:
        def __repr__(self):
            return "long\n" * 1_000_000

    assert facts(Raises())["text"].startswith("<Raises instance")
    began = time.perf_counter()
    assert facts(Endless())["text"] == "Endless object; its repr takes long"
    assert facts([Endless(), Endless()])["text"] == "list object; its repr takes long"
    assert time.perf_counter() - began < 2
    assert 100 < len(facts(Long())["text"]) <= 200
    assert len(facts([[0] * 1000] * 1_000_000)["text"]) <= 200
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_an_alarm_of_the_users_own_is_left_alone():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        facts(Thing())
        os.kill(os.getpid(), signal.SIGALRM)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_beside_a_running_cell_no_code_of_a_value_is_called():
    ran = []

    class Noisy:
        def __repr__(self):
            ran.append(1)
            return "x"

    said = []
    thread = threading.Thread(target=lambda: said.append(facts(Noisy())))
    thread.start()
    thread.join()
    assert said[0]["text"] == "Noisy object"
    assert ran == []


@dataclasses.dataclass
class Box:
    x: object


def _collect(values, **options):
    return collect(list(values), values, Held(), **{"limit": 1000, "inline": 500, **options})


def test_each_name_gets_an_entry_that_says_what_became_of_it():
    values = {"small": [1], "middling": "x" * 700, "large": "y" * 5000, "module": os, "function": print}
    found = collect([*values, "absent"], values, Held(), limit=1000, inline=500)
    kinds = {name: (entry["kind"], entry.get("fetch")) for name, entry in found.entries.items()}
    assert kinds == {
        "small": ("value", None),
        "middling": ("handle", True),
        "large": ("handle", False),
        "module": ("module", None),
        "function": ("handle", False),
        "absent": ("gone", None),
    }
    assert found.entries["module"] == {"kind": "module", "module": "os"}
    assert found.entries["large"]["why"] == "larger than 1,000 bytes"


def test_what_is_asked_for_leaves_whatever_its_size():
    found = _collect({"a": "x" * 5000, "b": "y" * 5000}, force=("a",), inline=1 << 30)
    assert found.entries["a"]["kind"] == "value"
    assert found.entries["b"]["kind"] == "handle"
    assert _collect({"a": "x" * 5000}, force=("a",)).entries["a"]["fetch"] is True


def test_many_values_do_not_make_one_huge_message():
    found = _collect({f"n{n}": f"{n}" + "x" * 400 for n in range(100)})
    inside = [entry for entry in found.entries.values() if entry["kind"] == "value"]
    assert 10 < len(inside) < 25
    assert all(entry["fetch"] for entry in found.entries.values() if entry["kind"] == "handle")


def test_a_value_whose_own_code_raises_stays_and_the_rest_leaves():
    class Trap:
        __slots__ = ()

        @property
        def __dict__(self):
            raise RuntimeError("mine")

    from remote_gpu.node.incoming import SENT_CLASSES

    SENT_CLASSES[Trap] = "Trap"
    found = _collect({"trap": [Trap()], "good": 1})
    assert found.entries["good"]["kind"] == "value"
    assert found.entries["trap"]["why"] == "RuntimeError: mine"


def test_a_large_value_is_given_up_early():
    numbers = list(range(3_000_000))
    began = time.perf_counter()
    assert _collect({"numbers": numbers}).entries["numbers"]["kind"] == "handle"
    assert time.perf_counter() - began < 0.5


def test_memory_leaves_without_a_copy_and_in_the_order_of_the_head():
    arrays = {"a": np.arange(5000.0), "b": np.arange(5000)}
    found = _collect(arrays, limit=1 << 30, inline=1 << 30)
    assert [np.shares_memory(np.frombuffer(buffer), arrays[name]) for buffer, name in zip(found.buffers, arrays, strict=True)] == [
        True,
        True,
    ]
