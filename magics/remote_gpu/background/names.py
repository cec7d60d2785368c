"""The names of a background cell: agreed on when it is sent, bound here when its job is collected.

A remote kernel runs its requests in the order in which they came. So once a cell is sent, a later one finds there what it
brings and binds, and must neither wait for those values here nor send older ones over them.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from remote_gpu.arguments import CellLine
from remote_gpu.attached import Attached
from remote_gpu.codec.fingerprints import fingerprint
from remote_gpu.crossings import Crossing
from remote_gpu.errors import RemoteGpuError
from remote_gpu.execution import Result
from remote_gpu.running import Running
from remote_gpu.sync import Sync

__all__ = ["JobNames"]

_RESULT = "_"


class JobNames:
    """Those of one background cell; `value` is that of its last expression, once it is collected."""

    def __init__(self, sync: Sync, shell: Any, attached: Attached, body: str, line: CellLine) -> None:
        self._sync = sync
        self._shell = shell
        self._attached = attached
        self._body = body
        self._line = line
        self._refused: dict[str, str] = {}
        self._noted: dict[str, object] = {}
        self.crossing: Crossing | None = None
        self.value: Any = None

    def prepare(self) -> Crossing:
        """What goes over with the cell. Raises `UsageProblem` for a name that is asked for and that does not exist."""
        crossing = self.crossing = self._sync.prepare(self._attached, self._body, self._line, without=self._refused)
        self._bound = {*crossing.names.binds, *crossing.names.changes, *crossing.names.deletes}
        take = crossing.about.get("take")
        if take is not None and self._has_result():
            crossing.names = dataclasses.replace(crossing.names, binds=(*crossing.names.binds, _RESULT))
            take["names"].append(_RESULT)
            if take.get("only") is not None:
                take["only"] = [*take["only"], _RESULT]
        return crossing

    def sent(self) -> None:
        """The cell has been sent: from now on, requests find there what it brings and binds."""
        crossing = self.crossing
        if crossing is not None:
            self._sync.accepted(crossing)
            self._sync.agree(crossing.known, self._bound)
            self._noted = {name: crossing.known.keys.get(name) for name in (*crossing.sent, *self._bound)}

    def refuse(self, evalue: str) -> bool:
        """The kernel could not take something in: whether it makes sense to send the cell again without that."""
        reasons = self._sync.refused(self._attached, evalue)
        self._forget(self._noted)
        self._refused |= reasons or {}
        return reasons is not None

    def collect(self, running: Running) -> None:
        """Bind what came back. Names that were agreed on anew since it was sent are open: they are sent again when they are read."""
        crossing = self.crossing
        if crossing is None:
            return
        keys, good = crossing.known.keys, running.outcome is not None and running.outcome.result is Result.OK
        unsure = [name for name, key in self._noted.items() if not good or keys.get(name) != key]
        if running.execution.values is not None:
            crossing.kept.update(self._changed_here(crossing, running))
            self._bind(crossing, running)
        self._forget([*unsure, *crossing.kept])

    def _changed_here(self, crossing: Crossing, running: Running) -> list[str]:
        """Names of objects that the cell changed in place there, and the user here in the meantime: the value here stays."""
        values = running.execution.values
        said = values.content.get("changed") if values is not None else ()
        namespace, scope = self._sync.namespace, self._sync.scope(crossing.known)
        found = []
        for name in [each for each in said or () if each in crossing.prints and each in namespace]:
            try:
                same = fingerprint(namespace[name], scope).key == crossing.prints[name].key
            except RemoteGpuError:
                same = False
            if not same:
                found.append(name)
                crossing.summary.notes.append(f"{name} was changed here, too, and is as it is here (%remote_gpu pull {name})")
        return found

    def _bind(self, crossing: Crossing, running: Running) -> None:
        namespace = self._sync.namespace
        own = {_RESULT: namespace.pop(_RESULT)} if _RESULT in namespace else {}  # the notebook's own latest result
        try:
            summary = self._sync.finish(self._attached, crossing, running)
            self.value = namespace.pop(_RESULT, None)
        finally:
            namespace.update(own)
        self._forget([_RESULT])
        summary.handles.pop(_RESULT, None)
        summary.back[:] = [name for name in summary.back if name != _RESULT]
        if summary:
            running.facts = {**running.facts, "names": summary.json()}
            self._attached.connection.pump.call(lambda: running.sink.record(running, final=True))

    def _forget(self, names: Any) -> None:
        if self.crossing is not None:
            for name in names:
                self.crossing.known.keys.pop(name, None)

    def _has_result(self) -> bool:
        """Whether the cell ends with an expression whose value is shown."""
        try:
            last = ast.parse(self._shell.input_transformer_manager.transform_cell(self._body)).body[-1:]
        except SyntaxError:
            return False
        return bool(last) and isinstance(last[0], ast.Expr) and not self._body.rstrip().endswith(";")
