"""What the notebook does with handles: operations on remote values, run in order with the cells of their session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.cell import Cells, NamesRefused
from remote_gpu.codec.encode import encode
from remote_gpu.crossings import Crossing
from remote_gpu.errors import SessionEnded, UsageProblem
from remote_gpu.running import Running, Sink
from remote_gpu.sessions import Attached
from remote_gpu.sync import Sync

__all__ = ["Operations", "Quiet"]

_CODE = "__remote_gpu_operate__()"
_RESULT = "__remote_gpu_operate__result"


class Quiet:
    """A cell's sink without a record: an operation on a handle is a part of a local cell."""

    def __init__(self, sink: Sink) -> None:
        self.publish = sink.publish
        self.parent = getattr(sink, "parent", {})

    def record(self, running: Running, *, final: bool) -> None:
        """Nothing."""


class Operations:
    """Does what handles of one session's kernel ask for; see `handles.Remote`."""

    def __init__(self, attached: Attached, sync: Sync, cells: Cells, sink: Callable[[], Sink]) -> None:
        self._attached = attached
        self._sync = sync
        self._cells = cells
        self._sink = sink
        self._known = sync.known(attached)

    @property
    def session(self) -> str:
        """The kernel's token: another kernel of the same session has other objects under the same numbers."""
        return self._known.token

    @property
    def where(self) -> str:
        """The node and session, for people."""
        info = self._attached.info
        return f"session {info.name} on {info.node or info.cluster}"

    def call(self, handle_id: int, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of `operation` on the remote value: a value if it is small, else a handle. Raises what it raised there."""
        self._check()
        crossing = self._sync.crossing(self._known, self._sync.analysed(""))
        results: dict[str, Any] = {}
        crossing.results = results
        operate: dict[str, Any] = {"handle": handle_id, "operation": operation}
        if args or kwargs:
            operate["give"] = self._given(crossing, {"args": args, "kwargs": kwargs})
        crossing.about["operate"] = operate
        crossing.about["take"] = self._sync.terms(self._attached)
        running = self._cells.started(self._attached, _CODE, crossing, sink=Quiet(self._sink()))
        try:
            self._cells.finish(self._attached, running)
        except NamesRefused as error:
            raise UsageProblem(f"The arguments were refused there: {error.evalue}") from None
        return results.get(_RESULT)

    def fetch(self, handle_id: int) -> Any:
        """The remote value as a value here."""
        self._check()
        return self._sync.fetched(self._attached, handle_id)

    def release(self, handle_id: int) -> None:
        """The handle is not used here any more; may be called at any moment, on any thread."""
        self._known.dropped.append(handle_id)

    def _check(self) -> None:
        if self._sync.known(self._attached) is not self._known:
            raise SessionEnded("The remote value is gone with its kernel.", hint="Run the cell that made it again.")

    def _given(self, crossing: Crossing, values: Mapping[str, Any]) -> dict[str, Any]:
        encoded = encode(values, self._sync.scope(self._known))
        if encoded.refused:
            name, reason = next(iter(encoded.refused.items()))
            raise UsageProblem(f"An argument cannot cross ({name}): {reason}")
        packed = self._sync.packed(self._attached, encoded, len(crossing.buffers))
        crossing.buffers += packed.buffers
        return dict(packed.manifest)
