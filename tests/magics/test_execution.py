"""The state machine of one execution: messages in, effects out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gpu.execution import AskInput, Execution, Finished, NextInput, Outcome, Page, Publish, Result, joined
from remote_gpu.messages import Message
from remote_gpu.replay import LastExecution


def message(msg_type: str, parent: str = "m", seq: int | None = None, **content: Any) -> Message:
    return Message("iopub", msg_type, "id", parent, content, (b"{}", json.dumps(content).encode()), (), seq)


def stream(text: str, name: str = "stdout", parent: str = "m", seq: int | None = None) -> Message:
    return message("stream", parent, seq, name=name, text=text)


BUSY = message("status", execution_state="busy")
IDLE = message("status", execution_state="idle")
OK = message("execute_reply", status="ok", payload=[])


@pytest.mark.parametrize("order", [(IDLE, OK), (OK, IDLE)])
def test_it_is_over_when_both_reply_and_idle_are_in(order):
    execution = Execution("m")
    assert execution.feed(BUSY) == ()
    assert execution.feed(order[0]) == ()
    assert list(execution.feed(order[1])) == [Finished(Outcome(Result.OK))]
    assert execution.feed(stream("late")) == ()


def test_output_is_published_and_counted():
    execution = Execution("m")
    text = stream("a\nb\n", seq=4)
    assert list(execution.feed(text)) == [Publish(text)]
    execution.feed(stream("c", seq=5))
    assert (execution.lines, execution.first, execution.last) == (2, 4, 5)


def test_messages_of_other_executions_have_no_effect():
    execution = Execution("m")
    for other in (stream("x", parent="o"), message("status", "o", execution_state="idle"), message("execute_reply", "o", status="ok")):
        assert execution.feed(other) == ()
    assert not execution.finished


def test_an_error_is_raised_once_and_not_published():
    execution = Execution("m")
    error = {"ename": "ValueError", "evalue": "no", "traceback": ["t"]}
    assert list(execution.feed(message("error", **error))) == []
    execution.feed(message("execute_reply", status="error", **{**error, "traceback": []}))
    assert list(execution.feed(IDLE)) == [Finished(Outcome(Result.ERROR, "ValueError", "no", ("t",)))]


def test_an_error_that_output_follows_is_published_in_its_place():
    execution = Execution("m")
    error, text = message("error", ename="E", evalue="", traceback=[]), stream("after")
    execution.feed(error)
    assert list(execution.feed(text)) == [Publish(error), Publish(text)]
    execution.feed(OK)
    assert list(execution.feed(IDLE)) == [Finished(Outcome(Result.OK))]


def test_an_error_of_a_cell_that_ended_well_is_published():
    execution = Execution("m")
    error = message("error", ename="E", evalue="", traceback=[])
    execution.feed(error)
    execution.feed(OK)
    assert list(execution.feed(IDLE)) == [Publish(error), Finished(Outcome(Result.OK))]


def test_payloads_become_effects_and_ask_exit_does_not():
    payload = [
        {"source": "page", "data": {"text/plain": "p"}, "start": 2},
        {"source": "set_next_input", "text": "x", "replace": True},
        {"source": "ask_exit"},
        {"source": "edit_magic", "filename": "f"},
    ]
    execution = Execution("m")
    execution.feed(message("execute_reply", status="ok", payload=payload))
    assert list(execution.feed(IDLE)) == [Page({"text/plain": "p"}, 2), NextInput("x", replace=True), Finished(Outcome(Result.OK))]


def test_a_question_for_input_is_passed_on():
    assert list(Execution("m").feed(message("input_request", prompt="p", password=True))) == [AskInput("p", password=True)]


def test_a_dead_kernel_ends_it_at_once_with_the_reason():
    execution = Execution("m")
    why = {"reason": "out_of_memory", "text": "It used up its memory."}
    effects = list(execution.feed(message("status", "", execution_state="dead", remote_gpu=why)))
    assert effects == [Finished(Outcome(Result.DIED, evalue="It used up its memory.", reason="out_of_memory"))]
    assert execution.finished


def test_the_supervisors_answer_for_a_dead_kernel_counts_as_its_end():
    effects = list(Execution("m").feed(message("execute_reply", status="error", ename="KernelDied", evalue="It was killed.")))
    assert effects == [Finished(Outcome(Result.DIED, evalue="It was killed.", reason="ended"))]


def test_an_aborted_request_says_so():
    execution = Execution("m")
    execution.feed(message("execute_reply", status="aborted"))
    assert list(execution.feed(IDLE)) == [Finished(Outcome(Result.ABORTED))]


def test_a_claimed_execution_is_over_at_its_idle():
    execution = Execution("m", claimed=True)
    execution.feed(message("error", ename="E", evalue="v", traceback=["t"]))
    assert list(execution.feed(IDLE)) == [Finished(Outcome(Result.ERROR, "E", "v", ("t",)))]


def test_lost_output_makes_it_incomplete():
    execution = Execution("m")
    execution.lost(3, 7)
    assert (execution.missed, execution.complete) == (5, False)


texts = st.tuples(st.sampled_from(["stdout", "stderr"]), st.sampled_from(["m", "n"]), st.text(min_size=1, max_size=5))


@given(st.lists(st.one_of(texts, st.just(None))), st.integers(1, 20))
def test_joining_keeps_every_character_and_the_order(pieces, limit):
    messages = [BUSY if piece is None else stream(piece[2], piece[0], piece[1]) for piece in pieces]
    assert _flat(joined(messages, limit)) == _flat(messages)


def test_joining_makes_neighbours_one_and_keeps_the_last_number():
    result = joined([stream("a", seq=1), stream("b", seq=2), stream("c", "stderr", seq=3)])
    assert [(each.content["text"], each.seq) for each in result] == [("ab", 2), ("c", 3)]
    assert json.loads(result[0].raw[1]) == {"name": "stdout", "text": "ab"}


def _flat(messages: list[Message]) -> list[Any]:
    result: list[Any] = []
    for each in messages:
        if each.msg_type == "stream":
            result.extend((each.content["name"], each.parent_id, character) for character in each.content["text"])
        else:
            result.append(each)
    return result


def test_the_last_execution_is_found_behind_others():
    last = LastExecution("marker")
    begins = {"msg_type": "execute_request"}
    for number in ("1", "2"):
        assert not last.feed(message("status", number, execution_state="busy")._replace(parent=begins))
        assert not last.feed(stream(f"text {number}", parent=number))
    assert not last.feed(stream("a thread's", parent="1"))
    assert last.feed(message("status", "marker", execution_state="busy"))
    assert (last.msg_id, [each.content.get("text") for each in last.messages]) == ("2", [None, "text 2"])
