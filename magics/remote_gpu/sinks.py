"""Which sink the output of which request goes to: the latest cells' and, apart from them, the latest comm messages'.

A slider that is moved sends a hundred messages; were they counted as cells, a thread of a cell would soon lose its cell.
"""

from __future__ import annotations

from collections import OrderedDict

from remote_gpu.running import Sink

__all__ = ["Sinks"]

_KEPT = 500  # of each kind; late output of older ones finds no way


class Sinks:
    """Those of one session, by the id of the request."""

    def __init__(self) -> None:
        self._cells: OrderedDict[str, Sink] = OrderedDict()
        self._comms: OrderedDict[str, Sink] = OrderedDict()

    def get(self, msg_id: str) -> Sink | None:
        """The sink of a request; None when nobody here sent it, or it is too long ago."""
        return self._cells.get(msg_id) or self._comms.get(msg_id)

    def note(self, msg_id: str, sink: Sink) -> None:
        """A cell's output goes to `sink`."""
        _keep(self._cells, msg_id, sink)

    def note_comm(self, msg_id: str, sink: Sink | None) -> None:
        """A comm message's output goes to `sink`, or nowhere."""
        if sink is not None:
            _keep(self._comms, msg_id, sink)


def _keep(sinks: OrderedDict[str, Sink], msg_id: str, sink: Sink) -> None:
    sinks[msg_id] = sink
    while len(sinks) > _KEPT:
        sinks.popitem(last=False)
