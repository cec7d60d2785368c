"""What reducers are made of: the names of the laptop's constructors, as something that the C pickler writes as a name.

The pickler writes a function as its module and name, and looks that this is where it finds it. So the stand-ins live in a
module made here. It has no file, and nothing is ever called in it.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from typing import Any, Protocol, Tuple  # noqa: UP035  see Reduction

__all__ = ["Reduction", "Sender", "Unsupported", "build", "is_stand_in"]

Reduction = Tuple[Any, ...]  # noqa: UP006  an alias that runs on 3.10
"""What a reducer returns: pickle's tuple of a function, its arguments, and what follows."""

_MODULE = "remote_gpu_values"
_module = sys.modules.setdefault(_MODULE, types.ModuleType(_MODULE, "Names on the wire; see remote_gpu.node.leaving.calls."))


class Unsupported(Exception):
    """A value that does not leave the node: what it is, in words."""


class Sender(Protocol):
    """What a reducer may ask for while a value is encoded."""

    forced: bool
    """Whether the user asked for the value itself, wherever it lies and however large it is."""

    def reserve(self, size: int) -> None:
        """Say that `size` bytes will be copied; ends the encoding when that is more than may leave."""

    def memory(self, view: memoryview, *, writable: bool = True) -> pickle.PickleBuffer | bytes:
        """Contiguous memory as an argument of `build`; it is not copied."""


def _stand_in(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] | None = _module.__dict__.get(name)
    if found is None:

        def found(*_: Any) -> None:
            """Stands for a function of the other side."""

        found.__module__, found.__qualname__, found.__name__ = _MODULE, name, name
        setattr(_module, name, found)
    return found


def is_stand_in(function: Any) -> bool:
    """Whether `function` stands for a constructor."""
    return _module.__dict__.get(function.__name__) is function


def build(name: str, *arguments: Any, then: tuple[str, Any] | None = None) -> Reduction:
    """A reduction: call the constructor `name`; `then` = (a second constructor, what it gets beside the object), for cycles."""
    if then is None:
        return _stand_in(name), arguments
    setter, state = then
    return _stand_in(name), arguments, state, None, None, _stand_in(setter)
