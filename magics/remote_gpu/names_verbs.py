"""`%remote_gpu push`, `pull` and `vars`: names that cross by hand."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Mapping
from typing import Any

from remote_gpu.arguments import CellLine, Place, VerbLine
from remote_gpu.codec.fingerprints import fingerprint
from remote_gpu.errors import LinkProblem, RemoteGpuError, UsageProblem
from remote_gpu.handles import Handle
from remote_gpu.listing import Row, row_from, row_of, row_of_handle, table
from remote_gpu.operations import Quiet
from remote_gpu.output import Output
from remote_gpu.runs import Runs
from remote_gpu.sessions import Attached, Sessions
from remote_gpu.summary import Summary
from remote_gpu.sync import Sync

__all__ = ["NamesVerbs"]

_ASK_TIME = 30.0


class NamesVerbs:
    """The commands about names, of one notebook kernel."""

    def __init__(self, sessions: Sessions, runs: Runs, sync: Sync, output: Output) -> None:
        self._sync = sync
        self._sessions = sessions
        self._runs = runs
        self._output = output

    def push(self, line: VerbLine) -> str:
        """Send names, also unchanged ones; returns what crossed, in words."""
        known = self._sync.known(self._attached(line))
        for name in line.words:
            known.keys.pop(name, None)
        return self._crossed(line, CellLine(inputs=line.words, sync=False)).text

    def pull(self, line: VerbLine) -> str:
        """Bring names back; returns what crossed, in words. Raises `UsageProblem` for names that are not there."""
        summary = self._crossed(line, CellLine(outputs=line.words, sync=False))
        came = {*summary.back, *summary.handles, *(note.partition(" ")[0] for note in summary.notes)}
        missing = [name for name in line.words if name not in came]
        if missing:
            raise UsageProblem(f"There is no name {missing[0]!r} in the remote session.", hint="%remote_gpu vars lists what there is.")
        return summary.text

    def listing(self, line: VerbLine) -> str:
        """The names of both sides, as a table."""
        remote = {name: row_from(entry) for name, entry in self.remote(line).items()}
        return table(self._local_rows(), remote, self._differing(self._attached(line), remote)).rstrip("\n")

    def _local_rows(self) -> dict[str, Row]:
        """What is known of the notebook's own names, without modules."""
        users = {name: value for name, value in self._sync.namespace.items() if not name.startswith("_") and not self._sync.is_own(name)}
        return {
            name: row_of_handle(value) if isinstance(value, Handle) else row_of(value)
            for name, value in users.items()
            if not isinstance(value, types.ModuleType)
        }

    def _differing(self, attached: Attached, names: Iterable[str]) -> set[str]:
        """Those of `names` whose value here is not what both sides last agreed on."""
        sync, known = self._sync, self._sync.known(attached)
        scope, differing = sync.scope(known), set()
        for name in names:
            if name in sync.namespace:
                with contextlib.suppress(RemoteGpuError):
                    if known.keys.get(name) != fingerprint(sync.namespace[name], scope).key:
                        differing.add(name)
        return differing

    def remote(self, line: VerbLine) -> Mapping[str, Mapping[str, Any]]:
        """What is known of the remote names, by name. Raises `LinkProblem`."""
        attached = self._attached(line)
        said = attached.connection.request("remote_gpu_request", {"ask": "vars"}, timeout=_ASK_TIME, control=True)
        if said is None or said.get("status") != "ok":
            raise LinkProblem(f"Session {attached.info.name!r} does not answer.", hint="Is it there? %remote_gpu status tells.")
        names: Mapping[str, Mapping[str, Any]] = said["names"]
        return names

    def _attached(self, line: VerbLine) -> Attached:
        return self._sessions.of_cell(Place(line.name))

    def _crossed(self, line: VerbLine, cell: CellLine) -> Summary:
        attached = self._attached(line)
        crossing = self._runs.run(attached, "", "", cell, sink=Quiet(self._output.sink(attached.info.id)))
        return crossing.summary if crossing is not None else Summary()
