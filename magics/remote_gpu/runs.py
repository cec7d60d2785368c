"""Runs a cell with the names that it needs: sends both, again without a name that the node refuses, and binds what comes back."""

from __future__ import annotations

from remote_gpu.arguments import CellLine
from remote_gpu.cell import Cells, NamesRefused
from remote_gpu.crossings import Crossing
from remote_gpu.running import Running, Sink
from remote_gpu.sessions import Attached
from remote_gpu.sync import Sync

__all__ = ["Runs"]

_ATTEMPTS = 4


class Runs:
    """Those of one notebook kernel."""

    def __init__(self, cells: Cells, sync: Sync) -> None:
        self._cells = cells
        self._sync = sync

    def run(self, attached: Attached, code: str, body: str, line: CellLine, *, sink: Sink | None = None) -> Crossing | None:
        """Run `code`, the form of `body` that goes over; returns when it has ended well, raises what it raised.

        None when nothing is to cross, so that also a kernel that is not ours can be used.
        """
        if not line.sync and line.inputs is None and line.outputs is None:
            self._cells.finish(attached, self._cells.started(attached, code, sink=sink))
            return None
        refused: dict[str, str] = {}
        for attempt in range(_ATTEMPTS):
            crossing = self._sync.prepare(attached, body, line, without=refused)
            running = self._cells.started(attached, code, crossing, sink=sink)
            try:
                self._finish(attached, crossing, running)
            except NamesRefused as error:
                reasons = self._sync.refused(attached, error.evalue) if attempt < _ATTEMPTS - 1 else None
                if reasons is None:
                    raise
                refused |= reasons
                sink = running.sink
            else:
                return crossing
        raise AssertionError

    def _finish(self, attached: Attached, crossing: Crossing, running: Running) -> None:
        try:
            self._cells.finish(attached, running)
        except NamesRefused:
            raise
        except BaseException:
            if running.execution.first is not None:
                self._sync.accepted(crossing)
            raise
        self._sync.accepted(crossing)
