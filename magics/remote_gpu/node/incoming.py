"""Builds the values that a notebook sends, among the names of the remote kernel.

The stream is a pickle: who may send it may run code here anyway. The globals of the notebook's functions are the names of this
kernel, and what the stream names as `remote_gpu.codec.standins` is built by `remote_gpu.node.builders`.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from remote_gpu.errors import RemoteGpuError
from remote_gpu.node import cloudpickle
from remote_gpu.node.builders import SENT_CLASSES, Builders

__all__ = ["SENT_CLASSES", "NamesRefused", "load"]

_Buffers = Sequence["memoryview | bytearray | bytes"]
_TEXT = 300


class NamesRefused(RemoteGpuError):
    """Names that cannot be taken in here; `reasons` says why, by name."""

    reason: ClassVar[str] = "names_refused"
    status: ClassVar[int] = 422

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = dict(reasons)


def load(
    head: bytes | bytearray | memoryview,
    buffers: _Buffers,
    names: Sequence[str],
    namespace: dict[str, Any],
    resolve: Callable[[int], object],
) -> dict[str, object]:
    """The values in a parcel by name; binds nothing. `resolve` gives the value of a handle, or raises `KeyError`.

    Arrays lie in the memory of `buffers`, and are writable when that is and theirs was. Raises `NamesRefused` with the reason for each name
    that could not be built: a package that is missing here, a handle that is gone, an error of the value's own.
    """
    unpickler = _Unpickler(head, buffers, namespace, resolve)
    values: dict[str, object] = {}
    refused: dict[str, str] = {}
    for name in names:
        unpickler.missing = []
        try:
            values[name] = unpickler.load()
        except Exception as error:  # noqa: BLE001  a value's own code may raise anything
            refused[name] = "; ".join(unpickler.missing) or _text(error)
            break  # the stream cannot be read on
        if unpickler.missing:
            refused[name] = "; ".join(dict.fromkeys(unpickler.missing))
    if refused:
        raise NamesRefused(refused)
    return values


def _text(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it does not fit into the node's memory"
    if isinstance(error, ModuleNotFoundError):
        return _no_module(error, str(error.name))
    return f"the node cannot build it ({type(error).__name__}: {str(error)[:_TEXT]})"


class _Unpickler(pickle.Unpickler):
    """What is missing is replaced by something harmless and noted, so that all that is missing is known after one reading."""

    def __init__(
        self, head: bytes | bytearray | memoryview, buffers: _Buffers, namespace: dict[str, Any], resolve: Callable[[int], object]
    ) -> None:
        super().__init__(io.BytesIO(head), buffers=buffers)
        self.missing: list[str] = []
        self._namespace = namespace
        self._resolve = resolve
        self._builders = Builders(namespace, self._handle)

    def _handle(self, number: int) -> object:
        try:
            return self._resolve(number)
        except KeyError:
            self.missing.append("the value of its handle is not held any more")
            return None

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that the stream names."""
        if module == "remote_gpu.codec.standins":
            return getattr(self._builders, name)
        if module == "cloudpickle.cloudpickle" and name != "subimport":
            return getattr(cloudpickle, name)
        if module == "cloudpickle.cloudpickle":
            return self._module
        try:
            if module == "__main__":
                return _attribute(self._namespace[name.partition(".")[0]], name.partition(".")[2])
            return super().find_class(module, name)
        except ModuleNotFoundError as error:
            self.missing.append(_no_module(error, module))
        except (AttributeError, KeyError, ImportError) as error:
            self.missing.append(f"needs {module}.{name}, which the node does not have ({type(error).__name__}: {str(error)[:_TEXT]})")
        return _placeholder()

    def _module(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            self.missing.append(_no_module(error, name))
        except Exception as error:  # noqa: BLE001  a module may fail in any way at its import
            self.missing.append(f"importing {name} fails on the node ({type(error).__name__}: {str(error)[:_TEXT]})")
        return _placeholder()


def _no_module(error: ModuleNotFoundError, module: str) -> str:
    package = (error.name or module).partition(".")[0]
    if (error.name or module) != package and importlib.util.find_spec(package) is not None:
        return f"needs the module {error.name or module}, which the node's {package} does not have"
    return f"needs the package {package}, which is not installed on the node"


def _attribute(value: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        value = getattr(value, part)
    return value


def _placeholder() -> type:
    """A class whose instances take whatever a stream does to them."""

    def take(*_: Any, **__: Any) -> None:
        pass

    def make(kind: type, *_: Any, **__: Any) -> Any:
        return object.__new__(kind)

    return type(
        "Missing",
        (),
        {"__new__": make, "__init__": take, **dict.fromkeys(("__setstate__", "append", "extend", "__setitem__", "add"), take)},
    )
