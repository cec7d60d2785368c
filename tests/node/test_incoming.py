"""What a node does with a parcel: it builds all values or says of each why not, and binds nothing by itself."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from typing import ClassVar

import pytest

from jupyter_remote_gpu.clusters.bundle import Bundle
from remote_gpu.codec import standins
from remote_gpu.node.builders import Builders
from remote_gpu.node.incoming import NamesRefused, load


class Named:
    """Something that the stream names."""

    def __init__(self, module, name, *arguments):
        self.parts = (module, name, arguments)

    def __reduce__(self):
        raise NotImplementedError


class Stream(pickle._Pickler):
    """Writes calls of functions that need not exist here."""

    def save_named(self, value):
        module, name, arguments = value.parts
        self.save(module)
        self.save(name)
        self.write(pickle.STACK_GLOBAL)
        self.save(arguments)
        self.write(pickle.REDUCE)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, Named: save_named}


def stream(*values):
    file = io.BytesIO()
    pickler = Stream(file, 5)
    for value in values:
        pickler.dump(value)
    return file.getvalue()


def refusals(head, names, held=None):
    with pytest.raises(NamesRefused) as caught:
        load(head, [], names, {}, (held or {}).__getitem__)
    return caught.value.reasons


def test_a_package_that_is_missing_is_named_and_all_that_is_missing_is_told_at_once():
    head = stream(Named("seaborn_x.axisgrid", "FacetGrid", 1), [1], {"k": Named("other_x", "Thing")}, (2,))
    assert refusals(head, ["grid", "fine", "other", "also"]) == {
        "grid": "needs the package seaborn_x, which is not installed on the node",
        "other": "needs the package other_x, which is not installed on the node",
    }


def test_a_part_of_a_package_that_is_missing_is_named():
    assert refusals(stream(Named("json.nothing", "X")), ["a"]) == {
        "a": "needs the module json.nothing, which the node's json does not have"
    }
    told = refusals(stream(Named("json", "Nothing")), ["a"])["a"]
    assert told.startswith("needs json.Nothing, which the node does not have (AttributeError: ")
    told = refusals(stream(Named("cloudpickle.cloudpickle", "subimport", "seaborn_x")), ["a"])["a"]
    assert told == "needs the package seaborn_x, which is not installed on the node"


def test_a_library_that_building_a_value_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    head = stream(Named("remote_gpu.codec.standins", "jax_array", [1], "float32", False))
    assert refusals(head, ["a"]) == {"a": "needs the package jax, which is not installed on the node"}


def test_an_error_while_a_value_is_built_is_told():
    assert refusals(stream(1, Named("builtins", "int", "x")), ["a", "b"]) == {
        "b": "the node cannot build it (ValueError: invalid literal for int() with base 10: 'x')"
    }


def test_a_handle_that_is_gone_is_told():
    head = stream(Named("remote_gpu.codec.standins", "handle", 3))
    assert refusals(head, ["h"]) == {"h": "the value of its handle is not held any more"}
    kept = object()
    assert load(head, [], ["h"], {}, {3: kept}.__getitem__) == {"h": kept}


def test_a_stream_that_is_cut_is_refused():
    head = stream([1, 2, 3])
    assert set(refusals(head[:-3], ["a"])) == {"a"}
    assert set(refusals(b"", ["a"])) == {"a"}


def test_loading_binds_nothing():
    namespace = {}
    assert load(stream(1, 2), [], ["a", "b"], namespace, {}.__getitem__) == {"a": 1, "b": 2}
    assert namespace == {}


def test_what_the_notebook_named_as_its_own_is_looked_up_among_the_names():
    namespace = {"make": lambda: 5}
    assert load(stream(Named("__main__", "make")), [], ["a"], namespace, {}.__getitem__) == {"a": 5}
    assert "needs __main__.make" in refusals(stream(Named("__main__", "make")), ["a"])["a"]


def test_every_stand_in_has_its_builder():
    builders = Builders({}, {}.__getitem__)
    assert [name for name in standins.NAMES if not callable(getattr(builders, name, None))] == []
    with pytest.raises(RuntimeError, match="array is built on the node only"):
        standins.call["array"]()


def test_the_bundle_brings_cloudpickle_and_leaves_the_users_alone(tmp_path):
    bundle = tmp_path / "b.pyz"
    bundle.write_bytes(Bundle().data())
    with zipfile.ZipFile(bundle) as archive:
        assert b"class Pickler(pickle.Pickler)" in archive.read("remote_gpu/node/cloudpickle.py")
        assert not [name for name in archive.namelist() if name.startswith("cloudpickle")]
    (tmp_path / "cloudpickle").mkdir()
    (tmp_path / "cloudpickle" / "__init__.py").write_text("mine = True")
    code = (
        f"import sys; sys.path[:0] = [{str(bundle)!r}, {str(tmp_path)!r}]\n"
        "from remote_gpu.node import cloudpickle, incoming\nassert 'cloudpickle' not in sys.modules\n"
        "assert cloudpickle.__file__.startswith(sys.path[0]), cloudpickle.__file__\nimport cloudpickle as users\nassert users.mine"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
