"""What a remote cell says of its names is bound in the notebook: values, in place where the object is the same, and never by surprise."""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest

from remote_gpu.binding import Binder, NotebookClasses, updated_in_place
from remote_gpu.capture.analysis import Import
from remote_gpu.messages import Message
from remote_gpu.summary import Summary


def message(entries: dict[str, Any], values: dict[str, Any] | None = None, changed: tuple[str, ...] = ()) -> Message:
    parts = [pickle.dumps(values)] if values else []
    content = {"entries": entries, "head": {"inline": 0} if parts else None, "buffers": [], "changed": list(changed)}
    return Message("iopub", "remote_gpu_values", "", "", content, buffers=tuple(parts))


def bound(namespace: dict[str, Any], said: Message, imports: dict[str, Import] | None = None) -> Summary:
    """Bind as on a trusted cluster, whose values are plain pickles; what is safe to decode is tested elsewhere."""
    summary = Summary()
    binder = Binder(
        namespace,
        classes={},
        handle=lambda entry: ("handle", entry["id"]),
        fetch=lambda number: ("fetched", number),
        imports=imports or {},
        trusted=True,
    )
    binder.bind(said, summary)
    return summary


def test_a_deleted_name_goes_and_an_unknown_one_does_no_harm():
    namespace = {"a": 1}
    bound(namespace, message({"a": {"kind": "gone"}, "b": {"kind": "gone"}}))
    assert namespace == {}


def test_a_large_value_is_a_handle_and_a_middling_one_is_fetched():
    namespace: dict[str, Any] = {}
    entries = {"big": {"kind": "handle", "id": 1, "type": "torch.Tensor"}, "middling": {"kind": "handle", "id": 2, "fetch": True}}
    summary = bound(namespace, message(entries))
    assert namespace == {"big": ("handle", 1), "middling": ("fetched", 2)}
    assert (summary.handles, summary.back) == ({"big": "Tensor"}, ["middling"])


def test_a_name_that_only_changed_is_not_replaced_by_a_handle():
    namespace = {"mine": [1]}
    summary = bound(namespace, message({"mine": {"kind": "handle", "id": 1}}, changed=("mine",)))
    assert namespace == {"mine": [1]}
    assert summary.notes == ["mine was changed there (%remote_gpu pull mine)"]


def test_a_module_is_imported_only_if_the_cells_own_text_imports_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "evil", types.ModuleType("evil"))
    namespace: dict[str, Any] = {}
    entries = {"evil": {"kind": "module", "module": "evil"}, "js": {"kind": "module", "module": "os"}}
    bound(namespace, message(entries), {"js": Import("json", "", "js")})
    assert list(namespace) == ["js"]
    assert namespace["js"].__name__ == "json"


def test_names_that_no_cell_can_write_are_not_bound():
    namespace: dict[str, Any] = {}
    bound(namespace, message({"a b": {"kind": "handle", "id": 1}, "__builtins__ ": {"kind": "handle", "id": 2}}))
    assert namespace == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [([1], [2, 3]), ({"a": 1}, {"b": 2}), ({1}, {2}), (bytearray(b"a"), bytearray(b"bc")), (np.zeros(3), np.ones(3))],
)
def test_a_changed_object_gets_its_new_content(old, new):
    assert updated_in_place(old, new)
    assert np.array_equal(old, new) if isinstance(old, np.ndarray) else old == new


@pytest.mark.parametrize(
    ("old", "new"), [([1], (1,)), (1, 2), (np.zeros(3), np.zeros(4)), (np.zeros(3), np.zeros(3, "f4")), ("a", "b"), (None, [1])]
)
def test_what_has_another_form_is_replaced_instead(old, new):
    assert not updated_in_place(old, new)


def test_only_classes_of_the_notebook_are_found_by_name():
    class Outer:
        class Inner: ...

    Outer.__module__ = Outer.Inner.__module__ = "__main__"
    classes = NotebookClasses({"Outer": Outer, "Path": types.SimpleNamespace, "x": 1})
    assert classes["Outer"] is Outer
    assert classes["Outer.Inner"] is Outer.Inner
    for name in ("Path", "x", "missing", "Outer.__init__", "Outer.missing"):
        with pytest.raises(KeyError):
            classes[name]
