"""What a job keeps of its output, and how it stands, without a kernel."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from remote_gpu.background.jobs import Job, State
from remote_gpu.background.output import JobOutput
from remote_gpu.execution import AskInput, Finished, Outcome, Page, Result
from remote_gpu.messages import Message


class Cell:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, dict[str, Any]]] = []
        self.parent = {"header": {"msg_id": "cell"}}

    def publish(self, message: Message) -> None:
        self.shown.append((message.msg_type, message.content))

    def record(self, running: Any, *, final: bool) -> None:
        self.shown.append(("record", {"final": final}))


def said(kind: str, **content: Any) -> Message:
    return Message("iopub", kind, "m", "p", content).with_content(content)


def stream(text: str, name: str = "stdout") -> Message:
    return said("stream", name=name, text=text)


def test_output_is_folded_as_a_notebook_folds_it_and_passed_on_as_it_comes():
    cell = Cell()
    output = JobOutput(cell)
    shown = {"text/plain": "first"}
    for message in (
        stream("a"),
        stream("b\n"),
        stream("wrong", "stderr"),
        said("display_data", data=shown, metadata={}, transient={"display_id": "d"}),
        said("update_display_data", data={"text/plain": "second"}, metadata={}, transient={"display_id": "d"}),
        said("execute_result", data={"text/plain": "42"}, metadata={}, execution_count=3),
        said("error", ename="E", evalue="v", traceback=["t"]),
    ):
        output.publish(message)
    assert output.outputs == [
        {"output_type": "stream", "name": "stdout", "text": "ab\n"},
        {"output_type": "stream", "name": "stderr", "text": "wrong"},
        {"output_type": "display_data", "data": {"text/plain": "second"}, "metadata": {}},
        {"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "execution_count": 3},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
    ]
    assert output.text == "ab\nwrongsecond\n42\n"
    assert len(cell.shown) == 7
    assert output.parent is cell.parent


@pytest.mark.parametrize(("wait", "left"), [(False, ""), (True, "old\n")])
def test_clearing_waits_for_the_next_output_if_it_is_told_so(wait, left):
    output = JobOutput(Cell())
    output.publish(stream("old\n"))
    output.publish(said("clear_output", wait=wait))
    assert output.text == left
    output.publish(stream("new\n"))
    assert output.text == "new\n"


def test_text_is_bounded_and_the_oldest_goes_first():
    cell = Cell()
    output = JobOutput(cell, most=100)
    for number in range(50):
        output.publish(stream(f"line {number:3}\n"))
    assert output.text.splitlines()[-1] == "line  49"
    assert len(output.text) <= 100
    assert output.dropped + len(output.text) == 50 * 9
    assert len(cell.shown) == 50


def test_a_terminal_gives_results_no_number_of_another_input():
    cell = Cell()
    JobOutput(cell, numbered=False).publish(said("execute_result", data={"text/plain": "42"}, metadata={}, execution_count=3))
    assert cell.shown[0][0] == "display_data"


class Background:
    """What a job asks of the background, without any."""

    in_notebook = True
    loop: Any = None

    def __init__(self) -> None:
        self.later_events: list[Any] = []
        self.over = threading.Event()

    def sent_again(self, job: Job, outcome: Outcome) -> bool:
        return outcome.ename == "NamesRefused"

    def later(self, job: Job, event: Any) -> None:
        self.later_events.append(event)

    def ended(self, job: Job) -> None:
        self.over.set()

    def serve(self, job: Job, limit: float | None) -> None:
        self.over.wait(limit)

    def collect(self, job: Job) -> None:
        job.collected()

    def before(self, job: Job) -> int | None:
        return 2

    def cancel(self, job: Job) -> str:
        return "waiting"


@pytest.fixture
def job() -> Job:
    attached: Any = SimpleNamespace(info=SimpleNamespace(name="night", cluster="local"))
    background: Any = Background()
    return Job(7, "train", "model.fit(x) < 3", attached, JobOutput(Cell()), background)


@pytest.mark.parametrize(
    ("outcome", "stopped", "state"),
    [
        (Outcome(Result.OK), True, State.DONE),
        (Outcome(Result.ERROR, "ValueError", "no"), True, State.FAILED),
        (Outcome(Result.ERROR, "KeyboardInterrupt"), True, State.CANCELLED),
        (Outcome(Result.ERROR, "KeyboardInterrupt"), False, State.FAILED),
        (Outcome(Result.ERROR, "Cancelled", "before it began"), False, State.CANCELLED),
        (Outcome(Result.ABORTED), False, State.FAILED),
        (Outcome(Result.DIED, evalue="it was killed"), False, State.LOST),
    ],
)
def test_a_job_stands_as_it_ended(job, outcome, stopped, state):
    if stopped:
        job.cancel()
    job.take(Finished(outcome))
    assert (job.state, job.over) == (state, True)
    assert (job.exception() is None) == (state is State.DONE)
    shown = [each["output_type"] for each in job.outputs]
    assert shown == ([] if state is State.DONE else ["error"])


def test_what_came_back_is_collected_once_and_the_end_is_told_once(job):
    collected, told = [], []
    job.collect = lambda: collected.append(1)
    job.when_over(lambda: told.append("then"))
    job.take(Finished(Outcome(Result.OK)))
    job.take(Finished(Outcome(Result.DIED, evalue="later")))
    job.when_over(lambda: told.append("at once"))
    assert (job.wait(), job.result(), job.state) == (True, None, State.DONE)
    assert (collected, told) == ([1], ["then", "at once"])


def test_names_that_are_refused_do_not_end_a_job(job):
    job.take(Finished(Outcome(Result.ERROR, "NamesRefused", "{}")))
    assert not job.over


def test_a_page_of_help_is_shown_in_the_cell_and_what_needs_the_notebook_waits(job):
    job.take(Page({"text/plain": "help"}))
    assert job.outputs[0]["data"] == {"text/plain": "help"}
    job.take(AskInput("? ", password=False))
    assert len(job._background.later_events) == 1


def test_a_job_says_where_it_stands_and_its_code_is_escaped(job):
    assert repr(job) == "<Job 7 (train): waiting for 0.0 s · session 'night' on local · 2 cells before it>"
    assert "model.fit(x) &lt; 3" in job._repr_html_()
    assert str(job) == "Job 7 (train)"
    with pytest.raises(TimeoutError, match=r"Job 7 \(train\) has not ended after 0.01 s"):
        job.result(0.01)
