"""The parts behind the magics, made at the first use and put together here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from remote_gpu.arguments import Place
from remote_gpu.cell import Cells, numbered
from remote_gpu.comms import Comms
from remote_gpu.gateway import Gateway
from remote_gpu.output import NotebookOutput, output_for
from remote_gpu.pump import Pump
from remote_gpu.sessions import Sessions
from remote_gpu.summary import Summary
from remote_gpu.verbs import Verbs

__all__ = ["Parts"]


class Parts:
    """Everything of one shell that needs ZMQ or the gateway."""

    def __init__(self, shell: Any, connect_gateway: Callable[[], Gateway] | None, following: Callable[[Place | None], None]) -> None:
        output = output_for(shell)
        # Only a notebook in a Jupyter server has JPY_SESSION_NAME; only there is output dropped for being fast.
        self._pump = Pump(limited="JPY_SESSION_NAME" in os.environ)
        relay = Comms(output) if isinstance(output, NotebookOutput) else None
        self.sessions = Sessions(shell, self._pump, relay, connect_gateway=connect_gateway)
        self.cells = Cells(shell, self.sessions, output, lambda _, __: Summary())
        self.verbs = Verbs(self.sessions, self.cells, output, following)

    def run_cell(self, place: Place, first_line: str | None, body: str) -> None:
        """Run a cell. `first_line` is the magic line that was taken off it, or None."""
        code = body if first_line is None else numbered(first_line, body)
        attached = self.sessions.of_cell(place)
        self.cells.finish(attached, self.cells.started(attached, code))

    def end_own(self) -> None:
        """The process exits: end the sessions that are its own."""
        self.sessions.end_own()

    def close(self) -> None:
        """Leave all sessions and end the thread."""
        self.sessions.close()
        self._pump.stop()
