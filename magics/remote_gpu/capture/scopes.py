"""What the bodies of functions, lambdas and comprehensions say about the notebook's names. Pure; part of `capture`.

A body runs later, perhaps often, perhaps never: so the order within it is left out, and each name that it looks up outside of itself counts.
"""

from __future__ import annotations

import ast
from collections.abc import Set as AbstractSet

from remote_gpu.capture.calls import Calling
from remote_gpu.capture.visitor import Deferred, Seen

__all__ = ["Body"]

_GLOBAL = "global "  # before a name that `global` has declared: no local of a function around can then be meant


class Body(Calling):
    """A function, a class within a function, or a comprehension; `stores` are the names of its own."""

    def __init__(self, seen: Seen, kind: str, owner: str = "", parent: Body | None = None) -> None:
        super().__init__(seen, owner)
        self.kind = kind
        self.parent = parent
        self.stores: set[str] = set()
        self._global: set[str] = set()
        self._nonlocal: set[str] = set()
        self._loads: set[str] = set()
        self._changes: set[str] = set()
        self._touches: set[str] = set()
        self._binds: set[str] = set()
        self._deletes: set[str] = set()

    def deferred(self) -> Deferred:
        """What this body says, seen from the notebook."""
        return Deferred(
            self._free(self._loads), frozenset(self._binds), self._free(self._changes), frozenset(self._deletes), self._free(self._touches)
        )

    def _free(self, names: AbstractSet[str]) -> frozenset[str]:
        return frozenset(name.removeprefix(_GLOBAL) for name in names - self.stores)

    def body(self, kind: str, owner: str = "") -> Body:
        """A body within this one."""
        return Body(self.seen, kind, owner or self.owner, self)

    def load(self, name: str) -> None:
        """A name that is looked up, here or outside."""
        self._loads.add(self._resolved(name))

    def store(self, name: str) -> None:
        """A name of its own, unless it was declared otherwise."""
        if name in self._global:
            self._binds.add(name)
        elif name in self._nonlocal:
            self._loads.add(name)
        else:
            self.stores.add(name)

    def delete(self, name: str) -> None:
        """Of a name of its own nothing is said."""
        if name in self._global:
            self._deletes.add(name)
            self.load(name)
        else:
            self.store(name)

    def change(self, name: str) -> None:
        """The same as for `load`."""
        self._changes.add(self._resolved(name))

    def touch(self, name: str) -> None:
        """The same as for `load`."""
        self._touches.add(self._resolved(name))

    def _resolved(self, name: str) -> str:
        return _GLOBAL + name if name in self._global else name

    def defined(self, name: str, body: Body, *, decorated: bool) -> None:  # noqa: ARG002  a body has no order
        """A function within: its name is its own."""
        self.passing(body)
        self.store(name)

    def passing(self, body: Body) -> None:
        """What a body within does not find in itself, is looked for here."""
        # A class's own names are no names of its methods, and those that it reads may also be of outside.
        own = set() if body.kind == "class" else body.stores
        for name in body._loads - own:
            self.load(name)
        for name in body._changes - own:
            self.change(name)
        for name in body._touches - own:
            self.touch(name)
        self._binds |= body._binds
        self._deletes |= body._deletes

    def import_bound(self, name: str) -> str:
        """Only a name that was declared `global` is one of the notebook."""
        return name if name in self._global else ""

    def annotation(self, node: ast.AnnAssign) -> None:
        """Makes a name its own; evaluated in classes only."""
        if isinstance(node.target, ast.Name):
            self.store(self.mangled(node.target.id))
        if self.kind == "class":
            self.visit(node.annotation)

    def _on_walrus(self, node: ast.NamedExpr) -> None:
        """A walrus in a comprehension binds in the function around, or in the notebook."""
        self.visit(node.value)
        around: Body | None = self
        while around is not None and around.kind == "comprehension":
            around = around.parent
        name = self.mangled(node.target.id)
        if around is None:
            self._binds.add(name)
        else:
            around.store(name)

    def _on_global(self, node: ast.Global) -> None:
        self._global.update(self.mangled(name) for name in node.names)

    def _on_nonlocal(self, node: ast.Nonlocal) -> None:
        self._nonlocal.update(self.mangled(name) for name in node.names)

    def _on_class(self, node: ast.ClassDef) -> None:
        self.visit_all(node.decorator_list)
        parameters = getattr(node, "type_params", ())
        if parameters:
            around = self.typed(parameters)
            around.visit_all([*node.bases, *node.keywords])
            self.passing(around)
        else:
            self.visit_all([*node.bases, *node.keywords])
        inside = self.body("class", node.name)
        inside.visit_all(node.body)
        self.passing(inside)
        self.store(self.mangled(node.name))
