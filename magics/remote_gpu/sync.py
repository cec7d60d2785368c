"""Has a remote cell see the notebook's names, and the notebook those of the cell.

Before a cell: the names that it reads and that the remote kernel lacks, or that changed here since both sides agreed on
them, go over in one parcel, in the request itself; large buffers go ahead of it as blobs. After it, what the kernel says
became of its names is bound here. `capture` says what a cell reads, `fingerprints` what changed, `binding` binds.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from remote_gpu.arguments import CellLine
from remote_gpu.binding import Binder, NotebookClasses
from remote_gpu.capture.analysis import Names, analyse
from remote_gpu.codec.encode import Encoded, Scope, encode
from remote_gpu.codec.fingerprints import fingerprint
from remote_gpu.codec.rebuild import missing_libraries
from remote_gpu.crossings import VALUE_LIMIT, Crossing
from remote_gpu.errors import LinkProblem, NoDataStream, RemoteGpuError, UsageProblem
from remote_gpu.handles import Handle
from remote_gpu.known import Known
from remote_gpu.modules.shipping import REFUSED, Shipping
from remote_gpu.modules.versions import Comparison
from remote_gpu.parcels import Packed, pack
from remote_gpu.running import Running
from remote_gpu.sessions import Attached
from remote_gpu.summary import Summary
from remote_gpu.transfer.carriers import Carriers

__all__ = ["Sync"]

_ASK_TIME = 30.0
_NAMED = 4
_NOT_USERS = frozenset({"In", "Out", "get_ipython", "exit", "quit"})


class Sync:
    """The names of one shell. `carriers` has the streams for what is large; `make_handle` makes handles of a session."""

    def __init__(
        self,
        shell: Any,
        *,
        carriers: Carriers,
        make_handle: Callable[[Attached, Mapping[str, Any]], Handle],
    ) -> None:
        self._shell = shell
        self._carriers = carriers
        self._make_handle = make_handle
        self._shipping = Shipping()
        self._comparison = Comparison()
        self._known: dict[str, Known] = {}

    @property
    def namespace(self) -> dict[str, Any]:
        """The notebook's names."""
        names: dict[str, Any] = self._shell.user_ns
        return names

    def analysed(self, body: str) -> Names:
        """What `body` does with names."""
        transform = getattr(type(self._shell), "transform_cell").__get__(self._shell)  # noqa: B009  the class's own: ours makes cells remote
        return analyse(body, transform)

    def known(self, attached: Attached) -> Known:
        """What is known of the names in this session's kernel; asked for when its kernel is new to us. Raises `LinkProblem`."""
        found = self._known.get(attached.info.id)
        if found is None:
            said = attached.connection.request("remote_gpu_request", {"ask": "hello"}, timeout=_ASK_TIME, control=True)
            if said is None or said.get("status") != "ok":
                why = f": {said['evalue']}" if said else ""
                raise LinkProblem(f"The kernel of session {attached.info.name!r} did not say who it is{why}.", hint="Try the cell again.")
            found = self._known[attached.info.id] = Known(str(said["token"]), tuple(said["python"]), said)
        return found

    def _compare(self, attached: Attached, known: Known) -> None:
        """Say what differs in the versions of both sides, once."""

        def ask(packages: list[str]) -> Mapping[str, Any]:
            question = {"ask": "hello", "packages": packages}
            said = attached.connection.request("remote_gpu_request", question, timeout=_ASK_TIME, control=True)
            return (said or {}).get("packages") or {}

        news = self._comparison.news(known.token, known.facts, ask, node=attached.info.node or attached.info.cluster)
        if news:
            sys.stderr.write(f"{news}\n")

    def forget(self, attached: Attached) -> None:
        """The session has another kernel, or none."""
        known = self._known.pop(attached.info.id, None)
        if known is not None:
            self._shipping.forget(known.token)
            self._comparison.forget(known.token)

    # before the cell

    def prepare(self, attached: Attached, body: str, line: CellLine, *, without: Mapping[str, str] | None = None) -> Crossing:
        """What goes over with the cell `body`. `without` are names that the node refused, with the reasons.

        Raises `UsageProblem` for a name that ``-i`` asks for and that does not exist.
        """
        names = self.analysed(body)
        known = self.known(attached)
        crossing = self.crossing(known, names)
        for name, reason in (without or {}).items():
            self._note(crossing, name, reason)
            if name in self.namespace:
                known.refused[name] = fingerprint(self.namespace[name], self.scope(known)).key
        wanted = self._wanted(known, names, line)
        values = self._changed(crossing, wanted)
        if line.sync:
            self._compare(attached, known)
        self._ship(crossing, _imported(names) if line.sync else [])
        values.update(self._outdated(crossing, without or {}))
        if values:
            self._pack(attached, crossing, values)
        self._take(attached, crossing, names, line)
        return crossing

    def _ship(self, crossing: Crossing, imports: Iterable[str]) -> None:
        """Have the notebook's own modules go along: those that the cell `imports`, and those that what it reads refers to."""
        known = crossing.known
        names = {*imports, *(module for each in crossing.prints.values() for module in each.modules)}
        shipment = self._shipping.needed(names, known.token, known.facts)
        if shipment is None:
            return
        for note in shipment.notes:
            sys.stderr.write(f"{note}\n")
        manifest = shipment.manifest(len(crossing.buffers))
        if manifest:
            crossing.about["modules"] = manifest
            crossing.buffers += shipment.buffers
            crossing.shipment = shipment

    def _outdated(self, crossing: Crossing, without: Collection[str]) -> dict[str, Any]:
        """The values that refer to modules which are loaded anew there: the kernel has them of the old ones."""
        changed = crossing.shipment.changed if crossing.shipment is not None else ()
        if not changed:
            return {}
        found = {
            name: each for name, each in crossing.prints.items() if any(module.partition(".")[0] in changed for module in each.modules)
        }
        crossing.sent.update({name: each for name, each in found.items() if name not in without})
        return {name: self.namespace[name] for name in found if name not in without}

    @staticmethod
    def crossing(known: Known, names: Names) -> Crossing:
        """One in which nothing crosses yet."""
        return Crossing(names, known, {"kernel": known.token, "drop": known.take_dropped()}, [])

    def packed(self, attached: Attached, encoded: Encoded, first: int) -> Packed:
        """A parcel whose large buffers went ahead, where there is a way for them. `first` is the number of buffers before it."""
        put = self._carriers.put(attached, ", ".join(encoded.names[:_NAMED]))
        try:
            return pack(encoded.names, encoded.head, encoded.buffers, put, first=first)
        except NoDataStream:
            return pack(encoded.names, encoded.head, encoded.buffers, None, first=first)

    def trusts(self, attached: Attached) -> bool:
        """Whether the node's pickles are loaded: the configuration says so, and both sides have the same Python."""
        return attached.info.trust and self.known(attached).same_python

    def fetched(self, attached: Attached, handle_id: int) -> Any:
        """A held value, as a value here."""
        return self._carriers.fetch(attached, handle_id, NotebookClasses(self.namespace), trusted=self.trusts(attached))

    def _wanted(self, known: Known, names: Names, line: CellLine) -> list[str]:
        if line.inputs is not None:
            missing = [name for name in line.inputs if name not in self.namespace]
            if missing:
                raise UsageProblem(f"There is no name {missing[0]!r} here to be sent.", hint="Names after -i are separated by commas.")
            return list(line.inputs)
        if not line.sync:
            return []
        reads = known.reached(names.reads) | names.changes
        return sorted(name for name in reads if name in self.namespace and not self.is_own(name))

    def is_own(self, name: str) -> bool:
        """Whether a name belongs to the shell and not to the user."""
        return name in _NOT_USERS or (name in self._shell.user_ns_hidden and self._shell.user_ns_hidden[name] is self.namespace.get(name))

    def _may_bind(self, name: str, crossing: Crossing | None) -> bool:
        """Whether a node may say what `name` is here: a new name, or one that the cell's text is about."""
        if self.is_own(name) or (crossing is not None and name in crossing.kept):
            return False
        if crossing is None:  # the user asked for what an earlier kernel's cell left
            return not name.startswith("_")
        if name.startswith("_"):
            return crossing.binds(name)
        return bool(crossing.names.unseen) or name not in self.namespace or crossing.concerns(name)

    def scope(self, known: Known) -> Scope:
        """What encoding has to know."""
        return Scope(self.namespace, same_python=known.same_python, session=known.token)

    def _changed(self, crossing: Crossing, wanted: Iterable[str]) -> dict[str, Any]:
        """The values that the other side lacks, with all that their functions need."""
        scope, known = self.scope(crossing.known), crossing.known
        values: dict[str, Any] = {}
        waiting, seen = list(wanted), set(wanted)
        while waiting:
            name = waiting.pop()
            value = self.namespace[name]
            try:
                print_of = fingerprint(value, scope)
            except RemoteGpuError as error:
                self._note(crossing, name, error.message)
                continue
            more = [each for each in print_of.needs if each in self.namespace and each not in seen and not self.is_own(each)]
            waiting += more
            seen.update(more)
            crossing.prints[name] = print_of
            if print_of.key not in (known.keys.get(name), known.refused.get(name)):
                values[name] = value
                crossing.sent[name] = print_of
        for name, others in crossing.torn():
            text = f"{name} shares objects with {', '.join(others)}, sent before: there they are separate now. "
            self._tell(crossing, name, f"{text}%remote_gpu push {','.join([name, *others])} sends them as one.\n")
        return values

    @staticmethod
    def _tell(crossing: Crossing, name: str, text: str) -> None:
        """Say something once."""
        if (name, text) not in crossing.known.told:
            crossing.known.told.add((name, text))
            sys.stderr.write(text)

    @staticmethod
    def _note(crossing: Crossing, name: str, reason: str) -> None:
        Sync._tell(crossing, name, f"{name} stays here: {reason}\n")
        crossing.summary.notes.append(f"{name} stays here")

    def _pack(self, attached: Attached, crossing: Crossing, values: Mapping[str, Any]) -> None:
        encoded: Encoded = encode(values, self.scope(crossing.known))
        for name, reason in encoded.refused.items():
            crossing.sent.pop(name, None)
            self._note(crossing, name, reason)
        if not encoded.names:
            return
        packed = self.packed(attached, encoded, len(crossing.buffers))
        crossing.about["give"] = dict(packed.manifest)
        crossing.buffers += packed.buffers
        crossing.summary.sent = [name for name in encoded.names if not isinstance(values[name], types.ModuleType)]
        crossing.summary.sent_bytes = packed.size

    def _take(self, attached: Attached, crossing: Crossing, names: Names, line: CellLine) -> None:
        force = list(line.outputs or ())
        if line.outputs is None and not line.sync:
            return
        crossing.about["take"] = {
            "names": [*names.binds, *sorted(names.changes | names.deletes)],
            "reads": sorted(crossing.known.reached(names.reads).union(crossing.prints)) if line.outputs is None else [],
            "only": force if line.outputs is not None else None,
            "force": force,
            **self.terms(attached),
            "imports": {each.bound: [each.module, each.name] for each in names.imports if each.bound and each.name},
        }

    # after the cell

    def accepted(self, crossing: Crossing) -> None:
        """The kernel has taken in what was given."""
        if crossing.shipment is not None:
            self._shipping.arrived(crossing.shipment)
        crossing.known.functions.update(crossing.names.functions)
        for name, each in crossing.sent.items():
            if name not in crossing.settled:
                crossing.known.keys[name] = each.key

    def refused(self, attached: Attached, evalue: str) -> dict[str, str] | None:
        """What the kernel says that it cannot take in: names with reasons; {} means that it is another kernel. None: it is something else."""
        try:
            reasons = {str(name): str(reason) for name, reason in json.loads(evalue).items()}
        except (ValueError, AttributeError):
            return None
        if REFUSED in reasons:
            if not self._shipping.forget(self.known(attached).token):
                raise RemoteGpuError("The remote kernel cannot take in the notebook's modules.", hint=reasons[REFUSED])
            return {}
        if "" in reasons:
            self.forget(attached)
            return {}
        return reasons

    def finish(self, attached: Attached, crossing: Crossing | None, running: Running) -> Summary:
        """Bind here what became of the names. Raises `UnsafeValue` when the node sends what cannot be a value."""
        message = running.execution.values
        summary = crossing.summary if crossing is not None else Summary()
        if message is None:
            return summary
        known = crossing.known if crossing is not None else self.known(attached)
        own = self.namespace if crossing is None or crossing.results is None else crossing.results
        binder = Binder(
            own,
            classes=NotebookClasses(self.namespace),
            handle=lambda entry: self._make_handle(attached, entry),
            fetch=lambda handle: self.fetched(attached, handle),
            imports={each.bound: each for each in crossing.names.imports} if crossing is not None else {},
            trusted=self.trusts(attached),
            may_bind=str.isidentifier if own is not self.namespace else lambda name: self._may_bind(name, crossing),
        )
        settled = binder.bind(message, summary)
        if own is self.namespace:
            self.agree(known, settled)
            if crossing is not None:
                crossing.settled.update(settled)
        return summary

    def agree(self, known: Known, names: Iterable[str]) -> None:
        """Note that what `names` are here is what the remote kernel has, or that its own are newer."""
        scope = self.scope(known)
        for name in names:
            known.keys.pop(name, None)
            if name in self.namespace:
                with contextlib.suppress(RemoteGpuError):  # it cannot cross, and so cannot be sent by mistake
                    known.keys[name] = fingerprint(self.namespace[name], scope).key

    def terms(self, attached: Attached) -> dict[str, Any]:
        """What may come back as a value: the most bytes, whether anything that can be pickled, and the libraries that are not here."""
        return {"limit": VALUE_LIMIT, "trusted": self.trusts(attached), "missing": list(missing_libraries())}


def _imported(names: Names) -> list[str]:
    """The dotted names that a cell imports."""
    return [f"{each.module}.{each.name}" if each.name else each.module for each in names.imports]
