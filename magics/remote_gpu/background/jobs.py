"""A background cell as an object: its state, what it has said, its result; it can be waited for, awaited and cancelled.

The request is with the remote kernel from the start, so a job goes on whatever becomes of this process. Everything that
arrives is dealt with on the pump's thread; what needs the gateway or the notebook's names waits for the thread of the cells.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import threading
import time
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from remote_gpu.errors import KernelDied, RemoteGpuError, SessionEnded
from remote_gpu.execution import Finished, Outcome, Page, Result
from remote_gpu.failures import plain, remote_error
from remote_gpu.messages import Message
from remote_gpu.record import duration
from remote_gpu.running import Event, LinkLost, Running

if TYPE_CHECKING:
    from remote_gpu.attached import Attached
    from remote_gpu.background.background import Background
    from remote_gpu.background.output import JobOutput

__all__ = ["Job", "State"]

_STOPPED = frozenset({"KeyboardInterrupt", "Cancelled", "CancelledError"})


class State(StrEnum):
    """How a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class Job:
    """A background cell. `number` is its own in this notebook kernel, `name` what it was called, `code` its first line.

    What comes back of it (variables, the value of its last expression) is collected once: by `wait`, `result` or ``await``,
    or at the start of the next cell after its end; never in the middle of another cell.
    """

    def __init__(self, number: int, name: str, code: str, attached: Attached, output: JobOutput, background: Background) -> None:
        self.number = number
        self.name = name
        self.code = code
        self.value: Any = None
        self.running: Running | None = None
        self.collect: Callable[[], None] | None = None
        self.attached = attached
        self._output = output
        self._background = background
        self._then: list[Callable[[], None]] = []
        self._outcome: Outcome | None = None
        self.stopped = False
        self._lock = threading.Lock()

    # any thread

    @property
    def state(self) -> State:
        """How it stands: waiting (for other cells there), running, done, failed, cancelled, or lost with its kernel or session."""
        outcome = self._outcome
        if outcome is None:
            return State.RUNNING if self.running is not None and self.running.began else State.WAITING
        if outcome.result is Result.OK:
            return State.DONE
        if outcome.result is Result.DIED:
            return State.LOST
        return State.CANCELLED if outcome.ename == "Cancelled" or (self.stopped and outcome.ename in _STOPPED) else State.FAILED

    @property
    def over(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._outcome is not None

    @property
    def output(self) -> str:
        """The text that it has printed and shown so far."""
        return self._output.text

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """What it has put out so far, as a notebook file has it."""
        return self._output.outputs

    @property
    def seconds(self) -> float:
        """How long it has run, or waited if it waits still."""
        if self.running is None:
            return 0.0
        return (self.running.ended or time.time()) - self.running.started

    def exception(self) -> BaseException | None:
        """The error that `result` would raise; None while it runs, and after a good end."""
        outcome = self._outcome
        if outcome is None or outcome.result is Result.OK:
            return None
        if outcome.result is Result.ERROR:
            return remote_error(outcome)
        session = self.attached.info.name
        if outcome.result is Result.DIED:
            ended = outcome.reason == "session_ended"
            message = f"{self} was lost: {outcome.evalue.rstrip('.')}."
            return plain(
                (SessionEnded if ended else KernelDied)(message, hint="" if ended else f"%remote_gpu logs {session} has its last words.")
            )
        return plain(RemoteGpuError(f"{self} was dropped by the remote kernel, because a cell before it failed.", hint="Run it again."))

    # the thread of the cells

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds, and collect what comes back; False if it has not ended.

        Ctrl-C ends the waiting, not the job.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.over:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._background.serve(self, left)
        self._background.collect(self)
        return True

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end and return the value of its last expression, if it has one; raises what the cell raised.

        Raises `TimeoutError` after `timeout` seconds.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self} has not ended after {timeout:g} s.")
        error = self.exception()
        if error is not None:
            raise error
        return self.value

    def cancel(self) -> bool:
        """Have it not run if it waits, or interrupt it if it runs; no other cell is touched. False if it had ended already."""
        if self.over:
            return False
        self.stopped = True
        return self._background.cancel(self) != "over"

    def collected(self) -> None:
        """Bring back what it bound, once; see `Background.collect` for the order."""
        with self._lock:
            collect, self.collect = self.collect, None
        if collect is not None:
            collect()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for its end beside other tasks of the event loop."""
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def settle() -> None:
            if not over.done():
                over.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle)

        self._background.loop = loop
        self.when_over(tell)
        await over
        return self.result()

    # the pump's thread

    def when_over(self, action: Callable[[], None]) -> None:
        """Have `action` called at its end, on whichever thread notices it; at once if it has ended."""
        with self._lock:
            if not self.over:
                self._then.append(action)
                return
        action()

    def take(self, event: Event) -> None:
        """Do what the cell's thread would do for a cell that it waits for."""
        if isinstance(event, Finished):
            if not self._background.sent_again(self, event.outcome):
                self.end(event.outcome)
        elif isinstance(event, Page):
            self._publish("display_data", {"data": event.data, "metadata": {}})
        elif isinstance(event, LinkLost):  # a job has nobody to be asked; its cell says it
            self._publish("stream", {"name": "stderr", "text": f"{event.text} This cell runs on there, and its output is kept.\n"})
        else:
            self._background.later(self, event)

    def end(self, outcome: Outcome) -> None:
        """It is over."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
            then, self._then = self._then, []
        self._show_end(outcome)
        for action in then:
            action()
        self._background.ended(self)

    def _show_end(self, outcome: Outcome) -> None:
        error = self.exception()
        if error is not None:
            evalue = outcome.evalue if outcome.result is Result.ERROR else str(error)
            name = outcome.ename or type(error).__name__
            lines = list(outcome.traceback) or getattr(error, "_render_traceback_", lambda: [f"{name}: {evalue}"])()
            self._publish("error", {"ename": name, "evalue": evalue, "traceback": lines})
        if not self._background.in_notebook:
            self._publish("stream", {"name": "stderr", "text": f"{self._line()}\n"})

    def _publish(self, kind: str, content: dict[str, Any]) -> None:
        message = Message("iopub", kind, "", self.running.msg_id if self.running else "", content).with_content(content)
        self._output.publish(message)

    # as text

    @property
    def label(self) -> str:
        """Number and name, as the queue shows them."""
        return f"{self.number} {self.name}".rstrip()

    def __str__(self) -> str:
        return f"Job {self.number}" + (f" ({self.name})" if self.name else "")

    def _line(self) -> str:
        state, info = self.state, self.attached.info
        how = f"{state} for {duration(self.seconds)}" if not self.over else f"{state} after {duration(self.seconds)}"
        parts = [f"{self}: {how}", f"session {info.name!r} on {info.cluster}"]
        if state is State.WAITING and (before := self._background.before(self)) is not None:
            parts.append("next" if before == 0 else f"{before} cell{'' if before == 1 else 's'} before it")
        return " · ".join(parts)

    def __repr__(self) -> str:
        return f"<{self._line()}>"

    def _repr_html_(self) -> str:
        head, _, rest = self._line().partition(": ")
        more = f"<br><code>{html.escape(self.code)}</code>" if self.code else ""
        return f"<div class='jp-RemoteGpu-job' data-state='{self.state}'><b>{html.escape(head)}</b>: {html.escape(rest)}{more}</div>"
