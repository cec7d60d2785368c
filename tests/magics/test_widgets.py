"""What is kept of widgets' states, how answers are merged, and whose output an Output widget shows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from remote_gpu.comms import Comms
from remote_gpu.messages import Message
from remote_gpu.output import NotebookSink
from remote_gpu.sinks import Sinks
from remote_gpu.widgets import ControlComm, States, WidgetState


def entry(**state):
    return {"model_name": None, "model_module": None, "model_module_version": None, "state": state}


def test_a_widgets_state_is_what_was_opened_with_all_changes_on_top():
    widget = WidgetState({"state": {"value": 1, "max": 9}}, ())
    widget.change({"method": "update", "state": {"value": 2}}, ())
    widget.change({"method": "echo_update", "state": {"value": 3}}, ())
    widget.change({"method": "custom", "content": {"value": 4}}, ())
    assert widget.now() == ({"value": 3, "max": 9}, [])


def test_binary_parts_are_replaced_with_the_key_that_they_belong_to():
    widget = WidgetState({"state": {"points": {"shape": [2]}, "other": 1}, "buffer_paths": [["points", "data"]]}, [b"old"])
    assert widget.now() == ({"points": {"shape": [2]}, "other": 1}, [(("points", "data"), b"old")])
    widget.change({"method": "update", "state": {}, "buffer_paths": [["points"]]}, [memoryview(b"new")])
    assert widget.now() == ({"other": 1}, [(("points",), b"new")])
    widget.change({"method": "update", "state": {"points": None}}, ())
    assert widget.now() == ({"other": 1, "points": None}, [])


def test_states_are_merged_with_their_buffers_in_the_order_of_their_paths():
    local = States.read({"states": {"a": entry(x=1)}, "buffer_paths": [["a", "state", "image"]]}, [b"A"])
    remote = States()
    remote.add("b", WidgetState({"state": {"y": 2}, "buffer_paths": [["image"], ["list", 0]]}, [b"B0", b"B1"]))
    merged = local.merged(remote)
    assert merged.data() == {
        "method": "update_states",
        "states": {"a": entry(x=1), "b": entry(y=2)},
        "buffer_paths": [["a", "state", "image"], ["b", "state", "image"], ["b", "state", "list", 0]],
    }
    assert merged.buffers == [b"A", b"B0", b"B1"]
    assert (merged.only(frozenset("b")).states.keys(), merged.only(frozenset("b")).buffers) == ({"b"}, [b"B0", b"B1"])
    assert merged.widget("b").now() == ({"y": 2}, [(("image",), b"B0"), (("list", 0), b"B1")])


def test_widgets_come_after_those_that_they_refer_to_also_in_a_circle():
    states = States({"box": entry(children=["IPY_MODEL_late", "IPY_MODEL_gone"]), "early": entry(), "late": entry(parent="IPY_MODEL_box")})
    assert list(states.parts_first()) == ["late", "box", "early"]


class _Inner:
    comm_id, target_name = "c", "jupyter.widget.control"

    def __init__(self):
        self.sent = []
        self._closed = False

    def send(self, data, metadata, buffers):
        self.sent.append((data["states"], data["buffer_paths"], buffers))


REQUEST = {"content": {"data": {"method": "request_states"}}}


def test_the_frontends_question_is_answered_for_both_sides_at_once():
    inner = _Inner()
    control = ControlComm(inner, lambda: States({"r": entry()}, [(("r", "state", "i"), b"R")]))
    control.on_msg(
        lambda _: control.send({"method": "update_states", "states": {"l": entry()}, "buffer_paths": [["l", "state", "i"]]}, buffers=[b"L"])
    )
    control.handle_msg(REQUEST)
    assert inner.sent == [({"l": entry(), "r": entry()}, [["l", "state", "i"], ["r", "state", "i"]], [b"L", b"R"])]


def test_without_a_local_ipywidgets_the_remote_states_are_the_answer():
    inner = _Inner()
    ControlComm(inner, lambda: States({"r": entry()})).handle_msg(REQUEST)
    assert inner.sent == [({"r": entry()}, [], [])]


def test_a_local_failure_is_no_half_answer():
    def fails(_):
        raise KeyError("a broken widget")

    inner = _Inner()
    control = ControlComm(inner, States)
    control.on_msg(fails)
    with pytest.raises(KeyError):
        control.handle_msg(REQUEST)
    assert inner.sent == []


class _Output:
    kernel = SimpleNamespace(comm_manager=SimpleNamespace(comms={}, targets={}))

    def __init__(self):
        self.sent = []

    def packed(self, value):
        return repr(value).encode()

    def send(self, msg_type, parent, metadata, content, buffers=()):
        self.sent.append((msg_type, content))

    def sink(self, session_id, *, parent=None):
        return NotebookSink(self, parent or {}, session_id, 1)


def test_an_output_widget_captures_what_comes_of_the_local_request_and_clears_only_itself():
    output, sinks = _Output(), Sinks()
    comms = Comms(output)
    connection = SimpleNamespace(sinks=sinks)
    cell = output.sink("s", parent={"header": {"msg_id": "local"}})
    sinks.note("remote", cell)

    def say(kind, **content):
        comms.relay(connection, Message("iopub", kind, "m", "remote", {"comm_id": "out", **content}), cell)
        return output.sent[-1][1]

    say("comm_open", target_name="jupyter.widget", data={"state": {"msg_id": ""}})
    assert b'"msg_id": "local"' in say("comm_msg", data={"method": "update", "state": {"msg_id": "remote"}})
    assert cell.captured_by == {"out"}
    assert comms.manager.comms["out"].state.now()[0] == {"msg_id": "local"}
    say("comm_msg", data={"method": "update", "state": {"msg_id": ""}})
    assert cell.captured_by == set()
    say("comm_msg", data={"method": "update", "state": {"msg_id": "remote"}})
    say("comm_close", data={})
    assert (cell.captured_by, comms.manager.comms) == (set(), {})


def test_moving_a_slider_a_thousand_times_does_not_make_a_cell_forgotten():
    sinks = Sinks()
    sinks.note("cell", "the cell")
    for n in range(1000):
        sinks.note_comm(f"comm {n}", "elsewhere")
    assert (sinks.get("cell"), sinks.get("comm 999"), sinks.get("comm 0")) == ("the cell", "elsewhere", None)


async def test_a_list_of_comms_that_changes_while_it_is_read_is_read_again():
    class Kernel:
        comm_manager = SimpleNamespace(comms={}, targets={})

        def __init__(self):
            self.changes, self.said = 3, []
            self.shell_handlers = {"comm_open": None, "comm_info_request": self.listed}

        async def listed(self, stream, ident, message):
            if self.changes:
                self.changes -= 1
                raise RuntimeError("dictionary changed size during iteration")
            self.said.append(message)

    output = _Output()
    output.kernel = Kernel()
    output.kernel.shell_handlers["comm_open"] = output.kernel.listed
    comms = Comms(output)
    await output.kernel.shell_handlers["comm_info_request"](None, None, "asked")
    assert output.kernel.said == ["asked"]
    comms.close()
    assert set(output.kernel.shell_handlers.values()) == {output.kernel.listed}
