"""Names in the stream that goes to a node: each stands for the function of the same name in `remote_gpu.node.builders`.

A pickle calls functions by their names. Those that rebuild a value on the node run there only; here they exist so that the
pickler has something to name. Calling one here is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["NAMES", "call"]

NAMES = (
    "array",
    "broadcast",
    "cached_property",
    "cell",
    "code",
    "enum",
    "function",
    "handle",
    "jax_array",
    "lru_cache",
    "main_module",
    "main_names",
    "make_class",
    "masked",
    "memory",
    "named_tuple",
    "polars_frame",
    "set_cell",
    "set_class",
    "set_function",
    "stream",
    "tensor",
    "transposed",
    "weak_keys",
    "weak_values",
)
"""All that the node can be asked to build by name."""


def _make(name: str) -> Callable[..., NoReturn]:
    def standin(*_: Any) -> NoReturn:
        raise RuntimeError(f"{name} is built on the node only.")

    standin.__name__ = standin.__qualname__ = name
    return standin


call: dict[str, Callable[..., Any]] = {name: _make(name) for name in NAMES}
"""The stand-ins by name."""

globals().update(call)  # the pickler looks them up as attributes of this module
