"""Compiles functions that came as text, because the notebook's Python has other bytecode than this one."""

from __future__ import annotations
import __future__

import ast
import types
from collections.abc import Iterator, Sequence

__all__ = ["compiled"]


def compiled(text: str, first: int, filename: str, name: str, free: Sequence[str], outer: str, future: bool) -> types.CodeType:
    """The code of the function `name` in `text`, whose first line is line `first` of `filename`.

    `free` are the variables of its closure, in the order in which the notebook gives their values; `outer` is the class that
    its private names belong to, or "". Raises `SyntaxError` where this Python does not know the language that is used.
    """
    tree = ast.parse(text)
    found = next((node for node in ast.walk(tree) if _is(node, name)), None)
    if found is None:
        raise SyntaxError(f"{name} is not in its own source text")
    whole = ast.Module([_around(_bare(found), free, outer, name)], [])
    ast.increment_lineno(whole, first - 1)
    code = next(each for each in _codes(_compile(ast.fix_missing_locations(whole), filename, future=future)) if each.co_name == name)
    if code.co_freevars != tuple(free):
        raise SyntaxError(f"{name} uses other variables of its surroundings here: {code.co_freevars}, not {tuple(free)}")
    return code


def _compile(tree: ast.Module, filename: str, *, future: bool) -> types.CodeType:
    flags = __future__.annotations.compiler_flag if future else 0
    code: types.CodeType = compile(tree, filename, "exec", flags, dont_inherit=True)
    return code


def _is(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Lambda):
        return name == "<lambda>"
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name


def _bare(node: ast.AST) -> ast.stmt:
    """The function without what is evaluated where it is defined: that comes from the notebook as values."""
    if isinstance(node, ast.Lambda):
        _strip(node.args)
        return ast.Expr(node)
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))  # noqa: S101  for the type checker; see `_is`
    node.decorator_list = []
    node.returns = None
    _strip(node.args)
    return node


def _strip(arguments: ast.arguments) -> None:
    none: ast.expr = ast.Constant(None)
    arguments.defaults = [none for _ in arguments.defaults]
    arguments.kw_defaults = [None if each is None else none for each in arguments.kw_defaults]
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if each is not None:
            each.annotation = None


def _around(inner: ast.stmt, free: Sequence[str], outer: str, name: str) -> ast.stmt:
    """`inner` within a function that has its free variables, so that the compiler sees them as such, and no others."""
    body: list[ast.stmt] = [inner]
    names = set(free)
    if outer:
        body = [ast.ClassDef(name=outer, bases=[], keywords=[], body=body, decorator_list=[])]
        names.discard("__class__")  # the class has it
    other = {outer or name} - names - {"<lambda>"}
    if other:
        body.insert(0, ast.Global(sorted(other)))
    head = ast.parse(f"def around({', '.join(sorted(names))}): pass").body[0]
    assert isinstance(head, ast.FunctionDef)  # noqa: S101  for the type checker
    head.body = body
    return head


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)
