"""Sends the user's own modules with a cell, and says which versions differ: what `sync` has to do with modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from remote_gpu.errors import RemoteGpuError
from remote_gpu.known import Known
from remote_gpu.shipping import REFUSED, Shipment, Shipping
from remote_gpu.versions import Ask, Comparison

__all__ = ["REFUSED", "CellModules", "imported"]


class _Imports(Protocol):
    """One import of a cell: ``import module``, or with a `name` ``from module import name``."""

    @property
    def module(self) -> str: ...

    @property
    def name(self) -> str: ...


class _Print(Protocol):
    """The fingerprint of a value: `modules` are those whose classes, functions or selves it refers to by name."""

    @property
    def modules(self) -> frozenset[str]: ...


def imported(imports: Iterable[_Imports]) -> set[str]:
    """The dotted names that import statements may load."""
    found: set[str] = set()
    for each in imports:
        found.add(each.module)
        if each.name:
            found.add(f"{each.module}.{each.name}")
    return found


class CellModules:
    """The modules of one notebook kernel's cells. `say` tells the user a line."""

    def __init__(self, shipping: Shipping | None = None, say: Callable[[str], Any] | None = None) -> None:
        self._shipping = shipping or Shipping()
        self._comparison = Comparison()
        self._refused: set[str] = set()
        self._say = say or (lambda text: sys.stderr.write(f"{text}\n"))

    def compare(self, known: Known, ask: Ask, *, node: str) -> None:
        """Tell the user once which versions differ there. `ask` asks the node for versions of packages."""
        if news := self._comparison.news(known.token, known.facts, ask, node=node):
            self._say(news)

    def shipment(self, known: Known, imports: Iterable[_Imports], prints: Mapping[str, _Print]) -> Shipment | None:
        """What has to go along with a cell that does `imports` and reads names with these fingerprints; tells the user its notes."""
        names = imported(imports)
        for each in prints.values():
            names |= each.modules
        shipment = self._shipping.needed(names, known.token, known.facts) if names else None
        for note in shipment.notes if shipment is not None else ():
            self._say(note)
        return shipment

    @staticmethod
    def stale(shipment: Shipment | None, prints: Mapping[str, _Print]) -> list[str]:
        """The names whose values refer to modules that are about to be loaded anew: what the node has of them is of the old ones."""
        if shipment is None or not shipment.changed:
            return []
        return [name for name, each in prints.items() if any(module.partition(".")[0] in shipment.changed for module in each.modules)]

    @staticmethod
    def add(shipment: Shipment | None, about: dict[str, Any], buffers: list[Any]) -> None:
        """Put it into a request: `about` is its metadata ``remote_gpu``."""
        if shipment is not None and (manifest := shipment.manifest(len(buffers))):
            about["modules"] = manifest
            buffers += shipment.buffers

    def arrived(self, shipment: Shipment | None) -> None:
        """The kernel has taken in the request."""
        if shipment is not None:
            self._refused.discard(shipment.kernel)
            self._shipping.arrived(shipment)

    def refused(self, known: Known, reason: str) -> None:
        """The kernel refused with the name `REFUSED`: everything is to be sent anew. Raises `RemoteGpuError` when it was just that."""
        self._shipping.forget(known.token)
        if known.token in self._refused:
            self._refused.discard(known.token)
            raise RemoteGpuError(f"The remote kernel could not take in the notebook's modules. {reason}")
        self._refused.add(known.token)
