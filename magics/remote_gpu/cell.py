"""Runs one cell: sends it, serves its questions, and waits for its end on the cell's own thread, where Ctrl-C arrives."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

from remote_gpu.errors import KernelDied, RemoteGpuError
from remote_gpu.execution import AskInput, Execution, Finished, NextInput, Outcome, Page, Result
from remote_gpu.failures import Detached, plain, remote_error
from remote_gpu.output import Output
from remote_gpu.running import Event, GatewayGone, Running
from remote_gpu.sessions import Attached, Sessions

__all__ = ["Cells", "numbered"]


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


class Cells:
    """Runs cells of one shell."""

    def __init__(self, shell: Any, sessions: Sessions, output: Output) -> None:
        self._shell = shell
        self._sessions = sessions
        self._output = output

    def run(self, attached: Attached, code: str) -> None:
        """Run `code` there; returns when it has ended well, raises what it raised."""
        connection = attached.connection
        running = Running(Execution(connection.signer.next_id()), self._output.sink(attached.info.id), attached.facts)
        self._sessions.note_sent(attached, running)
        connection.execute(code, running, allow_stdin=self._output.allows_stdin, count=self._output.count)
        self.finish(attached, running)

    def finish(self, attached: Attached, running: Running) -> None:
        """Wait for the end of `running` and raise if it is a bad one."""
        outcome = self._followed(attached, running)
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
                attached.connection.interrupt()

    def _serve(self, attached: Attached, running: Running, event: Event) -> None:
        if isinstance(event, AskInput):
            self._ask(attached, event)
        elif isinstance(event, Page):
            self._page(event)
        elif isinstance(event, NextInput):
            self._shell.set_next_input(event.text, replace=event.replace)
        elif isinstance(event, GatewayGone):
            self._sessions.reconnect(attached, (running.msg_id,))
            attached.connection.follow(running)

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

    def _left(self, attached: Attached, running: Running) -> RemoteGpuError:
        attached.left = running
        attached.cursor.left = True
        attached.connection.leave(running)
        message = f"Left the cell running in session {attached.info.name!r}."
        return plain(Detached(message, hint=f"%remote_gpu attach {attached.info.name} brings its output back; interrupt and restart work, too."))
