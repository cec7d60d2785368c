"""The pickler for what goes to a node: cloudpickle's, for a notebook whose names exist on both sides.

A function of the notebook is rebuilt with the remote notebook's names as its globals, not with copies of those that it uses;
which it uses is collected in `needs`, so that they are sent too. What other modules define goes by name, and `modules` has
their names. Raw memory leaves out of band, so an array is not copied.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudpickle import cloudpickle

from remote_gpu.codec import libraries, notebook_code
from remote_gpu.codec.reasons import CannotCross, describe
from remote_gpu.codec.standins import call

__all__ = ["BufferCallback", "ParcelPickler", "Scope"]

BufferCallback = Callable[[pickle.PickleBuffer], object]
Handler = Callable[["ParcelPickler", Any], Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """What encoding has to know: the notebook's names, whether the node's Python runs the same bytecode, and whose handles it resolves.

    One is for one cell: it remembers what it has seen of the notebook's classes, which do not change meanwhile.
    """

    namespace: dict[str, Any]
    same_python: bool
    session: str
    classes: dict[type, Any] = field(default_factory=dict, compare=False, repr=False)


class ParcelPickler(cloudpickle.Pickler):
    """One parcel. `last` is the object that it is at, for the reason of a failure. With `seal`, the stream is only for comparing."""

    def __init__(self, file: Any, scope: Scope, callback: BufferCallback, *, seal: bool = False) -> None:
        super().__init__(file, protocol=5, buffer_callback=callback)
        self.dispatch_table = _dispatch_table()
        self.scope = scope
        self.seal = seal
        self.needs: set[str] = set()
        self.modules: set[str] = set()
        self.last: object = None
        self._large: dict[int, _Large] = {}
        self.whole = False
        """Whether `seal` takes the parts of classes, and not what stands for them."""
        self.sealed_size = 0
        """Bytes of arrays that were compared and not written."""
        self.objects: set[int] = set()
        """Ids of the tensors and of the instances of notebook classes in it: what other values may share, and be changed through."""
        self.cells: set[int] = set()
        """Ids of cells that a function in the parcel fills."""

    def dump(self, obj: Any) -> None:
        """Write one value. Raises whatever its parts raise."""
        if obj is self.scope.namespace:
            obj = _NAMES
        elif type(obj) in (bytes, bytearray) and len(obj) >= _LARGE:
            obj = self._large.setdefault(id(obj), _Large(obj))
        super().dump(obj)

    def reducer_override(self, obj: Any) -> Any:
        """How `obj` is taken apart; the C pickler asks for all but the simplest builtins."""
        self.last = obj
        kind = type(obj)
        handler = _HANDLERS.get(kind, _UNKNOWN)
        if handler is _UNKNOWN:
            handler = _find_handler(kind, obj)
        if kind.__module__ in _SHARED and kind.__name__ not in _UNSHARED:
            self.objects.add(id(obj))
        return NotImplemented if handler is None else handler(self, obj)

    def by_name(self, obj: Any) -> Any:
        """Send `obj` by the name that its module gives it."""
        module = getattr(obj, "__module__", None)
        if isinstance(module, str) and module not in _OURS:
            self.modules.add(module)
        return NotImplemented

    def plain_class(self, obj: type) -> Any:
        """Cloudpickle's own way for a class."""
        return cloudpickle._class_reduce(obj)

    def plain_function(self, obj: types.FunctionType) -> Any:
        """Cloudpickle's own way for a function that belongs to no module: with copies of the globals that it uses."""
        return super()._dynamic_function_reduce(obj)


class _Names:
    """Stands for the notebook's names as a value (``names = globals()``): over there they are those over there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return call["main_names"], ()


_NAMES = _Names()
_LARGE = 64 * 1024
_REMEMBERED = 10_000


class _Large:
    """Bytes of the notebook's own: their memory goes beside the stream, not through it. Keeps the object, so that its id stays its own."""

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return call["memory"], (pickle.PickleBuffer(self._value), isinstance(self._value, bytes))


_SHARED = frozenset({"__main__", "torch", "torch.nn.parameter"})
_UNSHARED = frozenset({"device", "dtype", "Size", "layout", "memory_format", "finfo", "iinfo", "Generator"})
"""Of torch: values that are compared, not changed."""

_PLACELESS = "<dynamic-code>"  # what cloudpickle since 3.1.3 puts in the place of a file's name, which tracebacks need
_OURS = frozenset({"builtins", "cloudpickle.cloudpickle", "remote_gpu.codec.standins"})
_UNKNOWN: Any = object()
_tables: tuple[int, dict[type, Any]] = (-1, {})


def _dispatch_table() -> Mapping[type, Any]:
    """Cloudpickle's table and copyreg's in one dict: its own chain of two costs a microsecond an object."""
    global _tables  # noqa: PLW0603  a cache
    if _tables[0] != len(copyreg.dispatch_table):
        _tables = (len(copyreg.dispatch_table), {**copyreg.dispatch_table, **cloudpickle.Pickler._dispatch_table})
    return _tables[1]


def _find_handler(kind: type, obj: Any) -> Handler | None:
    handler: Handler | None
    try:
        is_class = issubclass(kind, type)
    except TypeError:
        is_class = False
    if is_class:
        handler = notebook_code.reduce_class
    elif hasattr(kind, "_remote_gpu_handle"):
        handler = _handle
    elif describe(obj) is not None:
        handler = _refuse
    else:
        handler = libraries.handler(kind)
    if kind.__module__ != "__main__" and not is_class and len(_HANDLERS) < _REMEMBERED:
        _HANDLERS[kind] = handler
    return handler


def _refuse(_: ParcelPickler, obj: Any) -> Any:
    for name in ("stdout", "stderr", "stdin"):
        if obj is getattr(sys, name) or obj is getattr(sys, f"__{name}__"):
            return call["stream"], (name,)
    text = describe(obj)
    if text is None:
        return NotImplemented
    raise CannotCross(text, culprit=obj)


def _handle(pickler: ParcelPickler, obj: Any) -> Any:
    session, number = obj._remote_gpu_handle
    if session != pickler.scope.session:
        raise CannotCross(
            "a handle of a value in another session, or in a kernel that is gone; fetch it first, or run the cell that made it", culprit=obj
        )
    return call["handle"], (number,)


def _module(pickler: ParcelPickler, obj: types.ModuleType) -> Any:
    if obj.__dict__ is pickler.scope.namespace:
        return call["main_module"], ()
    if sys.modules.get(obj.__name__) is obj:
        pickler.modules.add(obj.__name__)
    return NotImplemented


def _code(pickler: ParcelPickler, obj: types.CodeType) -> Any:
    if not pickler.scope.same_python:
        raise CannotCross("compiled code, and the node has another version of Python", culprit=obj)
    kind, values = cloudpickle._code_reduce(obj)
    return kind, tuple(obj.co_filename if value == _PLACELESS else value for value in values)


def _lru_cache(pickler: ParcelPickler, obj: Any) -> Any:
    if obj.__module__ != "__main__" and cloudpickle._lookup_module_and_qualname(obj) is not None:
        return pickler.by_name(obj)
    wrapped = obj.__wrapped__
    parameters = obj.cache_parameters()
    extra = {key: value for key, value in vars(obj).items() if key not in ("__wrapped__", "cache_parameters")}
    return call["lru_cache"], (wrapped, parameters["maxsize"], parameters["typed"]), extra


def _cached_property(_: ParcelPickler, obj: Any) -> Any:
    return call["cached_property"], (obj.func, obj.attrname)


def _weak_keys(_: ParcelPickler, obj: Any) -> Any:
    return call["weak_keys"], (list(obj.items()),)


def _weak_values(_: ParcelPickler, obj: Any) -> Any:
    return call["weak_values"], (list(obj.items()),)


def _weak_reference(pickler: ParcelPickler, obj: Any) -> Any:
    target = obj()
    return _refuse(pickler, obj) if target is None else (weakref.ref, (target,))


_HANDLERS: dict[type, Handler | None] = {
    types.FunctionType: notebook_code.reduce_function,
    types.CellType: notebook_code.reduce_cell,
    types.ModuleType: _module,
    types.CodeType: _code,
    types.BuiltinFunctionType: ParcelPickler.by_name,
    type: notebook_code.reduce_class,
    functools._lru_cache_wrapper: _lru_cache,
    functools.cached_property: _cached_property,
    weakref.WeakKeyDictionary: _weak_keys,
    weakref.WeakValueDictionary: _weak_values,
    weakref.ReferenceType: _weak_reference,
}
"""By exact type; types of the notebook itself are not kept here, as they come and go."""
