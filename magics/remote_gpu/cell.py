"""Runs one cell: sends it, serves its questions, and waits for its end on the cell's own thread, where Ctrl-C arrives."""

from __future__ import annotations

import getpass
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from remote_gpu.errors import AccessRefused, KernelDied, RemoteGpuError, SessionEnded, UnknownSession
from remote_gpu.execution import AskInput, Execution, Finished, NextInput, Outcome, Page, Result
from remote_gpu.failures import CellLost, Detached, plain, remote_error
from remote_gpu.output import Output
from remote_gpu.running import Event, GatewayGone, LinkLost, Running, Sink
from remote_gpu.sessions import Attached, Sessions
from remote_gpu.summary import Summary

__all__ = ["Cells", "NamesRefused", "numbered"]

_SHOWN_WITHIN = 1.0  # seconds that a cell's last record may take to be published


def numbered(first_line: str, body: str) -> str:
    """`body` with the magic's line before it as a comment, so that line numbers in tracebacks are the notebook cell's.

    IPython removes leading empty lines, hence a comment. A cell magic must stay the first line, and gets no numbers anyway.
    """
    start = body.lstrip()
    if start.startswith("%%"):
        return body
    line = next((line for line in body.splitlines() if line.strip()), "")
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}# {first_line}\n{body}"


class NamesRefused(Exception):
    """The kernel cannot take in what came with the cell, and did not run it; `evalue` says what and why, in JSON."""

    def __init__(self, evalue: str) -> None:
        super().__init__(evalue)
        self.evalue = evalue


class Cells:
    """Runs cells of one shell. `crossed` binds the names of an execution that is over and says what crossed."""

    def __init__(self, shell: Any, sessions: Sessions, output: Output, crossed: Callable[[Attached, Running], Summary]) -> None:
        self._shell = shell
        self._sessions = sessions
        self._output = output
        self._crossed = crossed

    def started(
        self,
        attached: Attached,
        code: str,
        crossing: Any = None,
        *,
        sink: Sink | None = None,
        stdin: bool = True,
        job: str = "",
        events: Any = None,
    ) -> Running:
        """Send `code`, with the names of `crossing`; `sink` is where its output goes, by default the cell that runs now.

        `job` is what the queue shows of a background cell, whose `events` are served as they come.
        """
        connection, facts = attached.connection, attached.facts
        if attached.queued is not None:
            facts, attached.queued = {**facts, "queued_s": attached.queued}, None
        running = Running(Execution(connection.signer.next_id()), sink or self._output.sink(attached.info.id), facts, crossing)
        about: dict[str, Any] = {"execution_count": self._output.count}
        buffers: list[Any] = []
        if job:
            about["job"] = job
        if events is not None:
            running.events = events
        if crossing is not None:
            about, buffers = {**about, **crossing.about}, crossing.buffers
            if crossing.summary:
                running.facts = {**facts, "names": crossing.summary.json()}
        asks = stdin and self._output.allows_stdin
        running.send = lambda through: through.execute(code, running, allow_stdin=asks, about=about, buffers=buffers)
        self._sessions.note_sent(attached, running)
        running.send(connection)
        return running

    def finish(self, attached: Attached, running: Running) -> None:
        """Wait for the end of `running`, bind its names, and raise if it is a bad end. Raises `NamesRefused` if it did not begin."""
        try:
            outcome = self._followed(attached, running)
        except (CellLost, SessionEnded, UnknownSession) as error:
            self._lost(attached, running, error)
            if not isinstance(error, CellLost):
                self._sessions.forget(attached.info.id)
            raise
        except RemoteGpuError as error:
            if running is attached.left:
                raise
            raise self._left(attached, running, error.message) from error
        self._cross(attached, running, outcome)
        if outcome.result is Result.OK:
            return
        if outcome.result is Result.ERROR:
            raise remote_error(outcome)
        if outcome.result is Result.DIED:
            attached.told = attached.connection.death
            message = f"The remote kernel of session {attached.info.name!r} ended during this cell: {outcome.evalue.rstrip('.')}."
            raise plain(KernelDied(message, hint="The next cell starts a new one; %remote_gpu logs shows its last words."))
        message = "The remote kernel dropped this cell, because one before it failed."
        raise plain(RemoteGpuError(message, hint="Run it again."))

    def _cross(self, attached: Attached, running: Running, outcome: Outcome) -> None:
        if outcome.ename == "NamesRefused" and running.crossing is not None:
            raise NamesRefused(outcome.evalue)
        if running.execution.values is None:
            return
        summary = self._crossed(attached, running)
        if summary:
            running.facts = {**running.facts, "names": summary.json()}
            self._shown(attached, lambda: running.sink.record(running, final=True))

    def _followed(self, attached: Attached, running: Running) -> Outcome:
        interrupted = False
        while True:
            try:
                event = running.events.get()
                if isinstance(event, Finished):
                    return event.outcome
                self._serve(attached, running, event)
            except KeyboardInterrupt:
                if interrupted:
                    raise self._left(attached, running) from None
                interrupted = True
                attached.connection.interrupt(running)

    def _serve(self, attached: Attached, running: Running, event: Event) -> None:
        if isinstance(event, AskInput):
            self._ask(attached, event)
        elif isinstance(event, Page):
            self._page(event)
        elif isinstance(event, NextInput):
            self._shell.set_next_input(event.text, replace=event.replace)
        elif isinstance(event, GatewayGone):
            self._taken_up(attached, running, event)
        elif isinstance(event, LinkLost):
            self._cut_off(attached, event)
        else:
            self._send_again(attached, running)

    def _taken_up(self, attached: Attached, running: Running, event: GatewayGone) -> None:
        try:
            self._sessions.reconnect(attached, (running.msg_id,), first=lambda connection: connection.follow(running), ask=True)
        except KeyboardInterrupt:
            running.events.put(GatewayGone(interrupted=True))
            raise
        if event.interrupted:
            attached.connection.interrupt(running)

    def _cut_off(self, attached: Attached, event: LinkLost) -> None:
        """Nothing comes until somebody logs in: have the user do it here. If that fails, the cell waits on in silence."""
        if attached.connection.asides.outage is None:
            return
        _tell(event.text)
        if event.reason != AccessRefused.reason:
            return
        cluster = attached.info.cluster
        try:
            login = self._sessions.logins.log_in(cluster)
        except RemoteGpuError as error:
            ways = (
                f"%remote_gpu login {cluster} in another notebook, or `jupyter remote-gpu login {cluster}` in a terminal, brings it back."
            )
            _tell(f"{error.message} This cell runs on there and its output is kept; {ways}")
        else:
            _tell(f"Logged in to {login.host}.")

    @staticmethod
    def _send_again(attached: Attached, running: Running) -> None:
        """The request was lost with its gateway."""
        if running.execution.missed:
            message = "The connection broke as this cell was sent, and it cannot be told any more whether it ran: its output is gone."
            raise CellLost(message, hint="Look at its variables before you run it again.")
        if running.send is None:
            message = f"The cell never reached session {attached.info.name!r}: it was lost with the kernel or the gateway that sent it."
            raise CellLost(message, hint="Run it again.")
        running.execution.claimed = False
        running.send(attached.connection)

    def _ask(self, attached: Attached, event: AskInput) -> None:
        ask: Callable[[str], str] = getpass.getpass if event.password else input
        try:
            value = ask(event.prompt)
        except EOFError:
            value = "\x04"  # what a frontend sends for an end of input
        attached.connection.answer(value)

    def _page(self, event: Page) -> None:
        manager = getattr(self._shell, "payload_manager", None)
        if getattr(self._shell, "kernel", None) is not None and manager is not None:
            manager.write_payload({"source": "page", "data": event.data, "start": event.start})
            return
        from IPython.core import page

        page.page(event.data.get("text/plain", ""), start=event.start)

    def _lost(self, attached: Attached, running: Running, error: RemoteGpuError) -> None:
        if running.outcome is None:
            running.ended, running.outcome = time.time(), Outcome(Result.DIED, evalue=error.message)
            self._shown(attached, lambda: running.sink.record(running, final=True))

    @staticmethod
    def _shown(attached: Attached, record: Callable[[], None]) -> None:
        """Have a record published before the cell's end is."""
        done = threading.Event()
        attached.connection.pump.call(record)
        attached.connection.pump.call(done.set)
        done.wait(_SHOWN_WITHIN)

    def _left(self, attached: Attached, running: Running, why: str = "") -> RemoteGpuError:
        attached.left = running
        attached.cursor.left = True
        attached.connection.leave(running)
        self._shown(attached, lambda: None)
        message = f"{why} Left the cell running in session {attached.info.name!r}.".lstrip()
        return plain(
            Detached(message, hint=f"%remote_gpu attach {attached.info.name} brings its output back; interrupt and restart work, too.")
        )


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
