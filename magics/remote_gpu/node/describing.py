"""What a value is, in a few facts that a person reads: type, shape, dtype, device, size and a short text. Quick and bounded."""

from __future__ import annotations

import contextlib
import inspect
import math
import reprlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["facts"]

_LONGEST = 200  # characters of the text
_TIME = 0.1  # seconds that a value's own repr may take
_FEW = 12  # items of an array that are shown

_ARRAYS = frozenset({"numpy", "torch", "jax", "jaxlib", "cupy", "pandas", "polars", "scipy", "tensorflow", "pyarrow"})
_SIZED = (str, bytes, bytearray, int, float, complex, bool, type(None))


class _Slow(BaseException):
    """A repr took too long. Not an Exception: nobody on the way out may take it for the value's own."""


class _Repr(reprlib.Repr):
    """repr of containers without going through all that they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _LONGEST
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 8


def facts(value: Any) -> dict[str, Any]:
    """``type``, ``shape`` (list or None), ``dtype``, ``device``, ``size`` (bytes or None), ``text`` (at most 200 characters), ``callable``."""
    kind = type(value)
    found: dict[str, Any] = {
        "type": _type_name(kind),
        "shape": None,
        "dtype": None,
        "device": None,
        "size": sys.getsizeof(value) if kind in _SIZED else None,
        "text": "",
        "callable": callable(value),
    }
    with contextlib.suppress(Exception):  # a fact that cannot be had is left out
        found.update(_special(value, kind))
    if not found["text"]:
        found["text"] = _text(value, kind)
    found["text"] = " ".join(str(found["text"]).split())[:_LONGEST]
    return found


def _type_name(kind: type) -> str:
    module = str(getattr(kind, "__module__", ""))
    name = str(getattr(kind, "__qualname__", kind.__name__))
    return (name if module in ("builtins", "__main__") else f"{module}.{name}")[:_LONGEST]


def _root(kind: type) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _special(value: Any, kind: type) -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.nn.Module):
        return _module(value)
    if any(_root(base) in _ARRAYS for base in kind.__mro__) and hasattr(value, "shape"):
        return _array(value, kind)
    if inspect.isfunction(value) or inspect.isclass(value):
        return {"text": _signature(value)}
    return {}


def _array(value: Any, kind: type) -> dict[str, Any]:
    shape = [int(side) for side in value.shape]
    dtype = getattr(value, "dtype", None)
    device = getattr(value, "device", None)
    found = {"shape": shape, "dtype": None if dtype is None else str(dtype), "size": _bytes(value)}
    if device is not None and not callable(device):
        found["device"] = str(device)
    count = math.prod(shape)
    if count > _FEW or found.get("device") not in (None, "cpu"):
        found["text"] = f"{kind.__name__} of {' × '.join(map(str, shape)) or 'one'}" + (f", {dtype}" if dtype is not None else "")
    return found


def _bytes(value: Any) -> int | None:
    if hasattr(value, "memory_usage"):  # pandas
        usage = value.memory_usage()
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    if hasattr(value, "estimated_size"):  # polars
        return int(value.estimated_size())
    if hasattr(value, "element_size"):  # torch
        return int(value.element_size() * value.numel())
    size = getattr(value, "nbytes", None)
    return int(size) if size is not None else None


def _module(value: Any) -> dict[str, Any]:
    """A network of torch: how many parameters it has, and where they lie."""
    parameters = list(value.parameters())
    tensors = [*parameters, *value.buffers()]
    devices = sorted({str(each.device) for each in tensors})
    count = sum(each.numel() for each in parameters)
    where = ", ".join(devices)
    return {
        "device": where or None,
        "size": sum(each.numel() * each.element_size() for each in tensors),
        "text": f"{type(value).__name__} with {count:,} parameters" + (f" on {where}" if where else ""),
    }


def _signature(value: Any) -> str:
    kind = "class " if inspect.isclass(value) else ""
    try:
        return f"{kind}{value.__qualname__}{inspect.signature(value)}"
    except (ValueError, TypeError):
        return f"{kind}{value.__qualname__}"


def _text(value: Any, kind: type) -> str:
    if threading.current_thread() is not threading.main_thread() and type(value).__module__ != "builtins":
        return f"{kind.__name__} object"  # its repr is its own code, which could run into the cell's
    try:
        with _limited():
            return _Repr().repr(value)
    except _Slow:
        return f"{kind.__name__} object; its repr takes long"
    except Exception as error:  # noqa: BLE001  a repr is the value's own code
        return f"{kind.__name__} object; its repr raised {type(error).__name__}"


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """End the body by `_Slow` after a moment, where nobody else uses the alarm."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
        or any(signal.getitimer(signal.ITIMER_REAL))
    ):
        yield
        return

    def ring(_number: int, _frame: object) -> None:
        raise _Slow

    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, _TIME)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
