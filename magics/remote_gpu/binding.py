"""Binds in the notebook what a remote cell says of its names: values, handles, modules, changes in place, deletions."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remote_gpu.capture.analysis import Import
from remote_gpu.codec.decode import UnsafeValue, decode, decode_trusted
from remote_gpu.handles import facts_of
from remote_gpu.messages import Message
from remote_gpu.summary import Summary

__all__ = ["Binder", "NotebookClasses"]

_LONGEST_TYPE = 60


class NotebookClasses(Mapping[str, type]):
    """The classes that the notebook itself defined, by the name that they are sent under (`Model`, `Outer.Inner`)."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def __getitem__(self, name: str) -> type:
        first, *rest = name.split(".")
        found = self._namespace[first]
        for part in rest:
            found = vars(found)[part] if isinstance(found, type) else None
        if not isinstance(found, type) or found.__module__ != "__main__":
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in self._namespace.items() if isinstance(value, type) and value.__module__ == "__main__")

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Binder:
    """Of one cell. `handle` makes a local handle of an entry, `fetch` brings a held value; `imports` are the cell's own."""

    def __init__(
        self,
        namespace: dict[str, Any],
        *,
        classes: Mapping[str, type],
        handle: Callable[[Mapping[str, Any]], Any],
        fetch: Callable[[int], Any],
        imports: Mapping[str, Import],
        trusted: bool,
        may_bind: Callable[[str], bool] = str.isidentifier,
    ) -> None:
        self._namespace = namespace
        self._classes = classes
        self._handle = handle
        self._fetch = fetch
        self._imports = imports
        self._trusted = trusted
        self._may_bind = may_bind

    def values(self, message: Message) -> dict[str, Any]:
        """The values in `message`, decoded. Raises `UnsafeValue`."""
        content = message.content
        try:
            names = [name for name, entry in content["entries"].items() if entry.get("kind") == "value"]
            if not names:
                return {}
            parts = [message.buffers[int(ref["inline"])] for ref in (content["head"], *content["buffers"])]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UnsafeValue("What the node says of the cell's names cannot be read.") from error
        if self._trusted:
            return decode_trusted(parts[0], parts[1:], names)
        return decode(parts[0], parts[1:], names, self._classes)

    def bind(self, message: Message, summary: Summary) -> list[str]:
        """Bind all names of `message`; returns those that both sides now agree on, or that are newer there."""
        values = self.values(message)
        entries: Mapping[str, Mapping[str, Any]] = message.content["entries"]
        said = message.content.get("changed")
        changed = {name for name in said if isinstance(name, str)} if isinstance(said, list) else set()
        settled = []
        for name, entry in entries.items():
            if not name.isidentifier() or not self._may_bind(name):
                continue
            done = self._one(name, entry, values, summary, changed=name in changed)
            if done:
                settled.append(name)
        torn = sorted(name for name in settled if name in changed and name in self._namespace and entries[name].get("kind") == "kept")
        if torn:
            summary.notes.append(f"{', '.join(torn)} changed there before the cell failed (%remote_gpu pull {','.join(torn)})")
        return settled

    def _one(self, name: str, entry: Mapping[str, Any], values: Mapping[str, Any], summary: Summary, *, changed: bool) -> bool:
        kind = entry.get("kind")
        if kind == "handle":
            facts_of(entry)
        if kind == "value":
            self._value(name, values[name], changed=changed)
            summary.back.append(name)
        elif kind == "handle" and entry.get("fetch"):
            self._value(name, self._fetch(int(entry["id"])), changed=changed)
            summary.back.append(name)
        elif kind == "handle":
            handle = self._handle(entry)
            if changed:  # a name that the cell did not bind keeps its value here; the handle is let go of
                summary.notes.append(f"{name} was changed there (%remote_gpu pull {name})")
                return True
            self._namespace[name] = handle
            summary.handles[name] = str(entry.get("type", "")).rpartition(".")[2][:_LONGEST_TYPE]
        elif kind == "gone":
            self._namespace.pop(name, None)
        elif kind == "module":
            self._module(name, summary)
        elif kind == "kept" and entry.get("reason") != "the cell failed":
            summary.notes.append(f"{name} stays there: {str(entry.get('reason', ''))[:200]}")
        return True

    def _value(self, name: str, value: Any, *, changed: bool) -> None:
        if not (changed and updated_in_place(self._namespace.get(name), value)):
            self._namespace[name] = value

    def _module(self, name: str, summary: Summary) -> None:
        """Import here what the cell's own text imports there; a module that the node names is not imported."""
        wanted = self._imports.get(name)
        if wanted is None:
            return
        try:
            with _silently():
                found: Any = importlib.import_module(wanted.module)
            self._namespace[name] = getattr(found, wanted.name) if wanted.name else _bound(found, wanted)
        except Exception as error:  # noqa: BLE001  a module may fail in any way at its import
            summary.notes.append(f"{name} is not available here ({type(error).__name__}: {str(error)[:100]})")


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Nothing is printed meanwhile, and nobody warned: what a module says at its import, the remote one has said already."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _bound(module: Any, wanted: Import) -> Any:
    """``import a.b`` binds ``a``, ``import a.b as c`` binds ``a.b``."""
    top = wanted.module.partition(".")[0]
    return sys.modules[top] if wanted.bound == top else module


def updated_in_place(local: Any, new: Any) -> bool:
    """Give `local` the content of `new`, as the cell would have done here; False when it can only be replaced."""
    if type(local) is not type(new):
        return False
    if isinstance(local, (list, bytearray)):
        local[:] = new
    elif isinstance(local, (dict, set)):
        local.clear()
        local.update(new)
    elif type(local).__module__ == "numpy" and type(local).__name__ == "ndarray":
        if local.shape != new.shape or local.dtype != new.dtype or not local.flags.writeable:
            return False
        local[...] = new
    elif type(local).__module__ == "collections" and type(local).__name__ == "deque":
        if local.maxlen != new.maxlen:
            return False
        local.clear()
        local.extend(new)
    elif type(local).__module__.partition(".")[0] == "pandas" and hasattr(local, "_update_inplace"):
        local._update_inplace(new)  # noqa: SLF001  pandas' own way to change a table in place
        local.__finalize__(new)  # its name and attributes
    elif type(local).__module__ == "torch" and type(local).__name__ == "Tensor":
        if local.shape != new.shape or local.dtype != new.dtype or local.requires_grad or local.device != new.device:
            return False
        local.copy_(new)
    elif type(local).__module__ == "__main__" and hasattr(local, "__dict__"):
        vars(local).clear()
        vars(local).update(vars(new))
    else:
        return False
    return True
