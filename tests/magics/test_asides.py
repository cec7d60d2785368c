"""What a front says itself, beside the kernel's messages."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from remote_gpu.asides import Asides, gap_in
from remote_gpu.execution import Execution
from remote_gpu.messages import Message
from remote_gpu.running import LinkLost, Running


class Shown:
    def __init__(self):
        self.texts = []

    def publish(self, message):
        assert json.loads(message.raw[1]) == message.content
        self.texts.append(message.content["text"])

    def record(self, running, *, final):
        pass


def bye(reason="access_refused", state="unknown", parent=""):
    return Message("iopub", "status", "m", parent, {"execution_state": state, "remote_gpu": {"reason": reason, "text": "Log in."}}, seq=5)


@pytest.fixture
def cells():
    return [Running(Execution(name), Shown()) for name in ("one", "two")]


def events(running):
    found = []
    while not running.events.empty():
        found.append(running.events.get())
    return found


def test_each_cell_that_runs_is_told_once_and_hears_when_it_goes_on(cells):
    asides = Asides()
    for _ in range(3):
        assert asides.heard(bye(), cells)
    assert [events(each) for each in cells] == [[LinkLost("access_refused", "Log in.")]] * 2
    asides.goes_on(cells)
    asides.goes_on(cells)
    assert [each.sink.texts for each in cells] == [["Connected again.\n"]] * 2
    assert asides.outage is None


def test_a_cell_that_begins_meanwhile_is_told_and_a_detached_one_is_not(cells):
    asides = Asides()
    asides.heard(bye(), ())
    cells[1].detached = True
    for each in cells:
        asides.tell(each)
    asides.goes_on(cells)
    assert [len(events(each)) for each in cells] == [1, 0]
    assert [each.sink.texts for each in cells] == [["Connected again.\n"], []]


def test_what_the_kernel_says_is_no_aside(cells):
    asides = Asides()
    others = [bye(state="dead"), bye(parent="one"), Message("iopub", "stream", "m", "", {"text": "x"})]
    assert not any(asides.heard(each, cells) for each in others)
    asides.goes_on(cells)
    assert not any(events(each) or each.sink.texts for each in cells)


def test_a_gap_is_found_in_a_fronts_words_only():
    raw = (json.dumps({"remote_gpu": {"gap": {"first": 3, "last": 7}}}).encode(), b"{}")
    message = SimpleNamespace(parent_id="", msg_type="stream", raw=raw)
    assert gap_in(message) == (3, 7)
    message.parent_id = "one"
    assert gap_in(message) is None
    assert gap_in(SimpleNamespace(parent_id="", msg_type="stream", raw=(b"{}", b"{}"))) is None
