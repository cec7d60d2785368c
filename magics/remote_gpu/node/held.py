"""What stays on the node for the laptop's handles: a table of objects by number, and what can be done with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from remote_gpu.errors import UsageProblem
from remote_gpu.node.describing import facts

__all__ = ["Held", "HandleGone"]


class HandleGone(UsageProblem, KeyError):
    """The object behind a handle is not held any more."""


class _Kept:
    """An object and how many handles it has."""

    __slots__ = ("count", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.count = 0


class Held:
    """The handles of one kernel. An object has one number, as long as any handle of it lives."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._numbers: dict[int, int] = {}  # by id(), which is unique while the table keeps the object
        self._next = itertools.count(1)

    def __len__(self) -> int:
        """How many objects are held."""
        return len(self._kept)

    def keep(self, value: Any) -> int:
        """The number of `value`, for one more handle."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = next(self._next)
            self._kept[number] = _Kept(value)
        self._kept[number].count += 1
        return number

    def drop(self, numbers: Iterable[int]) -> None:
        """One handle less for each of `numbers`; unknown ones are ignored."""
        for number in numbers:
            kept = self._kept.get(number)
            if kept is None:
                continue
            kept.count -= 1
            if kept.count <= 0:
                del self._kept[number], self._numbers[id(kept.value)]

    def resolve(self, number: int) -> Any:
        """The object behind a handle; raises `HandleGone` when it is gone, as after a restart of the kernel."""
        kept = self._kept.get(number)
        if kept is None:
            raise HandleGone(f"The node no longer has the object of handle {number}.", hint="Run the cell that made it again.")
        return kept.value

    def describe(self, value: Any) -> dict[str, Any]:
        """What `value` is, as JSON; see `remote_gpu.node.describing.facts`."""
        return facts(value)

    def entry(self, value: Any) -> dict[str, Any]:
        """The entry that makes a handle of `value` on the laptop."""
        return {"kind": "handle", "id": self.keep(value), **facts(value)}

    def operate(self, number: int, operation: str, arguments: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None) -> Any:
        """Do `operation` with the object: a key of `OPERATIONS`. Raises what the object raises."""
        done = OPERATIONS.get(operation)
        if done is None:
            raise UsageProblem(f"This node does not know the operation {operation!r} on a handle.")
        return done(self.resolve(number), *arguments, **(keywords or {}))


def _public(name: Any) -> str:
    if not isinstance(name, str) or name.startswith("_"):
        raise AttributeError(f"{name!r} is not reached through a handle")
    return name


def _batch(iterator: Any, count: int) -> list[Any]:
    return list(itertools.islice(iterator, count))


def _set_item(value: Any, key: Any, item: Any) -> None:
    value[key] = item


def _delete_item(value: Any, key: Any) -> None:
    del value[key]


def _call(value: Any, *arguments: Any, **keywords: Any) -> Any:
    return value(*arguments, **keywords)


def _method(value: Any, name: str, *arguments: Any, **keywords: Any) -> Any:
    return getattr(value, _public(name))(*arguments, **keywords)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": _call,
    "method": _method,
    "getattr": lambda value, name: getattr(value, _public(name)),
    "setattr": lambda value, name, item: setattr(value, _public(name), item),
    "delattr": lambda value, name: delattr(value, _public(name)),
    "getitem": lambda value, key: value[key],
    "setitem": _set_item,
    "delitem": _delete_item,
    "contains": lambda value, item: item in value,
    "len": len,
    "bool": bool,
    "iter": iter,
    "batch": _batch,
    "repr": repr,
    "dir": lambda value: [name for name in dir(value) if not name.startswith("_")],
}
"""What a handle can ask for."""
