"""Names that a cell reaches by a call, an attribute or a string, and not by writing them as names. Pure; part of `capture`."""

from __future__ import annotations

import ast
from typing import Any

from remote_gpu.capture.magic_names import EVALUATING, Said, magic, names_in_query
from remote_gpu.capture.visitor import Import, Visitor, root

__all__ = ["Calling"]

_SPECIAL = frozenset({"exec", "eval", "globals", "locals", "vars", "__import__"})
_SHELL = frozenset({"user_ns", "run_cell", "ex", "ev", "push", "reset", "safe_execfile"})


def _any_call(node: ast.AST, *names: str) -> bool:
    """Whether `node` is a call of one of these names without arguments."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and not node.args


def _texts(node: ast.AST) -> str:
    """The constant text in a string or f-string."""
    return " ".join(each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


class Calling(Visitor):
    """A visitor that looks into calls: of magics, of `exec` and `globals`, and of methods that take names in strings."""

    def _on_part(self, node: Any) -> None:
        """An attribute or an item."""
        if node.ctx.__class__ is not ast.Load:
            name = root(node)
            if name:
                self.change(self.mangled(name))
        if isinstance(node, ast.Subscript):
            if _any_call(node.value, "globals", "locals", "vars") and isinstance(node.slice, ast.Constant):
                self._on_name(ast.Name(str(node.slice.value), node.ctx))
                return
            self.visit(node.slice)
        elif _any_call(node.value, "get_ipython") and node.attr in _SHELL:
            self.seen.hide(f"get_ipython().{node.attr}")
        self.visit(node.value)

    def _on_call(self, node: Any) -> None:
        func, arguments = node.func, node.args
        if isinstance(func, ast.Attribute):
            if func.attr in ("run_line_magic", "run_cell_magic") or _any_call(func.value, "get_ipython"):
                self._said(magic(func.attr, [each.value if isinstance(each, ast.Constant) else None for each in arguments]))
                self.visit_all(arguments)
                return
            if func.attr in EVALUATING and arguments:
                for name in names_in_query(func.attr, _texts(arguments[0])):
                    self.load(name)
            elif func.attr == "import_module":
                self._imported(arguments)
            self._touched(func.value)
        elif isinstance(func, ast.Name) and func.id in _SPECIAL:
            self._special(func.id, arguments)
        for each in arguments:
            self._touched(each)
            self.visit(each)
        for keyword in node.keywords:
            self._touched(keyword.value)
            self.visit(keyword.value)
        self.visit(func)

    def _touched(self, node: ast.AST) -> None:
        """An object that a call gets."""
        name = root(node)
        if name:
            self.touch(self.mangled(name))

    def _special(self, name: str, arguments: list[ast.expr]) -> None:
        """A call by which code reaches names that its text does not have."""
        if name == "__import__":
            self._imported(arguments)
        elif name in ("exec", "eval"):
            if len(arguments) == 1 and isinstance(arguments[0], ast.Constant):
                self.nested(str(arguments[0].value))
            elif len(arguments) == 1:
                self.seen.hide(f"{name}(…)")
        elif not arguments:
            self.seen.hide(f"{name}()")

    def _imported(self, arguments: list[ast.expr]) -> None:
        """A module that is imported by a call."""
        if arguments and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
            self.seen.imports.append(Import(arguments[0].value, "", ""))

    def _compared(self, node: ast.Compare) -> None:
        """The sides of a comparison."""
        self.visit_fields(node)

    def _on_compare(self, node: Any) -> None:
        """``"x" in globals()`` asks for x; else as it stands."""
        last = node.comparators[-1]
        if isinstance(node.left, ast.Constant) and _any_call(last, "globals", "locals", "vars", "dir"):
            self.load(str(node.left.value))
            return
        self._compared(node)

    def _said(self, said: Said) -> None:
        """What a magic's line or cell says."""
        if said.unseen:
            self.seen.hide(said.unseen)
        for name in said.reads:
            self.load(name)
        if said.own:
            inside = self.body("function")
            for text in (said.setup, said.code):
                inside.nested(text)
            self.passing(inside)
        elif (tree := self._tree(said.code)) is not None:
            self.aside(tree.body)  # %time shows an error and goes on
        for name in said.binds:
            self.store(name)
        for name in said.deletes:
            self.delete(name)

    def nested(self, text: str) -> None:
        """Code in a text; what is no Python says nothing."""
        tree = self._tree(text)
        if tree is not None:
            self.visit_all(tree.body)

    def _tree(self, text: str) -> ast.Module | None:
        return self.seen.parse(text) if text.strip() else None
