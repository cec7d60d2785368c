"""Goes through the tree of a cell and says each use of a name. Pure; part of `capture`.

`capture` follows the order of the cell's own statements; `scopes` gathers what the bodies of functions say, whose order is left open.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remote_gpu.capture.scopes import Body

__all__ = ["Deferred", "Import", "Seen", "Visitor", "root"]

_NO_CHILDREN = frozenset(
    {"ctx", "op", "ops", "id", "attr", "arg", "kind", "type_comment", "name", "names", "module", "level", "conversion"}
)
_CHILDREN: dict[type, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: ``from module import name as bound``; `name` is empty for ``import module``, and `module` begins with a dot for
    each level of a relative import. `bound` is empty where the notebook gets no name by it (within a function; ``import *``).
    """

    module: str
    name: str
    bound: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """What a body reads, binds, changes, deletes and hands on among the notebook's names when it runs. See `capture.Names`."""

    reads: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()


@dataclass(slots=True)
class Seen:
    """What is gathered once for a whole cell. `parse` reads nested code: that of ``%%time``, of ``exec("…")``."""

    parse: Callable[[str], ast.Module | None]
    imports: list[Import] = field(default_factory=list)
    unseen: str = ""

    def hide(self, what: str) -> None:
        """Note the first thing that cannot be seen."""
        self.unseen = self.unseen or what


def root(node: ast.AST) -> str:
    """The name that an attribute or an item belongs to in the end: x of ``x.a[0].b``; empty where there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class Visitor:
    """Goes through a tree and says each use of a name to `load`, `store`, `delete`, `change` and `touch`."""

    def __init__(self, seen: Seen, owner: str = "") -> None:
        self.seen = seen
        self.owner = owner  # the class around, for ``__private`` names

    def load(self, name: str) -> None:
        """`name` is looked up."""
        raise NotImplementedError

    def store(self, name: str) -> None:
        """`name` is bound."""
        raise NotImplementedError

    def delete(self, name: str) -> None:
        """`name` is deleted."""
        raise NotImplementedError

    def change(self, name: str) -> None:
        """The object of `name` is changed in place."""
        raise NotImplementedError

    def touch(self, name: str) -> None:
        """The object of `name` is handed to code that may change it."""
        raise NotImplementedError

    def defined(self, name: str, body: Body, *, decorated: bool) -> None:
        """A function of this name is made."""
        raise NotImplementedError

    def passing(self, body: Body) -> None:
        """A lambda or a comprehension, which may run from now on."""
        raise NotImplementedError

    def body(self, kind: str, owner: str = "") -> Body:
        """A new body within this; `owner` is the class that it is, if it is one."""
        raise NotImplementedError

    def visit(self, node: ast.AST) -> None:
        """One node with all that is in it."""
        kind = node.__class__
        handler = HANDLERS.get(kind)
        if handler is not None:
            getattr(self, handler)(node)
        elif kind is not ast.Constant:
            self.visit_fields(node)

    def visit_fields(self, node: ast.AST) -> None:
        """What is in a node, in the order of its fields."""
        kind = node.__class__
        fields = _CHILDREN.get(kind)
        if fields is None:
            fields = _CHILDREN[kind] = tuple(each for each in node._fields if each not in _NO_CHILDREN)
        for each in fields:
            child = getattr(node, each)
            if child.__class__ is list:
                for item in child:
                    if item is not None and item.__class__ is not str:
                        self.visit(item)
            elif isinstance(child, ast.AST):
                self.visit(child)

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        """Several nodes in order."""
        for node in nodes:
            if node is not None:
                self.visit(node)

    def aside(self, nodes: Iterable[ast.AST | None]) -> None:
        """Nodes that may be left out, or end early."""
        self.visit_all(nodes)

    def mangled(self, name: str) -> str:
        """A name as Python looks it up: ``__private`` ones within a class carry its name."""
        if self.owner and name.startswith("__") and not name.endswith("__"):
            return f"_{self.owner.lstrip('_')}{name}"
        return name

    def _on_name(self, node: ast.Name) -> None:
        name = self.mangled(node.id) if self.owner else node.id
        context = node.ctx.__class__
        if context is ast.Load:
            self.load(name)
        elif context is ast.Store:
            self.store(name)
        else:
            self.delete(name)

    def _on_assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        self.visit_all(node.targets)

    def _on_augmented(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            name = self.mangled(target.id)
            self.load(name)
            self.visit(node.value)
            self.store(name)
            self.change(name)
        else:
            self.visit(target)
            self.visit(node.value)

    def _on_annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)
        self.annotation(node)

    def annotation(self, node: ast.AnnAssign) -> None:
        """A variable's annotation, which is evaluated, but not within functions."""
        self.visit(node.annotation)

    def _on_walrus(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.visit(node.target)

    def _on_import(self, node: ast.Import) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            self.store(bound)
            self.seen.imports.append(Import(alias.name, "", self.import_bound(bound)))

    def _on_import_from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self.seen.hide(f"from {module} import *")
                self.seen.imports.append(Import(module, "*", ""))
                continue
            bound = alias.asname or alias.name
            self.store(bound)
            self.seen.imports.append(Import(module, alias.name, self.import_bound(bound)))

    def import_bound(self, name: str) -> str:
        """The notebook's name that an import binds here."""
        raise NotImplementedError

    def _on_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit_all(node.decorator_list)
        body = self.function(node.args, node.body, getattr(node, "type_params", ()), node.returns)
        self.defined(self.mangled(node.name), body, decorated=bool(node.decorator_list))

    def function(
        self, arguments: ast.arguments, body: Sequence[ast.AST], parameters: Sequence[Any] = (), returns: ast.AST | None = None
    ) -> Body:
        """A function's body; its defaults and annotations are evaluated outside of it."""
        self.visit_all(arguments.defaults)
        self.visit_all(arguments.kw_defaults)
        inside = self.body("function")
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        annotations = [each.annotation for each in every]
        if parameters:
            around = self.typed(parameters)
            around.visit_all([*annotations, returns])
            self.passing(around)
            inside.stores.update(each.name for each in parameters)
        else:
            self.visit_all([*annotations, returns])
        inside.stores.update(self.mangled(each.arg) for each in every)
        inside.visit_all(body)
        return inside

    def typed(self, parameters: Sequence[Any]) -> Body:
        """The scope of type parameters (Python 3.12): their bounds, and what is said in their terms."""
        around = self.body("function")
        around.stores.update(each.name for each in parameters)
        around.visit_all(parameters)
        return around

    def _on_type_alias(self, node: Any) -> None:
        around = self.typed(node.type_params)
        around.visit(node.value)
        self.passing(around)
        self.visit(node.name)

    def _on_lambda(self, node: ast.Lambda) -> None:
        self.passing(self.function(node.args, [node.body]))

    def _on_comprehension(self, node: Any) -> None:
        self.visit(node.generators[0].iter)
        inside = self.body("comprehension")
        for number, each in enumerate(node.generators):
            if number:
                inside.visit(each.iter)
            inside.visit(each.target)
            inside.visit_all(each.ifs)
        inside.visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self.passing(inside)

    def _on_handler(self, node: ast.ExceptHandler) -> None:
        self.visit_all([node.type])
        if node.name:
            self.store(self.mangled(node.name))
        self.visit_all(node.body)
        if node.name:
            self.delete(self.mangled(node.name))

    def _on_capture(self, node: Any) -> None:
        """A name in a pattern."""
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if isinstance(node, ast.MatchAs):
            self.visit_all([node.pattern])
        elif isinstance(node, ast.MatchMapping):
            self.visit_all([*node.keys, *node.patterns])
        if name:
            self.store(self.mangled(name))

    def _on_either(self, node: Any) -> None:
        """Something of which a part may be left out: without an order, all of it."""
        self.visit_fields(node)

    _on_call = _on_compare = _on_part = _on_if = _on_for = _on_while = _on_try = _on_with = _on_match = _on_end = _on_either


HANDLERS: dict[type, str] = {
    ast.Name: "_on_name",
    ast.Attribute: "_on_part",
    ast.Subscript: "_on_part",
    ast.Call: "_on_call",
    ast.Compare: "_on_compare",
    ast.Assign: "_on_assign",
    ast.AugAssign: "_on_augmented",
    ast.AnnAssign: "_on_annotated",
    ast.NamedExpr: "_on_walrus",
    ast.Import: "_on_import",
    ast.ImportFrom: "_on_import_from",
    ast.FunctionDef: "_on_function",
    ast.AsyncFunctionDef: "_on_function",
    ast.ClassDef: "_on_class",
    ast.Lambda: "_on_lambda",
    ast.ListComp: "_on_comprehension",
    ast.SetComp: "_on_comprehension",
    ast.DictComp: "_on_comprehension",
    ast.GeneratorExp: "_on_comprehension",
    ast.ExceptHandler: "_on_handler",
    ast.MatchAs: "_on_capture",
    ast.MatchStar: "_on_capture",
    ast.MatchMapping: "_on_capture",
    ast.Global: "_on_global",
    ast.Nonlocal: "_on_nonlocal",
    ast.If: "_on_if",
    ast.For: "_on_for",
    ast.AsyncFor: "_on_for",
    ast.While: "_on_while",
    ast.Try: "_on_try",
    ast.TryStar: "_on_try",
    ast.With: "_on_with",
    ast.AsyncWith: "_on_with",
    ast.Match: "_on_match",
    ast.BoolOp: "_on_either",
    ast.IfExp: "_on_either",
    ast.Assert: "_on_either",
    ast.Return: "_on_end",
    ast.Raise: "_on_end",
    ast.Break: "_on_end",
    ast.Continue: "_on_end",
}
"""The method for each kind of node; the others are gone through field by field."""
if hasattr(ast, "TypeAlias"):
    HANDLERS[ast.TypeAlias] = "_on_type_alias"
