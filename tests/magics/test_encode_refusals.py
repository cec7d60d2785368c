"""What cannot cross says what it is, where it is and why; the rest still crosses."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import queue
import socket
import sqlite3
import subprocess
import sys
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.fakes.other_side import NearNode, Notebook

from remote_gpu.codec.encode import CannotCross, encode
from remote_gpu.codec.fingerprints import fingerprint


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


@pytest.fixture
def node(monkeypatch, notebook):
    return NearNode(monkeypatch)


def refusal(notebook, value):
    """The reason; the fingerprint and the encoding give the same."""
    notebook.names["value"] = value
    parcel = encode({"value": value, "other": 1}, notebook.scope())
    assert parcel.names == ("other",)
    with pytest.raises(CannotCross) as caught:
        fingerprint(value, notebook.scope())
    assert caught.value.message == parcel.refused["value"]
    return parcel.refused["value"]


def test_open_files(notebook, tmp_path):
    path = tmp_path / "app.log"
    path.write_text("secret")
    for mode in ("r", "rb", "r+b"):
        with path.open(mode) as file:
            assert refusal(notebook, file) == f"an open file ({path})"
            assert refusal(notebook, {"log": [file]}) == f"value['log'][0] is an open file ({path})"
    with path.open("wb", buffering=0) as file:
        assert refusal(notebook, file) == f"an open file ({path})"


def test_a_file_in_memory_is_a_value(notebook, node):
    notebook.names.update(text=io.StringIO("abc"), raw=io.BytesIO(b"ab"))
    notebook.names["text"].read(1)
    notebook.send(node, "text", "raw")
    assert (node["text"].read(), node["raw"].read()) == ("bc", b"ab")


def test_the_standard_streams_are_those_over_there(notebook, node):
    notebook.names["out"] = sys.stdout
    notebook.send(node, "out")
    assert node["out"] is sys.stdout


def test_things_of_the_machine(notebook):
    with socket.socket() as connection:
        assert refusal(notebook, connection) == "a network connection (socket)"
    assert refusal(notebook, threading.Lock()) == "a lock"
    assert refusal(notebook, {"a": threading.RLock()}) == "value['a'] is a lock"
    assert refusal(notebook, threading.Event()) == "a lock"
    assert refusal(notebook, threading.Thread(name="worker")) == "a thread (worker)"
    assert refusal(notebook, threading.local()) == "data that belongs to one thread (threading.local)"
    assert refusal(notebook, queue.Queue()) == "value.mutex is a lock"
    with ThreadPoolExecutor(1) as pool:
        assert refusal(notebook, pool) == "a pool of workers (ThreadPoolExecutor)"
    with subprocess.Popen(["true"]) as process:
        assert refusal(notebook, process) == f"a process of this machine (pid {process.pid})"
    connection = sqlite3.connect(":memory:")
    assert refusal(notebook, [connection]) == "value[0] is a database connection"
    connection.close()
    assert refusal(notebook, sys._getframe()) == "a frame of running code"


def test_running_code(notebook):
    def numbers():
        yield 1

    async def later():
        return 1

    async def many():
        yield 1

    assert refusal(notebook, numbers()) == "a generator (numbers), whose state cannot be moved"
    coroutine = later()
    assert refusal(notebook, {"c": coroutine}) == "value['c'] is a coroutine (later), which belongs to its event loop"
    coroutine.close()
    assert refusal(notebook, many()) == "an asynchronous generator (many), whose state cannot be moved"
    loop = asyncio.new_event_loop()
    assert refusal(notebook, loop.create_future()) == "a part of this notebook's event loop"
    loop.close()


def test_a_live_widget(notebook):
    widgets = pytest.importorskip("ipywidgets")
    assert refusal(notebook, {"w": widgets.IntSlider()}) == "value['w'] is a live widget (IntSlider)"


def test_the_shell_and_its_streams(notebook):
    import zmq
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.__new__(InteractiveShell)
    assert refusal(notebook, [shell]) == "value[0] is the notebook's own shell"
    with zmq.Context() as context:
        assert refusal(notebook, context) == "a network connection (ZeroMQ)"


def test_what_is_inside_functions_and_objects_is_found(notebook):
    notebook.cell(
        "import threading\nlock = threading.Lock()\n"
        "def make():\n    inner = lock\n    def f():\n        return inner\n    return f\nf = make()\n"
        "class Model: pass\nmodel = Model(); model.parts = (1, {'x': lock})\n"
        "def g(a=lock): pass\nclass Holder:\n    shared = lock\n"
    )
    parcel = notebook.encoded("f", "model", "g", "Holder")
    assert parcel.refused == {
        "f": "f (its variable inner) is a lock",
        "model": "model.parts[1]['x'] is a lock",
        "g": "g (a default of its parameters) is a lock",
        "Holder": "Holder.shared is a lock",
    }


def test_a_global_that_cannot_cross_does_not_hold_its_functions_back(notebook, node):
    notebook.cell("import threading\nlock = threading.Lock()\ndef f():\n    with lock:\n        return 1")
    parcel = notebook.encoded("f", "lock")
    assert parcel.refused == {"lock": "a lock"}
    assert parcel.names == ("f",)


def test_an_error_in_pickling_is_told_with_its_type_and_object(notebook):
    notebook.cell(
        "class Bad:\n    def __reduce__(self):\n        raise ValueError('not today')\nclass Worse:\n    def __getstate__(self):\n        return lambda: undefined.x\n"
        "class Stop:\n    def __reduce__(self):\n        return 5\nbad = {'k': Bad()}\nstop = Stop()"
    )
    assert refusal(notebook, notebook.names.pop("bad")) == "value['k']: pickling a value of type __main__.Bad raised ValueError: not today"
    assert "pickling a value of type __main__.Stop raised" in refusal(notebook, notebook.names["stop"])


def test_what_python_cannot_pickle_says_its_type(notebook):
    iterator = memoryview(b"abc")
    gone = threading.Thread()
    reference = weakref.ref(gone)
    del gone
    assert refusal(notebook, reference) == "a weak reference to an object that is gone"
    with pytest.raises(CannotCross, match=r"an object that cannot be pickled \(cannot pickle 'PyCapsule' object\)"):
        fingerprint(dt.datetime_CAPI, notebook.scope())
    assert encode({"m": iterator}, notebook.scope()).refused == {}


def test_many_failing_names_leave_the_rest_whole(notebook, node):
    shared = [1]
    values = {}
    for number in range(50):
        values[f"good{number}"] = (shared, number)
        values[f"bad{number}"] = [shared, threading.Lock()]
    notebook.names.update(values)
    parcel = encode(values, notebook.scope())
    assert set(parcel.refused) == {f"bad{number}" for number in range(50)}
    found = node.take(parcel)
    assert list(found) == [f"good{number}" for number in range(50)]
    assert found["good0"][0] is found["good49"][0]


def test_deep_nesting_crosses(notebook, node):
    levels, links = (20_000, 5000) if sys.version_info < (3, 12) else (2000, 300)
    deep = []
    for _ in range(levels):
        deep = [deep]
    notebook.cell(
        f"class Link: pass\nfirst = last = Link()\nfor i in range({links}):\n    last.next = Link()\n    last = last.next\nlast.next = None"
    )
    limit = sys.getrecursionlimit()
    notebook.names["deep"] = deep
    assert fingerprint(deep, notebook.scope()).key == fingerprint(deep, notebook.scope()).key
    notebook.send(node, "deep", "first")
    depth, at = 0, node["deep"]
    while at:
        at, depth = at[0], depth + 1
    assert depth == levels
    count, link = 0, node["first"]
    while link is not None:
        link, count = link.next, count + 1
    assert count == links + 1
    assert sys.getrecursionlimit() == limit


def test_nesting_without_end_is_refused_and_says_how_deep(notebook):
    notebook.cell("class Endless:\n    def __reduce__(self):\n        return (Endless, (Endless(),))\nendless = Endless()")
    assert "nested too deeply" in refusal(notebook, notebook.names["endless"])


def test_the_notebooks_names_as_a_dict_are_the_ones_over_there(notebook, node):
    notebook.cell("import threading\nlock = threading.Lock()\ndef f(): return 1\nnames = globals()")
    notebook.send(node, "names")
    assert node["names"] is node.names


class FakeHandle:
    __slots__ = ("_remote_gpu_handle",)

    def __init__(self, session, number):
        self._remote_gpu_handle = (session, number)

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked of a handle")


def test_a_handle_resolves_to_its_value_over_there(notebook, node):
    notebook.names["value"] = {"h": FakeHandle("s", 4)}
    node.held[4] = object()
    notebook.send(node, "value")
    assert node["value"]["h"] is node.held[4]
    keys = [fingerprint(FakeHandle("s", number), notebook.scope()).key for number in (4, 4, 5)]
    assert keys[0] == keys[1] != keys[2]


def test_a_handle_of_another_session_is_refused(notebook):
    assert refusal(notebook, [FakeHandle("other", 4)]).startswith(
        "value[0] is a handle of a value in another session, or in a kernel that is gone"
    )


def test_a_module_made_by_hand_crosses_by_its_content(notebook, node):
    module = types.ModuleType("made_here")
    module.x = 5
    notebook.names["made"] = module
    notebook.send(node, "made")
    assert node["made"].x == 5
