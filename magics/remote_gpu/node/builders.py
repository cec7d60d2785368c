"""The functions that a stream from a notebook calls, by the names in `remote_gpu.codec.standins`."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from remote_gpu.node import cloudpickle
from remote_gpu.node.sources import compiled

__all__ = ["SENT_CLASSES", "Builders"]

SENT_CLASSES: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
"""The notebook's classes that are here, with the qualified name under which each was sent ("Model", "Outer.Inner")."""

_attributes: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()
_Resolve = Callable[[int], object]


class Builders:
    """Those of one parcel: `namespace` is the remote notebook's, `resolve` gives the value of a handle."""

    def __init__(self, namespace: dict[str, Any], resolve: _Resolve) -> None:
        self._namespace = namespace
        self.handle = resolve

    # code

    def main_module(self) -> Any:
        """The module of the notebook."""
        return sys.modules["__main__"]

    def main_names(self) -> dict[str, Any]:
        """The notebook's names themselves, which are its ``globals()``."""
        return self._namespace

    def function(self, code: types.CodeType, place: str, cells: Sequence[types.CellType]) -> types.FunctionType:
        """A function without its attributes; its globals are the notebook's, or those of the module `place`."""
        names = vars(importlib.import_module(place)) if place else self._namespace
        return types.FunctionType(code, names, None, None, tuple(cells) or None)

    @staticmethod
    def set_function(function: types.FunctionType, state: Any) -> None:
        """Give a function its attributes and its closure's variables their values."""
        attributes, own, cells, _ = state
        function.__dict__.update(attributes)
        for name, value in own.items():
            setattr(function, name, value)
        for cell, content in cells:
            if content:
                cell.cell_contents = content[0]

    code = staticmethod(compiled)

    @staticmethod
    def cell() -> types.CellType:
        """A variable of a closure, without a value."""
        return types.CellType()

    @staticmethod
    def set_cell(cell: types.CellType, content: tuple[Any, ...]) -> None:
        """Give it one."""
        if content:
            cell.cell_contents = content[0]

    @staticmethod
    def make_class(meta: type, name: str, bases: tuple[Any, ...], keywords: dict[str, Any], tracker: str) -> type:
        """The class that is known under `tracker`, or a new one without its attributes.

        It is made without running the notebook's own metaclass or ``__init_subclass__``: they have run, in the notebook.
        """
        known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)
        if isinstance(known, type):
            return known
        maker = next(each for each in meta.__mro__ if each.__module__ != "__main__")
        resolved = types.resolve_bases(bases)
        content = dict(keywords) if resolved is bases else {**keywords, "__orig_bases__": bases}
        with _quiet(resolved):
            made: Any = maker.__new__(meta, name, resolved, content)
        found: type = cloudpickle._lookup_class_or_track(tracker, made)
        return found

    @staticmethod
    def enum(*arguments: Any) -> type:
        """An enumeration with its members."""
        found: type = cloudpickle._make_skeleton_enum(*arguments)
        return found

    @staticmethod
    def named_tuple(name: str, fields: tuple[str, ...], defaults: tuple[Any, ...], module: str, tracker: str) -> type:
        """A named tuple's class."""
        known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)
        if isinstance(known, type):
            return known
        made: type = collections.namedtuple(name, fields, defaults=defaults, module=module)  # type: ignore[misc]  # noqa: PYI024
        found: type = cloudpickle._lookup_class_or_track(tracker, made)
        return found

    @staticmethod
    def set_class(kind: type, state: Any) -> None:
        """Give a class its attributes; those that it had by an earlier sending, and has no more, go."""
        inner, qualname = state
        names = frozenset(inner[0])
        for name in _attributes.get(kind, frozenset()) - names - {"__module__", "__doc__"}:
            if name in kind.__dict__:
                delattr(kind, name)
        again = inner[0].get("__dataclass_params__")
        if isinstance(again, tuple):
            del inner[0]["__dataclass_params__"]
        cloudpickle._class_setstate(kind, inner)
        if isinstance(again, tuple):
            _dataclass_again(kind, *again)
        kind.__qualname__ = qualname
        _attributes[kind] = names
        SENT_CLASSES[kind] = qualname

    @staticmethod
    def lru_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
        """A function with an empty cache."""
        return functools.lru_cache(maxsize, typed)(function)

    @staticmethod
    def cached_property(function: Any, name: str | None) -> Any:
        """A cached property of a class."""
        made: Any = functools.cached_property(function)
        made.attrname = name
        return made

    @staticmethod
    def weak_keys(items: list[tuple[Any, Any]]) -> Any:
        """A dictionary that does not keep its keys."""
        return weakref.WeakKeyDictionary(items)

    @staticmethod
    def weak_values(items: list[tuple[Any, Any]]) -> Any:
        """A dictionary that does not keep its values."""
        return weakref.WeakValueDictionary(items)

    @staticmethod
    def stream(name: str) -> Any:
        """This process's standard stream."""
        return getattr(sys, name)

    # memory

    @staticmethod
    def memory(memory: Any, fixed: bool) -> bytes | bytearray:
        """Bytes (`fixed`), or a bytearray."""
        kind = bytes if fixed else bytearray
        return memory if type(memory) is kind else kind(memory)

    @staticmethod
    def array(memory: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
        """An array over `memory`; writable when that is."""
        import numpy as np

        return np.ndarray(shape, np.dtype(dtype), memory if len(memory) else None, order=order)

    @staticmethod
    def transposed(dense: Any, axes: tuple[int, ...]) -> Any:
        """An array whose axes lie in memory in another order."""
        return dense.transpose(axes)

    @staticmethod
    def broadcast(narrow: Any, shape: tuple[int, ...]) -> Any:
        """An array with repeated axes; read-only, as it was."""
        import numpy as np

        return np.broadcast_to(narrow, shape)

    @staticmethod
    def masked(data: Any, mask: Any, fill: Any, hard: bool) -> Any:
        """A masked array."""
        import numpy as np

        made: Any = np.ma.MaskedArray(data, np.ma.nomask if mask is None else mask, fill_value=fill, hard_mask=hard)
        if fill is None:
            made._fill_value = None
        return made

    @staticmethod
    def tensor(memory: Any, about: dict[str, Any], extra: tuple[Any, dict[str, Any]] | None) -> Any:
        """A torch tensor over `memory`, on its device where there is one."""
        import torch

        dtype = getattr(torch, about["dtype"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # memory that may not be written to: it was so in the notebook
            flat = torch.frombuffer(memory, dtype=dtype) if len(memory) else torch.empty(0, dtype=dtype)
        made = _on_device(flat.reshape(about["shape"]).permute(about["back"]), about["device"])
        made = torch.nn.Parameter(made, about["requires_grad"]) if about["parameter"] else made.requires_grad_(about["requires_grad"])
        if extra is not None:
            made.grad = extra[0]
            made.__dict__.update(extra[1])
        return made

    @staticmethod
    def jax_array(array: Any, dtype: str, weak: bool) -> Any:
        """A jax array on the default device."""
        import jax

        if weak and not array.ndim:
            return jax.numpy.asarray(array.item())  # of a plain number the type is weak; jax has no public way for others
        return jax.numpy.asarray(array, dtype=dtype)

    @staticmethod
    def polars_frame(table: Any) -> Any:
        """A polars frame over Arrow memory."""
        import polars as pl

        return pl.from_arrow(table)


def _dataclass_again(kind: Any, options: dict[str, Any], fields: dict[str, dict[str, Any]]) -> None:
    """Have this Python generate the methods of a dataclass that came from another version."""
    slots = {name: vars(kind)[name] for name in vars(kind).get("__slots__", ()) if name in fields}
    for name, about in fields.items():
        setattr(kind, name, dataclasses.field(**about))
    dataclasses.dataclass(**options)(kind)
    for name, slot in slots.items():
        setattr(kind, name, slot)


@contextlib.contextmanager
def _quiet(bases: tuple[Any, ...]) -> Iterator[None]:
    """While it lasts, the notebook's own classes among `bases` are not told of a new subclass."""
    told = {kind for base in bases for kind in base.__mro__ if kind.__module__ == "__main__" and "__init_subclass__" in vars(kind)}
    before = {kind: vars(kind)["__init_subclass__"] for kind in told}
    try:
        for kind in told:
            kind.__init_subclass__ = classmethod(lambda _, **__: None)
        yield
    finally:
        for kind, method in before.items():
            kind.__init_subclass__ = method


def _on_device(tensor: Any, device: str) -> Any:
    if device == "cpu":
        return tensor
    try:
        return tensor.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"A tensor that was on {device} is on the CPU here: {why}", stacklevel=2)
        return tensor
