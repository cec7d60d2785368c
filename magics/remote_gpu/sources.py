"""Code as source text, for a node whose Python has other bytecode."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from typing import Any

from remote_gpu.reasons import CannotCross
from remote_gpu.standins import call

__all__ = ["SourceCode", "function_source"]


class SourceCode:
    """Stands for a code object in the stream: compiled over there from its text."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return call["code"], self._arguments


def function_source(function: types.FunctionType) -> SourceCode:
    """The text that defines `function`. Raises `CannotCross` when it is not known, or not certain."""
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise _refusal(function, "its source text is not known") from error
    text = textwrap.dedent("".join(lines))
    outer = _class_of(function) if any(f"__{name}" for name in code.co_names) else ""
    if code.co_name == "<lambda>":
        text = _lambda_text(function, text)
    return SourceCode(text, first, code.co_filename, code.co_name, tuple(code.co_freevars), outer)


def _class_of(function: types.FunctionType) -> str:
    """The class in whose body the function stands: its private names are mangled with that."""
    parts = function.__qualname__.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2] != "<locals>" else ""


def _lambda_text(function: types.FunctionType, text: str) -> str:
    """The lambda alone, out of the lines that it stands in."""
    found = _lambdas(text) or _lambdas(f"({text.strip().rstrip(',')})") or _lambdas(text[text.find("lambda") :].strip().rstrip(",)]}"))
    code = function.__code__
    fitting = [each for each in found if _same_shape(each, code)]
    if len(fitting) != 1:
        raise _refusal(function, "several lambdas stand in its line; give it a name with def")
    return ast.unparse(fitting[0])


def _lambdas(text: str) -> list[ast.Lambda]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]


def _same_shape(node: ast.Lambda, code: types.CodeType) -> bool:
    mine = compile(ast.unparse(node), "<lambda>", "eval").co_consts
    inner = next((each for each in mine if isinstance(each, types.CodeType)), None)
    if inner is None:
        return False
    names = (inner.co_varnames, inner.co_argcount, inner.co_kwonlyargcount, inner.co_consts, set(inner.co_names) | set(inner.co_freevars))
    return names == (code.co_varnames, code.co_argcount, code.co_kwonlyargcount, code.co_consts, set(code.co_names) | set(code.co_freevars))


def _refusal(function: types.FunctionType, why: str) -> CannotCross:
    return CannotCross(f"a function ({function.__qualname__}) that cannot go to another version of Python: {why}", culprit=function)
