"""The constructors: all that a node can have called here, by exact names, one reviewed function each.

A constructor gets arguments that the node chose, so it checks the type and the size of each before it uses them. It imports
a library only when it is the one that was written for that library. It is called as ``constructor(context, *arguments)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.rebuild.arrays import ARRAYS
from remote_gpu.rebuild.notebook import NOTEBOOK
from remote_gpu.rebuild.plain import PLAIN

__all__ = ["CONSTRUCTORS", "MODULE"]

MODULE = "remote_gpu_values"
"""What stands for a module in front of a constructor's name on the wire; there is no module of that name here."""

CONSTRUCTORS: Mapping[str, Callable[..., Any]] = {**PLAIN, **NOTEBOOK, **ARRAYS}
"""The whole table."""
