"""What this notebook kernel knows of the names in one remote kernel."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remote_gpu.capture.visitor import Deferred

__all__ = ["Known"]


@dataclass(slots=True, eq=False)
class Known:
    """One remote kernel, as its `token` tells it from the one before a restart.

    `keys` has the fingerprint that each local value had when both sides agreed on it; a name that is not in it was never
    sent. `refused` has the fingerprints of values that the kernel could not take in, `told` the reasons that were said
    already. `dropped` are handles that are not used here any more. `functions` says what the functions and classes read that
    cells defined there.
    """

    token: str
    python: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    keys: dict[str, object] = field(default_factory=dict)
    refused: dict[str, object] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)
    dropped: list[int] = field(default_factory=list)
    functions: dict[str, Deferred] = field(default_factory=dict)

    def reached(self, reads: frozenset[str]) -> frozenset[str]:
        """`reads` with all that functions read which were defined there by earlier cells."""
        found, waiting = set(reads), list(reads)
        while waiting:
            deferred = self.functions.get(waiting.pop())
            if deferred is not None:
                waiting += deferred.reads - found
                found |= deferred.reads
        return frozenset(found)

    @property
    def same_python(self) -> bool:
        """Whether compiled code of one side runs on the other."""
        return self.python[:2] == sys.version_info[:2]

    def take_dropped(self) -> list[int]:
        """The handles to release with the next request."""
        dropped = self.dropped[:]
        del self.dropped[: len(dropped)]
        return dropped
