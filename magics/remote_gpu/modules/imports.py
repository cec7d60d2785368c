"""What a source file imports, read off its text, and what a function imports, read off its code."""

from __future__ import annotations

import ast
import dis
import functools
import types

__all__ = ["imports_in", "imports_of"]


@functools.lru_cache(maxsize=4096)
def imports_in(code: types.CodeType) -> frozenset[str]:
    """The dotted names that a function's code may import when it runs, those of functions and classes inside it included.

    As in `imports_of`, ``from a import b`` gives ``a`` and ``a.b``. Relative imports are left out: a notebook has no package.
    """
    found: set[str] = set()
    module, level = "", 0
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME" and not level:
            module = str(each.argval)
            found.add(module)
        elif each.opname == "IMPORT_FROM" and module:
            found.add(f"{module}.{each.argval}")
        elif each.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")) and isinstance(each.argval, int):
            level = each.argval  # it stands before the names that are imported, and these before the import
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= imports_in(constant)
    return frozenset(found)


def imports_of(source: bytes | str, package: str = "") -> frozenset[str]:
    """The dotted names that `source` may import, in functions and conditions too; none when it has a syntax error.

    ``from a import b`` gives ``a`` and ``a.b``: whether ``b`` is a module, its folder tells. `package` is the one that the
    file belongs to, for relative imports.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base:
                names.update((base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")))
        elif isinstance(node, ast.Call):
            names.update(_by_call(node, package))
    return frozenset(names)


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    if not package or node.level > len(parts):
        return ""
    parents = parts[: len(parts) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)


def _by_call(node: ast.Call, package: str) -> list[str]:
    """The module of ``importlib.import_module("name")`` and ``__import__("name")``."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in ("import_module", "__import__") or not node.args:
        return []
    first = node.args[0]
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return []
    text = first.value
    if not text.startswith("."):
        return [text]
    relative = ast.ImportFrom(module=text.lstrip(".") or None, names=[], level=len(text) - len(text.lstrip(".")))
    return [base] if (base := _base(relative, package)) else []
