"""The constructors: all that a node can have called here, by exact names, one reviewed function each.

A constructor gets arguments that the node chose, so it checks the type and the size of each before it uses them. It imports
a library only when it is the one that was written for that library. It is called as ``constructor(context, *arguments)``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.codec.rebuild.arrays import ARRAYS
from remote_gpu.codec.rebuild.arrow import ARROW
from remote_gpu.codec.rebuild.notebook import NOTEBOOK
from remote_gpu.codec.rebuild.pictures import PICTURES
from remote_gpu.codec.rebuild.plain import PLAIN
from remote_gpu.codec.rebuild.sparse import SPARSE
from remote_gpu.codec.rebuild.tables import TABLES
from remote_gpu.codec.rebuild.tensors import TENSORS

__all__ = ["CONSTRUCTORS", "MODULE", "missing_libraries"]

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

_NEEDED = {
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "pyarrow",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "PIL": "PIL",
    "torch": "torch",
}


@functools.cache
def missing_libraries() -> tuple[str, ...]:
    """Libraries whose values cannot be built here, because they, or what reads them, are not installed; a node keeps such values."""
    absent = {name for name in {*_NEEDED, *_NEEDED.values()} if importlib.util.find_spec(name) is None}
    return tuple(sorted(name for name, needed in _NEEDED.items() if name in absent or needed in absent))
