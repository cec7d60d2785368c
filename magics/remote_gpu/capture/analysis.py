"""Which names a cell reads, binds, changes, deletes and imports. Pure: a text in, names out.

The question behind `reads` is: may the cell see the value that a name had *before* the cell? So the order of the statements is followed, and a
name counts unless the cell has surely bound (or deleted) it by then. In doubt it counts: after an ``if``, a loop that may not run, a ``with``
whose manager may swallow an error, or in a function from the moment on that something may call it.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from remote_gpu.capture.flow import Flow
from remote_gpu.capture.visitor import Deferred, Import, Seen

__all__ = ["Deferred", "Import", "Names", "analyse"]

_NOTHING: Mapping[str, Deferred] = MappingProxyType({})
_BAD_ESCAPE = re.compile(r"\\[^\\\n'\"abfnrtvxuUN0-7]")
_UNREADABLE = (SyntaxError, ValueError, MemoryError, RecursionError)


@dataclass(frozen=True, slots=True)
class Names:
    """What a cell does with the notebook's names.

    `reads`: it may see their values from before the cell (builtins among them). `binds`: it may bind them, in the order of the text.
    `changes`: it changes their objects by syntax (``x[0] = …``, ``x.a += …``, ``del x[0]``). `deletes`: it may delete them, also by the end of an
    ``except … as x``. `imports`: what it imports, wherever. `touches`: their objects go to code that may change them, as the object of a method or
    an argument. `functions`: for each function and class of the cell, what its body does with the notebook's names whenever it runs; one level,
    so that a function which calls another has the other's name in its `reads`. `unseen`: what hides names from this analysis, in words; or "".
    """

    reads: frozenset[str] = frozenset()
    binds: tuple[str, ...] = ()
    changes: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    imports: tuple[Import, ...] = ()
    touches: frozenset[str] = frozenset()
    functions: Mapping[str, Deferred] = field(default_factory=lambda: _NOTHING)
    unseen: str = ""


def analyse(source: str, transform: Callable[[str], str]) -> Names:
    """The names of a cell. `transform` is IPython's `transform_cell`, called only where a text is no plain Python. Never raises: a cell that
    cannot be read has no names, as it will fail by itself.
    """
    return _cached(source, _Transform(transform))


@dataclass(frozen=True)
class _Transform:
    """A transformation that is no part of the key of the cache: the same text has the same names in each shell."""

    call: Callable[[str], str] = field(compare=False)


@functools.lru_cache(maxsize=256)
def _cached(source: str, transform: _Transform) -> Names:
    seen = Seen(functools.partial(_parsed, transform=transform.call))
    tree = seen.parse(source)
    if tree is None:
        return Names()
    flow = Flow(seen)
    try:
        flow.block(tree.body, set())
        functions = flow.finish()
    except RecursionError:
        return _without_order(tree)
    return Names(
        frozenset(flow.reads - {"get_ipython"}),
        tuple(flow.binds),
        frozenset(flow.changes),
        frozenset(flow.deletes),
        tuple(seen.imports),
        frozenset(flow.touches),
        MappingProxyType(functions),
        seen.unseen,
    )


def _parsed(source: str, transform: Callable[[str], str]) -> ast.Module | None:
    try:
        return _python(source)
    except _UNREADABLE:
        pass
    try:
        return _python(transform(source))
    except _UNREADABLE:
        return None


def _python(source: str) -> ast.Module:
    if not _BAD_ESCAPE.search(source):
        return ast.parse(source)
    with warnings.catch_warnings():  # Python says it once more where the cell runs
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _without_order(tree: ast.Module) -> Names:
    """For a tree that is too deep to go through: every name that is anywhere in it."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    loads = frozenset(node.id for node in names if isinstance(node.ctx, ast.Load))
    return Names(loads, tuple(dict.fromkeys(node.id for node in names if isinstance(node.ctx, ast.Store))), unseen="deeply nested code")
