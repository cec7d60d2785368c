"""Code as source text, for a node whose Python has other bytecode."""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import types
from typing import Any

from remote_gpu.codec.reasons import CannotCross
from remote_gpu.codec.standins import call

__all__ = ["SourceCode", "function_source"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUTURE = __future__.annotations.compiler_flag


class SourceCode:
    """Stands for a code object in the stream: compiled over there from its text."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return call["code"], self._arguments


def function_source(function: types.FunctionType) -> SourceCode:
    """The text that defines `function`, without its decorators. Raises `CannotCross` when it is not known, or not certain."""
    code = function.__code__
    try:
        whole = "".join(inspect.findsource(code)[0])
        tree = _parsed(whole)
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise _refusal(function, "its source text is not known") from error
    text, first = _lambda(function, tree, whole) if code.co_name == "<lambda>" else _definition(function, tree, whole)
    outer = _class_of(function) if any(name.startswith("_") and "__" in name for name in code.co_names) else ""
    return SourceCode(text, first, code.co_filename, code.co_name, tuple(code.co_freevars), outer, bool(code.co_flags & _FUTURE))


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _definition(function: types.FunctionType, tree: ast.Module, whole: str) -> tuple[str, int]:
    """The lines of a ``def``, in their own indentation, and the number of the first."""
    code = function.__code__
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, _Function) and node.name == code.co_name and code.co_firstlineno in (node.lineno, _first_line(node))
    ]
    if len(found) != 1:
        raise _refusal(function, "its source text has changed")
    node = found[0]
    lines = whole.splitlines(keepends=True)[node.lineno - 1 : node.end_lineno]
    if node.col_offset == 0:
        return "".join(lines), node.lineno
    if not lines[0][: node.col_offset].isspace():
        return str(ast.get_source_segment(whole, node)), node.lineno
    return "if 1:\n" + "".join(lines), node.lineno - 1  # keeps the text as it is, also within strings of several lines


def _first_line(node: _Function) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _lambda(function: types.FunctionType, tree: ast.Module, whole: str) -> tuple[str, int]:
    """A lambda alone, told from others in its line by where the compiler saw its parts."""
    seen = set(function.__code__.co_positions())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and _place(node.body) in seen]
    if len(found) != 1:
        raise _refusal(function, "its source text has changed")
    return f"({ast.get_source_segment(whole, found[0])})", found[0].lineno


def _place(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _class_of(function: types.FunctionType) -> str:
    """The class in whose body the function stands: its private names are mangled with that."""
    parts = function.__qualname__.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2] != "<locals>" else ""


def _refusal(function: types.FunctionType, why: str) -> CannotCross:
    return CannotCross(f"a function ({function.__qualname__}) that cannot go to another version of Python: {why}", culprit=function)
