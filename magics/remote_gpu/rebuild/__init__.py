"""The constructors: all that a node can have called here, by exact names, one reviewed function each.

A constructor gets arguments that the node chose, so it checks the type and the size of each before it uses them. It imports
a library only when it is the one that was written for that library. It is called as ``constructor(context, *arguments)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.rebuild.arrays import ARRAYS
from remote_gpu.rebuild.arrow import ARROW
from remote_gpu.rebuild.notebook import NOTEBOOK
from remote_gpu.rebuild.pictures import PICTURES
from remote_gpu.rebuild.plain import PLAIN
from remote_gpu.rebuild.sparse import SPARSE
from remote_gpu.rebuild.tables import TABLES
from remote_gpu.rebuild.tensors import TENSORS

__all__ = ["CONSTRUCTORS", "MODULE"]

MODULE = "remote_gpu_values"
"""What stands for a module in front of a constructor's name on the wire; there is no module of that name here."""

CONSTRUCTORS: Mapping[str, Callable[..., Any]] = {
    **PLAIN,
    **NOTEBOOK,
    **ARRAYS,
    **TABLES,
    **ARROW,
    **SPARSE,
    **PICTURES,
    **TENSORS,
}
"""The whole table."""
