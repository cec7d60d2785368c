"""Handles: what they say, what goes to the node, and what never does."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
from tests.fakes.crossing import NodeAtHand

from remote_gpu.handles import CallableHandle, Facts, Handle, make_handle


@pytest.fixture
def node():
    return NodeAtHand()


class Model:
    """An estimator, as a user knows them."""

    def __init__(self):
        self.weights = np.arange(3.0)
        self.steps = {"a": 1}
        self._secret = 5

    def predict(self, x, *, scale=1):
        return x * scale

    def __len__(self):
        return 0


def test_a_handle_says_what_it_is_and_where(node):
    handle = make_handle(
        {
            "id": 3,
            "type": "torch.Tensor",
            "shape": [1024, 3],
            "dtype": "torch.float32",
            "device": "cuda:0",
            "size": 12288,
            "text": "Tensor",
        },
        node,
    )
    assert repr(handle) == "<remote torch.Tensor (1024, 3) torch.float32 on cuda:0 12.0 KiB in session work on node7: Tensor>"
    for part in ("torch.Tensor", "1024 × 3", "torch.float32", "cuda:0", "12.0 KiB", "session work on node7", ".fetch()"):
        assert part in handle._repr_html_()
    assert handle._remote_gpu_handle == ("s1", 3)
    assert node.asked == []


def test_sizes_are_in_words():
    words = [Facts(1, "T", size=size).summary for size in (0, 1023, 1024, 5 << 30)]
    assert words == ["T 0 bytes", "T 1023 bytes", "T 1.0 KiB", "T 5.0 GiB"]
    assert Facts(1, "T", shape=(5,)).summary == "T (5,)"


def test_attributes_and_methods_go_to_the_node_and_come_back_as_values_or_handles(node):
    handle = node.take(Model())
    assert handle.weights.tolist() == [0, 1, 2]
    assert handle.steps == {"a": 1}
    assert isinstance(handle.predict, CallableHandle)
    assert handle.predict(np.ones(2), scale=3).tolist() == [3, 3]
    handle.steps = {"b": 2}
    assert handle.steps == {"b": 2}
    del handle.steps
    with pytest.raises(AttributeError, match="steps"):
        _ = handle.steps


def test_a_name_with_an_underscore_never_goes_to_the_node(node):
    handle = node.take(Model())
    for name in ("_secret", "__class_getitem__", "_ipython_display_", "__dataframe__", "_repr_mimebundle_"):
        assert not hasattr(handle, name)
        with pytest.raises(AttributeError):
            setattr(handle, name, 1)
        with pytest.raises(AttributeError):
            delattr(handle, name)
    assert node.asked == []
    with pytest.raises(AttributeError):
        node.held.operate(handle._facts.id, "getattr", ("_secret",))


def test_looking_at_a_handle_costs_nothing(node):
    handle = node.take(Model())
    repr(handle), dir(handle), handle._repr_html_(), type(handle), hash(handle), isinstance(handle, Handle)
    assert not callable(handle)
    assert dir(handle) == ["fetch"]
    assert node.asked == []


def test_a_container_that_stays_there_behaves_like_one(node):
    there = {"f": print, "numbers": [1, 2], 3: 4}
    handle = node.take(there)
    assert isinstance(handle, Handle)
    assert len(handle) == 3
    assert bool(handle)
    assert "numbers" in handle
    assert "no" not in handle
    assert handle["numbers"] == [1, 2]
    assert callable(handle["f"])
    handle["new"] = [5]
    del handle[3]
    assert list(handle) == ["f", "numbers", "new"]
    assert there == {"f": print, "numbers": [1, 2], "new": [5]}
    with pytest.raises(KeyError):
        _ = handle["absent"]


def test_an_empty_remote_object_is_false(node):
    assert not node.take(Model())


def test_many_items_are_iterated_over_in_few_questions(node):
    handle = node.take([print, *range(500)])
    items = list(handle)
    assert items[1:] == [*range(500)]
    assert callable(items[0])
    assert len([asked for asked in node.asked if asked[0] == "batch"]) == 8


def test_a_generator_there_is_iterated_over_here(node):
    def numbers():
        yield from range(70)

    assert list(node.take(numbers())) == [*range(70)]


def test_fetch_brings_the_value_and_numpy_takes_a_handle_as_an_array():
    node = NodeAtHand(limit=1000)
    handle = node.take(np.arange(1000.0))
    assert isinstance(handle, Handle)
    assert handle.fetch().sum() == 499500
    assert np.asarray(handle).sum() == 499500
    assert np.asarray(handle, dtype="i4").dtype == np.int32
    assert np.mean(handle) == 499.5
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(handle, copy=False)


def test_a_handle_that_is_not_used_any_more_is_released_once(node):
    handle = node.take(Model())
    number = handle._facts.id
    second = node.take(node.held.resolve(number))
    assert second._facts.id == number
    del handle
    gc.collect()
    assert node.released == [number]
    node.held.drop(node.released)
    assert node.held.resolve(number) is not None
    del second
    gc.collect()
    node.held.drop([number])
    assert len(node.held) == 0


def test_a_handle_outlives_an_interpreter_that_forgets_its_session():
    class Broken:
        session, where = "s", "w"

        def release(self, handle_id):
            raise RuntimeError

    handle = make_handle({"id": 1, "type": "T"}, Broken())
    del handle
    gc.collect()


def test_a_handle_is_not_pickled_nor_copied(node):
    handle = node.take(Model())
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="fetch"):
            use(handle)
