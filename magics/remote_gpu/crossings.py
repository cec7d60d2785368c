"""One cell's names on their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from remote_gpu.capture.analysis import Names
from remote_gpu.codec.fingerprints import Fingerprint
from remote_gpu.known import Known
from remote_gpu.modules.shipping import Shipment
from remote_gpu.summary import Summary

__all__ = ["VALUE_LIMIT", "Crossing"]

VALUE_LIMIT = 8 * 1024**2
"""Bytes up to which a value comes back as a value; what is larger comes back as a handle, unless ``-o`` names it."""


@dataclass(slots=True, eq=False)
class Crossing:
    """The names of one cell on their way: `about` and `buffers` are for its request."""

    names: Names
    known: Known
    about: dict[str, Any]
    buffers: list[Any]
    sent: dict[str, Fingerprint] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    summary: Summary = field(default_factory=Summary)
    prints: dict[str, Fingerprint] = field(default_factory=dict)
    shipment: Shipment | None = None
    kept: set[str] = field(default_factory=set)
    """Names that changed here while the cell ran: what became of them there is not bound."""
    results: dict[str, Any] | None = None
    """Where names are bound, instead of in the notebook: of an operation on a handle."""

    def binds(self, name: str) -> bool:
        """Whether the cell's own text binds, changes or deletes `name`, or the user asked for it."""
        asked = (self.about.get("take") or {}).get("only") or ()
        return name in self.names.binds or name in self.names.changes or name in self.names.deletes or name in asked

    def concerns(self, name: str) -> bool:
        """Whether the cell, or a function that it may call, says that it binds, changes or reads `name`; `prints` has what local ones need."""
        deferred = (*self.names.functions.values(), *self.known.functions.values())
        return (
            self.binds(name)
            or name in self.prints
            or name in self.known.reached(self.names.reads)
            or any(name in each.binds | each.changes for each in deferred)
        )

    def torn(self) -> list[tuple[str, list[str]]]:
        """Each name that is sent now, with those sent before whose values share an object with its value here, and not there."""
        earlier = {name: each.objects for name, each in self.prints.items() if each.objects and name not in self.sent}
        pairs = ((name, [other for other, objects in earlier.items() if each.objects & objects]) for name, each in self.sent.items())
        return [(name, others) for name, others in pairs if others]
