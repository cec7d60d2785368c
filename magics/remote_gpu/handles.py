"""Remote values as local handles: an object that says what it stands for, and does what is asked of it on the node.

A handle stands for exactly one object in one session's kernel. Public attributes, calls, items, length and iteration go there
and come back as values where they can, else as further handles; `fetch` brings the whole object. A name that begins with an
underscore never goes to the node, so that looking at a handle (by a display, a pickler, a debugger) costs nothing.

All that a node says about a handle is text to be shown: it is checked, shortened and escaped here.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from remote_gpu.codec.rebuild.checks import UnsafeValue

__all__ = ["CallableHandle", "Facts", "Handle", "Remote", "facts_of", "make_handle"]

_LONGEST = 200
_BATCH = 64
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


class Remote(Protocol):
    """What a handle needs of its session. All methods may raise `RemoteGpuError`, and what the remote object raises."""

    @property
    def session(self) -> str:
        """What tells the kernel from all others: a handle means something there only."""
        ...

    @property
    def where(self) -> str:
        """The node and session in words, for people."""
        ...

    def call(self, handle_id: int, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do `operation` with the object; returns a value or a `Handle`."""
        ...

    def fetch(self, handle_id: int) -> Any:
        """The object itself; raises `RemoteGpuError` with the reason when it cannot leave the node."""
        ...

    def release(self, handle_id: int) -> None:
        """Note that one handle less exists. Called by the garbage collector, on any thread: it must only take a note."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node says of an object: `size` in bytes, `shape` of an array."""

    id: int
    type: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    device: str | None = None
    size: int | None = None
    text: str = ""
    callable: bool = False

    @property
    def summary(self) -> str:
        """Type, shape, dtype, device and size, as one phrase."""
        sides = None if self.shape is None else f"({', '.join(map(str, self.shape))}{',' if len(self.shape) == 1 else ''})"
        parts = (self.type, sides, self.dtype, self.device and f"on {self.device}", self.size is not None and in_words(self.size))
        return " ".join(part for part in parts if part)


def in_words(size: int) -> str:
    """A number of bytes as people read it."""
    amount, unit = float(size), 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size} bytes"


def facts_of(entry: Mapping[str, Any]) -> Facts:
    """The entry of a handle as the node sent it, checked; raises `UnsafeValue` when it is none."""
    shape = entry.get("shape")
    if shape is not None and (not isinstance(shape, list) or len(shape) > _LONGEST or not all(_whole(side) for side in shape)):
        raise UnsafeValue("The node described a remote object by a shape that is none.")
    if not _whole(entry.get("id")) or not (entry.get("size") is None or _whole(entry.get("size"))):
        raise UnsafeValue("The node described a remote object by a number that is none.")
    return Facts(
        id=entry["id"],
        type=_line(entry.get("type")) or "object",
        shape=None if shape is None else tuple(shape),
        dtype=_line(entry.get("dtype")) or None,
        device=_line(entry.get("device")) or None,
        size=entry.get("size"),
        text=_line(entry.get("text")),
        callable=entry.get("callable") is True,
    )


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < (1 << 63)


def _line(value: object) -> str:
    """`value` as one short line without control characters: it may be printed to a terminal."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnsafeValue("The node described a remote object by something that is no text.")
    return "".join(letter if letter.isprintable() else " " for letter in value[:_LONGEST]).strip()


def make_handle(entry: Mapping[str, Any], remote: Remote) -> Handle:
    """The handle that `entry` describes; raises `UnsafeValue` when the entry is none."""
    facts = facts_of(entry)
    return (CallableHandle if facts.callable else Handle)(facts, remote)


class Handle:
    """A value that lies on a node."""

    __slots__ = ("__weakref__", "_facts", "_remote", "_remote_gpu_handle")

    def __init__(self, facts: Facts, remote: Remote) -> None:
        object.__setattr__(self, "_facts", facts)
        object.__setattr__(self, "_remote", remote)
        object.__setattr__(self, "_remote_gpu_handle", (remote.session, facts.id))

    def fetch(self) -> Any:
        """The whole value, brought here. Raises `RemoteGpuError` with the reason when it is of a kind that cannot leave the node."""
        return self._remote.fetch(self._facts.id)

    def _call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        return self._remote.call(self._facts.id, operation, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"A handle has no attribute {name!r}; names with an underscore are not asked for on the node.")
        return self._call("getattr", name)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            raise AttributeError(f"The attribute {name!r} of a handle cannot be set.")
        self._call("setattr", name, value)

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(f"The attribute {name!r} of a handle cannot be deleted.")
        self._call("delattr", name)

    def __getitem__(self, key: Any) -> Any:
        return self._call("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._call("setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        self._call("delitem", key)

    def __contains__(self, item: object) -> bool:
        return bool(self._call("contains", item))

    def __len__(self) -> int:
        return int(self._call("len"))

    def __bool__(self) -> bool:
        return bool(self._call("bool"))

    def __iter__(self) -> Iterator[Any]:
        """The items, fetched a few at a time."""
        remote = self._call("iter")
        if not isinstance(remote, Handle):
            yield from remote
            return
        while True:
            batch = remote._call("batch", _BATCH)  # noqa: SLF001  a handle of this session
            count = len(batch)
            for index in range(count):
                yield batch[index]
            if count < _BATCH:
                return

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The value as a local numpy array; it is fetched."""
        import numpy as np

        if copy is False:
            raise ValueError("The array lies on a node: it cannot be had without a copy.")
        return np.asarray(self.fetch(), dtype=dtype)

    def __dir__(self) -> list[str]:
        return ["fetch"]

    def __reduce__(self) -> str:
        raise TypeError("A handle is not pickled: it means something only beside its session. Take `.fetch()` of it.")

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be ending, and nobody can hear of it
            self._remote.release(self._facts.id)

    def __repr__(self) -> str:
        return f"<remote {self._facts.summary} in {self._remote.where}{f': {self._facts.text}' if self._facts.text else ''}>"

    def _repr_html_(self) -> str:
        rows = (
            ("type", self._facts.type),
            ("shape", None if self._facts.shape is None else " × ".join(map(str, self._facts.shape)) or "one value"),
            ("dtype", self._facts.dtype),
            ("device", self._facts.device),
            ("size", None if self._facts.size is None else in_words(self._facts.size)),
            ("where", self._remote.where),
        )
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows if value)
        text = f"<pre>{html.escape(self._facts.text)}</pre>" if self._facts.text else ""
        return f"<div><b>Remote value</b><table>{cells}</table>{text}<code>.fetch()</code> brings it here.</div>"


class CallableHandle(Handle):
    """A function, a class or another object on a node that can be called."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it there."""
        return self._call("call", *args, **kwargs)
