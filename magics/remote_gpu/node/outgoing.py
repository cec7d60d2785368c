"""Values that leave the node: encoded by the C pickler, in terms that the laptop builds without trusting this side.

What the laptop has a constructor for is written as a call of it (`remote_gpu.node.leaving`); everything else stays here, held,
and the laptop gets a handle. A value that the user did not ask for stays, too, when it is larger than a limit or lies on a GPU.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote_gpu.node import cloudpickle
from remote_gpu.node.held import Held
from remote_gpu.node.incoming import SENT_CLASSES
from remote_gpu.node.leaving import arrays, arrow, notebook, pictures, sparse, tables, tensors
from remote_gpu.node.leaving.arrays import Writable
from remote_gpu.node.leaving.calls import Reduction, Unsupported, is_stand_in
from remote_gpu.node.leaving.plain import PLAIN

__all__ = ["Collected", "collect"]

_IN_BAND = 4096  # bytes: smaller memory costs less inside the head than as a part of the message
_ALL_INLINE = 16  # values of a cell may together be this many times as large in a message as one of them

_Reducer = Callable[[Any, "_Sender"], Reduction]

_LIBRARIES: dict[str, Callable[[type], _Reducer | None]] = {
    "numpy": arrays.find,
    "pandas": tables.find,
    "polars": arrow.find_polars,
    "pyarrow": arrow.find,
    "scipy": sparse.find,
    "PIL": pictures.find,
    "torch": tensors.find,
    "jaxlib": tensors.find_jax,
    "jax": tensors.find_jax,
}
_known: dict[type, _Reducer] = {**PLAIN, Writable: arrays.writable}


def _root(kind: type) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


@dataclass
class Collected:
    """What became of the names: an entry each; `head` and `buffers` hold the values of those whose kind is ``value``, in their order."""

    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    head: bytes = b""
    buffers: list[memoryview] = field(default_factory=list)


def collect(
    names: Sequence[str],
    namespace: Mapping[str, Any],
    held: Held,
    *,
    limit: int,
    inline: int,
    force: Collection[str] = (),
    trusted: bool = False,
    missing: Collection[str] = (),
    imports: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
) -> Collected:
    """Encode what `names` are bound to.

    A value of more than `limit` bytes stays here, as a handle, and so does one of more than `inline` bytes; of the latter the
    entry says ``fetch``. Those in `force` were asked for: no limit holds for them, and a tensor leaves its GPU. `trusted`
    writes what any pickle can hold, for a laptop that unpickles it. `missing` are libraries that the laptop does not have.
    `imports` are the cell's ``from module import name``, by the name that it binds: what cannot leave is imported there instead.
    """
    found = Collected()
    values: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        if name not in namespace:
            found.entries[name] = {"kind": "gone"}
        elif isinstance(namespace[name], types.ModuleType):
            found.entries[name] = {"kind": "module", "module": namespace[name].__name__}
        else:
            values[name] = namespace[name]
            found.entries[name] = {"kind": "value"}
    parcel = _Parcel(limit, frozenset(force), trusted=trusted, missing=frozenset(missing))
    staying = parcel.pack(values, inline)
    for name, reason in staying.items():
        if reason and _is_import(values[name], imports.get(name)):
            found.entries[name] = {"kind": "module", "module": imports[name][0]}
            continue
        found.entries[name] = {**held.entry(values[name]), "fetch": not reason, "why": reason}
    found.head, found.buffers = parcel.head, parcel.buffers
    return found


def _is_import(value: Any, wanted: Sequence[str] | None) -> bool:
    """Whether `value` still is what the cell's import bound."""
    return wanted is not None and vars(sys.modules.get(wanted[0], object)).get(wanted[1]) is value


class _Parcel:
    """The values of one `collect`, encoded by one pickler, so that what they share is one object on the other side."""

    def __init__(self, limit: int, force: frozenset[str], *, trusted: bool, missing: frozenset[str]) -> None:
        self.head = b""
        self.buffers: list[memoryview] = []
        self._limit = limit
        self._force = force
        self._trusted = trusted
        self._missing = missing

    def pack(self, values: Mapping[str, Any], inline: int) -> dict[str, str]:
        """Encode what may leave at once; returns the others with the reason, which is empty where only the size is in the way."""
        staying: dict[str, str] = {}
        sizes = self._together(values)
        if sizes is None:  # some of them cannot leave: look at each alone
            tried = {name: self._alone(name, value) for name, value in values.items()}
            staying = {name: size for name, size in tried.items() if isinstance(size, str)}
            sizes = self._together({name: value for name, value in values.items() if name not in staying}) or {}
        room = _ALL_INLINE * inline
        late = []
        for name, size in sizes.items():
            if size > min(inline, room):
                late.append(name)
            else:
                room -= size
        if late:
            staying.update(dict.fromkeys(late, ""))
            self._together({name: value for name, value in values.items() if name not in staying})
        return staying

    def _together(self, values: Mapping[str, Any]) -> dict[str, int] | None:
        """Encode `values` into `head` and `buffers`; returns the bytes that each added, or None when one of them cannot leave."""
        self.head, self.buffers = b"", []
        if not values:
            return {}
        sender = self._sender()
        sizes = {}
        try:
            for name, value in values.items():
                sizes[name] = sender.send(value, self._limit_of(name), forced=name in self._force)
        except Unsupported:
            return None
        finally:
            sender.close()
        self.head, self.buffers = b"".join(sender.parts), sender.buffers
        return sizes

    def _alone(self, name: str, value: Any) -> int | str:
        sender = self._sender()
        try:
            return sender.send(value, self._limit_of(name), forced=name in self._force)
        except Unsupported as error:
            return str(error)
        finally:
            sender.close()

    def _limit_of(self, name: str) -> int:
        return sys.maxsize if name in self._force else self._limit

    def _sender(self) -> _Sender:
        return _Sender(trusted=self._trusted, missing=self._missing)


class _Sender:
    """One pickler, its output, and what reducers ask for; see `remote_gpu.node.leaving.calls.Sender`."""

    def __init__(self, *, trusted: bool, missing: frozenset[str]) -> None:
        self.forced = False
        self.parts: list[bytes] = []
        self.buffers: list[memoryview] = []
        self.missing = missing
        self._left = 0
        self._limit = 0
        kind: Any = cloudpickle.Pickler if trusted else _Pickler
        self._pickler: pickle.Pickler = kind(self, protocol=5, buffer_callback=self._add_buffer)
        if not trusted:
            self._pickler.sender = self

    def send(self, value: Any, limit: int, *, forced: bool) -> int:
        """Write one value; returns how many bytes it added. Raises `Unsupported` with the reason in words."""
        self._left = self._limit = limit
        self.forced = forced
        try:
            self._pickler.dump(value)
        except Unsupported:
            raise
        except RecursionError as error:
            raise Unsupported("nested too deep") from error
        except Exception as error:  # what a value's own code raises while it is looked at
            raise Unsupported(f"{type(error).__name__}: {error}"[:200]) from error
        return limit - self._left

    def close(self) -> None:
        """Let go of the pickler, which keeps every object that it wrote."""
        del self._pickler

    def write(self, data: bytes) -> None:
        """What the pickler writes into."""
        self.reserve(len(data))
        self._left -= len(data)
        self.parts.append(bytes(data))

    def reserve(self, size: int) -> None:
        if size > self._left:
            raise Unsupported(f"larger than {self._limit:,} bytes")

    def memory(self, view: memoryview, *, writable: bool = True) -> pickle.PickleBuffer:
        return pickle.PickleBuffer(view if writable else view.toreadonly())

    def _add_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """True keeps it in the head."""
        view = buffer.raw()
        if view.nbytes <= _IN_BAND:
            return True
        self.reserve(view.nbytes)
        self._left -= view.nbytes
        self.buffers.append(view)
        return False


class _Pickler(pickle.Pickler):
    """Asks for a reducer wherever a value is not of a builtin type; never writes the name of anything that exists."""

    sender: _Sender

    def reducer_override(self, value: Any) -> Any:
        """The reduction of `value`; raises `Unsupported` where there is none."""
        kind = type(value)
        if kind is types.FunctionType and is_stand_in(value):
            return NotImplemented  # written as its name
        if self.sender.missing and _root(kind) in self.sender.missing:
            raise Unsupported(f"the laptop does not have {_root(kind)}")
        reducer = _known.get(kind) or self._find(kind)
        return reducer(value, self.sender)

    def _find(self, kind: type) -> _Reducer:
        sent = SENT_CLASSES.get(kind)
        if sent is not None:
            return notebook.reducer(kind, sent)
        root = _root(kind)
        library = _LIBRARIES.get(root)
        if library is None or root not in sys.modules:
            raise Unsupported(f"a {kind.__name__}")
        found = library(kind)
        if found is None:
            raise Unsupported(f"a {kind.__name__} of {root}")
        _known[kind] = found
        return found
