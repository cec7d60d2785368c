"""The user's names in a kernel: takes in what a request gives, and says afterwards what became of the names of the cell.

A request says in its metadata ``{"remote_gpu": {"give": …, "take": …, "operate": …}}``; `docs/reference/names.md` has the
fields. What is given is bound before the cell runs, all of it or nothing. What the cell bound, changed or deleted is told in
one iopub message ``remote_gpu_values`` before the cell is over, so it is in the journal like the cell's output.
"""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remote_gpu.errors import RemoteGpuError
from remote_gpu.node import incoming, outgoing
from remote_gpu.node.blobs import mapped
from remote_gpu.node.held import Held
from remote_gpu.node.marks import mark
from remote_gpu.node.serving import Server, serve
from remote_gpu.node.shipped import REFUSED, Shipped

__all__ = ["INLINE", "OPERATE", "Crossing", "Variables"]

INLINE = 256 * 1024
"""The most bytes of one value that travel in a message; a longer one is fetched."""

OPERATE = "__remote_gpu_operate__"
"""The name by which the code of an operation on a handle calls it."""

_LIMIT = 8 * 1024**2
_NO_LIMIT = 1 << 62
_NAMESPACE_OWN = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open", OPERATE})


class Variables:
    """Those of one kernel. `publish` sends one iopub message: its type, content and buffers."""

    def __init__(self, shell: Any, publish: Callable[[str, dict[str, Any], Sequence[Any]], None]) -> None:
        self.shell = shell
        self.held = Held()
        self.token = secrets.token_hex(8)
        self.generation = 0
        self._publish = publish
        self._server: Server | None = None

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's names."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    @functools.cached_property
    def shipped(self) -> Shipped:
        """The notebook's own modules, in the session's folder."""
        shipped = Shipped(Path(self.shell.kernel.parent.connection_file).parent / "modules")
        shipped.rename_in(self.shell)
        return shipped

    def begin(self, about: Mapping[str, Any], buffers: Sequence[Any]) -> Crossing:
        """Take in what `about` gives, and look at the names that the cell may change; see `Crossing.refused`."""
        give, operate = about.get("give") or {}, about.get("operate")
        self.generation += 1
        self.serve()
        if about.get("kernel", self.token) != self.token:
            return Crossing(self, None, operated=False, refused={"": "another kernel"})
        self.held.drop(about.get("drop") or ())
        try:
            if about.get("modules"):
                self._take_modules(about["modules"], buffers)
            if give.get("names"):
                self.namespace.update(self._given(give, buffers))
            if operate:
                self.namespace[OPERATE] = self._operation(operate, buffers)
        except incoming.NamesRefused as error:
            return Crossing(self, None, operated=False, refused=error.reasons)
        return Crossing(self, about.get("take"), operated=bool(operate))

    def _take_modules(self, manifest: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        try:
            self.shipped.receive(manifest, buffers)
        except RemoteGpuError as error:
            raise incoming.NamesRefused({REFUSED: str(error)}) from error

    def _given(self, give: Mapping[str, Any], buffers: Sequence[Any]) -> dict[str, Any]:
        whole = [self._part(each, buffers) for each in give["buffers"]]
        return incoming.load(self._part(give["head"], buffers), whole, give["names"], self.namespace, self.held.resolve)

    @staticmethod
    def _part(ref: Mapping[str, Any], buffers: Sequence[Any]) -> Any:
        if "blob" not in ref:
            return bytearray(buffers[int(ref["inline"])])  # the message's memory is read-only
        try:
            return mapped(str(ref["blob"]), int(ref["size"]))
        except (OSError, RemoteGpuError) as error:
            raise incoming.NamesRefused({"": f"blob {ref['blob']} is gone: {error}"}) from error

    def _operation(self, operate: Mapping[str, Any], buffers: Sequence[Any]) -> Callable[[], Any]:
        given = self._given(operate["give"], buffers) if operate.get("give") else {}

        def run() -> Any:
            del self.namespace[OPERATE]
            result = self.held.operate(int(operate["handle"]), str(operate["operation"]), given.get("args", ()), given.get("kwargs", {}))
            self.namespace[f"{OPERATE}result"] = result

        return run

    def tell(self, names: Sequence[str], entries: dict[str, Any], take: Mapping[str, Any]) -> None:
        """Publish what became of `names`; `entries` are those that are told already."""
        limit = int(take.get("limit", _LIMIT))
        force, trusted = tuple(take.get("force") or ()), bool(take.get("trusted"))
        found = outgoing.collect(
            names,
            self.namespace,
            self.held,
            limit=limit,
            inline=INLINE,
            force=force,
            trusted=trusted,
            missing=take.get("missing") or (),
            imports=take.get("imports") or {},
        )
        parts = [found.head, *found.buffers] if found.head else []
        content = {
            "entries": {**entries, **found.entries},
            "head": {"inline": 0} if parts else None,
            "buffers": [{"inline": index} for index in range(1, len(parts))],
            "changed": list(take.get("changed") or ()),
        }
        self._publish("remote_gpu_values", content, parts)

    def serve(self) -> None:
        """Give held values out to the data process, from a thread of their own."""
        if self._server is None:
            self._server = serve(Path(self.shell.kernel.parent.connection_file).parent, self._encoded, lambda: self.generation)

    def _encoded(self, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes, list[memoryview]]:
        """One held value, whole."""
        names, trusted = {"value": self.held.resolve(int(wanted["handle"]))}, bool(wanted.get("trusted"))
        found = outgoing.collect(["value"], names, self.held, limit=_NO_LIMIT, inline=_NO_LIMIT, force=("value",), trusted=trusted)
        return found.entries["value"], found.head, found.buffers


class Crossing:
    """The names of one cell, between its start and its end. `refused`: those that cannot be taken in, with the reasons."""

    def __init__(
        self, variables: Variables, take: Mapping[str, Any] | None, *, operated: bool, refused: Mapping[str, str] | None = None
    ) -> None:
        self.refused = dict(refused or {})
        self._variables = variables
        self._take = take
        self._operated = operated
        namespace = variables.namespace
        self._before = dict(namespace) if take is not None else {}
        reads = take.get("reads") or () if take is not None else ()
        self._marks = {name: seal for name in reads if name in namespace and (seal := mark(namespace[name])) is not None}

    def refusal(self) -> dict[str, Any]:
        """The reply to a request whose names cannot be taken in; the cell does not run."""
        return {"status": "error", "ename": "NamesRefused", "evalue": json.dumps(self.refused), "traceback": []}

    def end(self, *, ok: bool) -> None:
        """Say what became of the names."""
        namespace = self._variables.namespace
        if self._operated:
            namespace.pop(OPERATE, None)
            self._end_operation(namespace)
        elif self._take is not None:
            self._end_cell(namespace, ok=ok)

    def _end_operation(self, namespace: dict[str, Any]) -> None:
        name = f"{OPERATE}result"
        if name in namespace:
            try:
                self._variables.tell([name], {}, self._take or {})
            finally:
                del namespace[name]

    def _end_cell(self, namespace: dict[str, Any], *, ok: bool) -> None:
        take = self._take or {}
        bound = self._bound(namespace, take)
        changed = [name for name, seal in self._marks.items() if name not in bound and name in namespace and mark(namespace[name]) != seal]
        gone = [name for name in self._before if name not in namespace and not self._own(name)]
        entries: dict[str, Any] = {name: {"kind": "gone"} for name in gone}
        if not ok and take.get("only"):
            self._variables.tell(bound, entries, take)
        elif not ok:
            entries.update({name: {"kind": "kept", "reason": "the cell failed"} for name in (*bound, *changed)})
            take = {**take, "changed": [*changed, *(name for name in bound if name in self._before and not self._same(name))]}
            self._variables.tell((), entries, take)
        elif bound or changed or gone:
            same = [name for name in bound if self._same(name)] if take.get("only") is None else []
            self._variables.tell((*bound, *changed), entries, {**take, "changed": [*same, *changed]})

    def _bound(self, namespace: dict[str, Any], take: Mapping[str, Any]) -> list[str]:
        """The names that are bound to another object than before, and those that the cell says it binds or changes."""
        before, missing = self._before, object()
        named = take.get("names") or ()
        found = [name for name, value in namespace.items() if before.get(name, missing) is not value and not self._own(name)]
        if take.get("only") is not None:
            return [name for name in take["only"] if name in namespace]
        return list(dict.fromkeys((*found, *(name for name in named if name in namespace))))

    def _same(self, name: str) -> bool:
        """Whether a name stands for the same object as before the cell."""
        return name in self._before and self._before[name] is self._variables.namespace[name]

    def _own(self, name: str) -> bool:
        hidden = self._variables.shell.user_ns_hidden
        return name.startswith("_") or name in hidden or name in _NAMESPACE_OWN
