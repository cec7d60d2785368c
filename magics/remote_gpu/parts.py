"""The parts behind the magics, made at the first use and put together here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.arguments import CellLine, Place, Verb
from remote_gpu.background.background import Background
from remote_gpu.background.jobs import Job
from remote_gpu.background.queue_verbs import QueueVerbs
from remote_gpu.cell import Cells, numbered
from remote_gpu.comms import Comms
from remote_gpu.ends import warn_of_end
from remote_gpu.files_verbs import FilesVerbs
from remote_gpu.gateway import Gateway
from remote_gpu.handles import Handle, make_handle
from remote_gpu.login_verbs import LoginVerbs
from remote_gpu.names_verbs import NamesVerbs
from remote_gpu.operations import Operations
from remote_gpu.output import NotebookOutput, output_for
from remote_gpu.pump import Pump
from remote_gpu.running import Running
from remote_gpu.runs import Runs
from remote_gpu.sessions import Attached, Sessions
from remote_gpu.summary import Summary
from remote_gpu.sync import Sync
from remote_gpu.transfer.carriers import Carriers
from remote_gpu.verbs import Verbs

__all__ = ["Parts"]


class Parts:
    """Everything of one shell that needs ZMQ or the gateway."""

    def __init__(self, shell: Any, connect_gateway: Callable[[], Gateway] | None, following: Callable[[Place | None], None]) -> None:
        self._output = output_for(shell)
        # Only a notebook in a Jupyter server has JPY_SESSION_NAME; only there is output dropped for being fast.
        self._pump = Pump(limited="JPY_SESSION_NAME" in os.environ)
        self._comms = Comms(self._output) if isinstance(self._output, NotebookOutput) else None
        self.sessions = Sessions(shell, self._pump, self._comms, self._output, connect_gateway=connect_gateway)
        if self._comms is not None:
            self._comms.revive = self.sessions.revive
        self.carriers = Carriers(self.sessions)
        self.sync = Sync(shell, carriers=self.carriers, make_handle=self._handle)
        self.cells = Cells(shell, self.sessions, self._output, self._crossed)
        self.runs = Runs(self.cells, self.sync)
        self.background = Background(shell, self.sessions, self.cells, self.sync, self._output)
        names = NamesVerbs(self.sessions, self.runs, self.sync, self._output)
        self.files = FilesVerbs(self.sessions, self.carriers)
        others = {
            Verb.PUSH: names.push,
            Verb.PULL: names.pull,
            Verb.VARS: names.listing,
            Verb.PUT: self.files.put,
            Verb.GET: self.files.get,
        }
        queue, logins = QueueVerbs(self.sessions, self.background), LoginVerbs(self.sessions)
        self.verbs = Verbs(self.sessions, self.cells, self._output, following, queue, logins, others)

    def run_cell(self, line: CellLine, first_line: str | None, body: str) -> Job | None:
        """Run a cell; one in the background gives its job. `first_line` is the magic line that was taken off it, or None."""
        code = body if first_line is None else numbered(first_line, body)
        attached = self.sessions.of_cell(line.place)
        warn_of_end(attached, self.sessions)
        self.files.with_cell(attached, line.files)
        if line.background:
            return self.background.start(attached, code, body, line)
        self.runs.run(attached, code, body, line)
        return None

    def end_own(self) -> None:
        """The process exits: end the sessions that are its own."""
        self.sessions.end_own()

    def close(self) -> None:
        """Leave all sessions and end the thread."""
        self.background.close()
        self.carriers.close()
        self.sessions.close()
        self._pump.stop()
        if self._comms is not None:
            self._comms.close()

    def _crossed(self, attached: Attached, running: Running) -> Summary:
        return self.sync.finish(attached, running.crossing, running)

    def _handle(self, attached: Attached, entry: Mapping[str, Any]) -> Handle:
        return make_handle(entry, Operations(attached, self.sync, self.cells, lambda: self._output.sink(attached.info.id)))
