"""Follows a cell's own statements in their order, with all their branches. Pure; part of `capture`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from remote_gpu.capture.calls import Calling
from remote_gpu.capture.scopes import Body
from remote_gpu.capture.visitor import Deferred, Seen, Visitor

__all__ = ["Flow"]

_NEVER_SWALLOWS = frozenset(
    {
        "open",
        "no_grad",
        "inference_mode",
        "enable_grad",
        "autocast",
        "device",
        "errstate",
        "catch_warnings",
        "redirect_stdout",
        "TemporaryDirectory",
        "NamedTemporaryFile",
        "ThreadPoolExecutor",
        "ProcessPoolExecutor",
        "Pool",
        "tqdm",
        "option_context",
        "rc_context",
        "printoptions",
    }
)


class Flow(Calling):
    """Follows the cell's own statements. `bound` has what the cell has surely bound or deleted so far.

    In the body of a class its own names are in `bound`, too, behind a prefix that no name has.
    """

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen)
        self._bound: set[str] = set()
        self._dead = False
        self._prefix = ""
        self._globals: set[str] = set()
        self._breaks: list[list[set[str]]] = []
        self._classes = 0
        self.pending: dict[str, list[Deferred]] = {}
        self.reads: set[str] = set()
        self.binds: dict[str, None] = {}
        self.changes: set[str] = set()
        self.deletes: set[str] = set()
        self.touches: set[str] = set()

    def finish(self) -> dict[str, Deferred]:
        """The cell's functions. Those that nothing called may still be called by a later cell, so their reads count, too."""
        functions = {name: _joined(each) for name, each in self.pending.items()}
        for deferred in functions.values():
            self.reads |= deferred.reads - self._bound
        return functions

    def body(self, kind: str, owner: str = "") -> Body:
        """A body of the cell's own level."""
        return Body(self.seen, kind, owner or self.owner)

    def _own(self, name: str) -> str:
        """The name in the scope that it would be bound in."""
        return self._prefix + name if self._prefix and name not in self._globals else name

    def load(self, name: str) -> None:
        """Read, unless the cell has bound it by now."""
        own = self._own(name)
        if own not in self._bound and name not in self._bound:
            self.reads.add(name)
        if own in self.pending:
            self._may_run(own)
        if name in self.pending and own is not name:
            self._may_run(name)

    def store(self, name: str) -> None:
        """Bound from now on."""
        own = self._own(name)
        self._bound.add(own)
        if own == name:
            self.binds[name] = None

    def delete(self, name: str) -> None:
        """Not there from now on; it must have been there."""
        self.load(name)
        own = self._own(name)
        if own == name:
            self.deletes.add(name)
            self._bound.add(name)

    def change(self, name: str) -> None:
        """Unless it is a class's own."""
        if self._own(name) not in self._bound or not self._prefix:
            self.changes.add(name)

    def touch(self, name: str) -> None:
        """Noted as it is."""
        self.touches.add(name)

    def import_bound(self, name: str) -> str:
        """The name, but in the body of a class."""
        return name if self._own(name) == name else ""

    def _may_run(self, *names: str) -> None:
        """Functions that have been named may be called from now on, and with them those that they name."""
        todo, done = list(names), set()
        while todo:
            name = todo.pop()
            if name in done:
                continue
            done.add(name)
            for deferred in self.pending.get(name, ()):
                self._runs(deferred)
                todo += deferred.reads & self.pending.keys()

    def _runs(self, deferred: Deferred) -> None:
        self.reads |= deferred.reads - self._bound
        self.changes |= deferred.changes
        self.deletes |= deferred.deletes
        self.touches |= deferred.touches
        for name in sorted(deferred.binds):
            self.binds[name] = None

    def passing(self, body: Body) -> None:
        """It may run from now on."""
        deferred = body.deferred()
        self._runs(deferred)
        self._may_run(*(deferred.reads & self.pending.keys()))

    def defined(self, name: str, body: Body, *, decorated: bool) -> None:
        """It may run once something names it."""
        own = self._own(name)
        self.pending.setdefault(own, []).append(body.deferred())
        if decorated:
            self._may_run(own)
        self.store(name)

    def _on_global(self, node: ast.Global) -> None:
        self._globals.update(node.names)

    def _on_assign(self, node: ast.Assign) -> None:
        value, targets = node.value, node.targets
        if not isinstance(value, ast.Lambda) or not all(isinstance(each, ast.Name) for each in targets):
            super()._on_assign(node)
            return
        body = self.function(value.args, [value.body])
        for each in targets:
            if isinstance(each, ast.Name):
                self.defined(self.mangled(each.id), body, decorated=False)

    def _on_class(self, node: ast.ClassDef) -> None:
        self.visit_all(node.decorator_list)
        parameters = getattr(node, "type_params", ())
        around: Visitor = self.typed(parameters) if parameters else self
        around.visit_all([*node.bases, *node.keywords])
        if isinstance(around, Body):
            self.passing(around)
        before = self.owner, self._prefix, self._globals
        self._classes += 1
        inside = f"{self._classes}."
        self.owner, self._prefix, self._globals = node.name, inside, set()
        self._bound.update(inside + each.name for each in parameters)
        self.visit_all(node.body)
        self.owner, self._prefix, self._globals = before
        own = self._own(self.mangled(node.name))
        methods = [name for name in self.pending if name.startswith(inside)]
        self.pending.setdefault(own, []).extend(each for name in methods for each in self.pending.pop(name))
        if node.decorator_list or node.keywords:
            self._may_run(own)
        self.store(self.mangled(node.name))

    def block(self, statements: list[Any], start: set[str]) -> set[str] | None:
        """Follow statements from `start`, which is theirs to change; what is bound after them, or None if their end is not reached."""
        self._bound, self._dead = start, False
        for statement in statements:
            self.visit(statement)
            if self._dead:
                return None
        return self._bound

    def _merge(self, *ends: set[str] | None) -> None:
        """Go on after branches: what each of those that end has bound."""
        alive = [each for each in ends if each is not None]
        self._dead = not alive
        self._bound = set.intersection(*alive) if alive else set()

    def aside(self, nodes: Iterable[ast.AST | None]) -> None:
        """What may be left out, or end early, binds nothing for sure."""
        kept, self._bound = self._bound, self._bound.copy()
        self.visit_all(nodes)
        self._bound, self._dead = kept, False

    def _on_either(self, node: Any) -> None:
        if isinstance(node, ast.BoolOp):
            self.visit(node.values[0])
            self.aside(node.values[1:])
            return
        self.visit(node.test)
        others = [node.msg] if isinstance(node, ast.Assert) else [node.body, node.orelse]
        for each in others:
            self.aside([each])

    def _compared(self, node: ast.Compare) -> None:
        self.visit(node.left)
        self.visit(node.comparators[0])
        if len(node.comparators) > 1:
            self.aside(node.comparators[1:])

    def _on_if(self, node: ast.If) -> None:
        self.visit(node.test)
        base = self._bound
        self._merge(self.block(node.body, base.copy()), self.block(node.orelse, base))

    def _on_for(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        base = self._bound.copy()
        self._breaks.append([])
        self.visit(node.target)
        self.block(node.body, self._bound)
        self._merge(*self._breaks.pop(), self.block(node.orelse, base))

    def _on_while(self, node: ast.While) -> None:
        self.visit(node.test)
        base = self._bound.copy()
        self._breaks.append([])
        self.block(node.body, self._bound)
        ends = not (isinstance(node.test, ast.Constant) and node.test.value)
        self._merge(*self._breaks.pop(), self.block(node.orelse, base) if ends else None)

    def _on_end(self, node: ast.AST) -> None:
        self.visit_fields(node)
        if isinstance(node, ast.Break) and self._breaks:
            self._breaks[-1].append(self._bound.copy())
        self._dead = True

    def _on_with(self, node: ast.With | ast.AsyncWith) -> None:
        sure = True
        for item in node.items:
            sure = sure and _never_swallows(item.context_expr)
            self.visit(item)
        base = self._bound.copy()
        end = self.block(node.body, self._bound)
        if sure:
            self._merge(end)
        else:
            self._merge(base)

    def _on_try(self, node: ast.Try | ast.TryStar) -> None:
        base = self._bound
        end = self.block(node.body, base.copy())
        ends = [self.block(node.orelse, end) if end is not None else None]
        for handler in node.handlers:
            self._bound, self._dead = base.copy(), False
            self.visit_all([handler.type])
            name = self.mangled(handler.name) if handler.name else ""
            if name:
                self.store(name)
            ends.append(self.block(handler.body, self._bound))
            if name and self._own(name) == name:
                self.deletes.add(name)
        if not node.finalbody:
            self._merge(*ends)
            return
        final = self.block(node.finalbody, base.copy())
        if final is None:
            self._merge(None)
            return
        self._merge(*ends)
        self._bound |= final

    def _on_match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        base = self._bound
        ends: list[set[str] | None] = []
        irrefutable = False
        for case in node.cases:
            self._bound, self._dead = base.copy(), False
            self.visit(case.pattern)
            self.visit_all([case.guard])
            ends.append(self.block(case.body, self._bound))
            irrefutable = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None
        self._merge(*ends, None if irrefutable else base)


def _never_swallows(node: ast.expr) -> bool:
    func = node.func if isinstance(node, ast.Call) else None
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    return name in _NEVER_SWALLOWS


def _joined(several: list[Deferred]) -> Deferred:
    if len(several) == 1:
        return several[0]
    return Deferred(
        frozenset().union(*(each.reads for each in several)),
        frozenset().union(*(each.binds for each in several)),
        frozenset().union(*(each.changes for each in several)),
        frozenset().union(*(each.deletes for each in several)),
        frozenset().union(*(each.touches for each in several)),
    )
