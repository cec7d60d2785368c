"""Takes functions and classes of the notebook apart, so that the node can rebuild them among its own names."""

from __future__ import annotations

import dis
import enum
import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle

from remote_gpu.codec.portable import is_named_tuple, named_tuple, portable
from remote_gpu.codec.reasons import CannotCross
from remote_gpu.codec.sealed import sealed_class
from remote_gpu.codec.sources import function_source
from remote_gpu.codec.standins import call
from remote_gpu.modules.imports import imports_in

if TYPE_CHECKING:
    from remote_gpu.codec.pickler import ParcelPickler

__all__ = ["global_names", "reduce_cell", "reduce_class", "reduce_function"]

_GLOBAL = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


@functools.lru_cache(maxsize=4096)
def _names_of(code: types.CodeType) -> frozenset[str]:
    found = {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in _GLOBAL}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names_of(constant)
    return frozenset(found)


def global_names(code: types.CodeType) -> frozenset[str]:
    """The global names that `code` may read, bind or delete, those of functions and classes inside it included."""
    return _names_of(code)


def _attribute_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _attribute_names(constant)


def _submodules(code: types.CodeType, values: Iterable[Any]) -> list[types.ModuleType]:
    """Modules that `code` reaches as ``package.module``, and that are imported here: importing the package is not enough there."""
    packages = [value for value in values if isinstance(value, types.ModuleType) and hasattr(value, "__path__")]
    found: list[types.ModuleType] = []
    names = list(dict.fromkeys(_attribute_names(code))) if packages else []
    for package in packages:
        for name in names:
            module = sys.modules.get(f"{package.__name__}.{name}")
            if module is not None:
                found.append(module)
                if hasattr(module, "__path__"):
                    packages.append(module)  # read on: the list grows as it is read
    return list(dict.fromkeys(found))


def reduce_cell(pickler: ParcelPickler, cell: types.CellType) -> Any:
    """A variable of a closure; filled by the function that it belongs to, or here when it comes alone."""
    if id(cell) in pickler.cells:
        return call["cell"], ()
    return call["cell"], (), _content(cell), None, None, call["set_cell"]


def _content(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def reduce_function(pickler: ParcelPickler, function: types.FunctionType) -> Any:
    """A function: by name where a module has it, else its code, and where its globals are over there."""
    if cloudpickle._should_pickle_by_reference(function):
        return pickler.by_name(function)
    place = _place(pickler, function)
    if place is None:
        if not pickler.scope.same_python:
            raise CannotCross(
                f"a function ({function.__qualname__}) whose text is not known, and the node has another version of Python",
                culprit=function,
            )
        return pickler.plain_function(function)
    _need_itself(pickler, function)
    code, cells = function.__code__, function.__closure__ or ()
    if place:
        pickler.modules.add(place)
    pickler.cells.update(map(id, cells))
    arguments = (_code(pickler, function), place, cells)
    return call["function"], arguments, _function_state(pickler, function, code, cells), None, None, call["set_function"]


def _place(pickler: ParcelPickler, function: types.FunctionType) -> str | None:
    """The module whose names the function uses: "" for the notebook, None for no module at all."""
    names = function.__globals__
    if names is pickler.scope.namespace:
        return ""
    module = names.get("__name__")
    found = sys.modules.get(module) if isinstance(module, str) and module != "__main__" else None
    return module if found is not None and vars(found) is names else None


def _function_state(pickler: ParcelPickler, function: types.FunctionType, code: types.CodeType, cells: tuple[types.CellType, ...]) -> Any:
    contents = [_content(cell) for cell in cells]
    names = global_names(code)
    pickler.modules |= imports_in(code)
    space = function.__globals__
    if space is pickler.scope.namespace:
        pickler.needs.update(name for name in names if name in space and not _is_modules_own(name))
    used = [space[name] for name in names if name in space]
    own = {
        "__name__": function.__name__,
        "__qualname__": function.__qualname__,
        "__annotations__": _annotations(function),
        "__kwdefaults__": function.__kwdefaults__,
        "__defaults__": function.__defaults__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
    }
    parameters = getattr(function, "__type_params__", ())
    if parameters:
        own["__type_params__"] = parameters
    modules = _submodules(code, [*used, *(each[0] for each in contents if each)])
    return dict(function.__dict__), own, list(zip(cells, contents, strict=True)), modules


def _is_modules_own(name: str) -> bool:
    """Whether it is a name such as ``__name__``, which the notebook over there has too."""
    return name.startswith("__") and name.endswith("__")


def _annotations(function: types.FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except Exception:  # noqa: BLE001  from Python 3.14 they are evaluated here, and may name what does not exist
        return {}


def _code(pickler: ParcelPickler, function: types.FunctionType) -> Any:
    return function.__code__ if pickler.scope.same_python else function_source(function)


def reduce_class(pickler: ParcelPickler, kind: type) -> Any:
    """A class: by name where a module has it, else its parts."""
    if kind in cloudpickle._BUILTIN_TYPE_NAMES or kind in (type(None), type(Ellipsis), type(NotImplemented)):
        return pickler.plain_class(kind)
    if cloudpickle._should_pickle_by_reference(kind):
        return pickler.by_name(kind)
    if pickler.seal and not pickler.whole:
        return sealed_class(pickler, kind)
    pickler.last = kind
    return _class_parts(pickler, kind)


def _need_itself(pickler: ParcelPickler, defined: Any) -> None:
    """Have the name of a function or class of the notebook there too: what is pickled over there is looked up by it."""
    first, *rest = defined.__qualname__.split(".")
    found = pickler.scope.namespace.get(first)
    for part in rest:
        found = vars(found).get(part) if isinstance(found, type) else None
    if found is defined:
        pickler.needs.add(first)


def _class_parts(pickler: ParcelPickler, kind: type) -> Any:
    _need_itself(pickler, kind)
    if is_named_tuple(kind):
        made, others = named_tuple(kind)
        tracker = cloudpickle._get_or_create_tracker_id(kind)
        return call["named_tuple"], (*made, tracker), ((others, {}), kind.__qualname__), None, None, call["set_class"]
    _, arguments, state, _, _, _ = cloudpickle._dynamic_class_reduce(kind)
    state[0].pop("__slotnames__", None)  # copyreg notes them in the class when it first pickles an instance
    if not pickler.scope.same_python:
        state = portable(kind, state)
    if issubclass(kind, enum.Enum):
        return call["enum"], arguments, (state, kind.__qualname__), None, None, call["set_class"]
    meta, name, bases, keywords, tracker, _ = arguments
    slots = kind.__dict__.get("__slots__")
    if slots is not None:
        keywords = {**keywords, "__slots__": slots}
    return call["make_class"], (meta, name, bases, keywords, tracker), (state, kind.__qualname__), None, None, call["set_class"]
