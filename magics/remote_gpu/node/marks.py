"""Marks: whether a cell has changed a value in place, told from a digest of it before and after.

Values that could come back as values are looked at up to a size: containers, arrays, tables, tensors and instances of the
notebook's own classes. So are estimators, modules, optimizers, functions and classes, which stay: of them the user is told.
What cannot be told apart cheaply has no mark, and counts as unchanged.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import types
from collections.abc import Iterable
from typing import Any

__all__ = ["MARKED_BYTES", "mark"]

MARKED_BYTES = 4 * 1024**2
"""Values whose pickle is longer have no mark."""

_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), range, slice, type(Ellipsis)})
_CONTAINERS = frozenset({list, tuple, dict, set, bytearray})
_LIBRARIES = frozenset({"collections", "numpy", "pandas", "sklearn"})


class _TooLong(Exception):
    pass


class _Digest:
    """A file that keeps nothing of what is written to it but a digest."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._left = MARKED_BYTES

    def write(self, data: Any) -> int:
        size = len(data)
        self._left -= size
        if self._left < 0:
            raise _TooLong
        self._hash.update(data)
        return size

    def buffer(self, buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as view:
            self.write(view)
        return False

    @property
    def value(self) -> bytes:
        return self._hash.digest()


def mark(value: object) -> object | None:
    """What compares equal as long as `value` stays as it is now; None for what has no mark."""
    torch = sys.modules.get("torch")
    if isinstance(value, types.FunctionType):
        return _of_function(value, frozenset())
    if isinstance(value, type):
        return _of_class(value)
    if torch is not None and isinstance(value, (torch.Tensor, torch.nn.Module, torch.optim.Optimizer)):
        return _of_torch(value)
    return _digest(value) if _marked(value) else None


def _digest(value: object) -> bytes | None:
    digest = _Digest()
    try:
        pickle.Pickler(digest, 5, buffer_callback=digest.buffer).dump(value)
    except Exception:  # noqa: BLE001  what a user's class raises here is not this cell's business
        return None
    return digest.value


def _of_function(function: types.FunctionType, within: frozenset[int]) -> object | None:
    """What a function of the notebook keeps between its calls: the variables of its closure, defaults and attributes."""
    if function.__module__ != "__main__" or id(function) in within:
        return None
    kept = [each.cell_contents for each in function.__closure__ or () if not _is_empty(each)]
    kept += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
    return _of_parts(kept, within | {id(function)}) if kept else None


def _of_class(kind: type) -> object | None:
    """The data in a class of the notebook."""
    if kind.__module__ != "__main__":
        return None
    kept = {name: each for name, each in vars(kind).items() if not name.startswith("__") and not hasattr(each, "__get__")}
    return (tuple(kept), _of_parts(kept.values(), frozenset())) if kept else None


def _of_parts(parts: Iterable[object], within: frozenset[int]) -> tuple[object, ...]:
    return tuple(
        _of_function(each, within) or id(each) if isinstance(each, types.FunctionType) else _digest(each) or id(each) for each in parts
    )


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _of_torch(value: Any) -> object | None:
    """Large ones, and those on a GPU, by how often their memory was written to, as torch counts it."""
    tensors = list(_tensors(value))
    if all(each.device.type == "cpu" for each in tensors) and sum(each.nbytes for each in tensors) <= MARKED_BYTES // 2:
        return _digest(value)
    written = tuple((id(each), each.data_ptr(), each._version) for each in tensors if not each.is_inference())  # noqa: SLF001  torch's own counter
    return written, getattr(value, "training", None)


def _tensors(value: Any) -> Iterable[Any]:
    if hasattr(value, "param_groups"):
        return [each for group in value.param_groups for each in group["params"]]
    return [*value.parameters(), *value.buffers()] if hasattr(value, "parameters") else [value]


def _marked(value: object) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return False
    if kind in _CONTAINERS:
        return len(value) * 2 <= MARKED_BYTES  # type: ignore[arg-type]
    size = getattr(value, "nbytes", 0)
    if isinstance(size, int) and size > MARKED_BYTES:
        return False
    module = str(kind.__module__)
    return module.partition(".")[0] in _LIBRARIES or (
        module == "__main__" and getattr(sys.modules["__main__"], kind.__name__, None) is kind
    )
