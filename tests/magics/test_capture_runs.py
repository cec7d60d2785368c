"""Generated programs are run: whatever they saw of the notebook from before must have been announced, and whatever they bound."""

from __future__ import annotations

import contextlib
import sys
import textwrap

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from remote_gpu.capture.analysis import analyse

NAMES = ("a", "b", "c", "d", "e")
name = st.sampled_from(NAMES)


class Spent(BaseException):
    """A program has looked up enough names."""


class Old:
    """A value that can be used in each way, and raises now and then."""

    def __init__(self, chance):
        self._chance = chance

    def _new(self, *_args, **_kwargs):
        if self._chance() == 0:
            raise ValueError
        return Old(self._chance)

    __call__ = __add__ = __radd__ = __iadd__ = __getitem__ = __enter__ = _new

    def __getattr__(self, asked):
        if asked.startswith("__"):
            raise AttributeError(asked)
        return self._new()

    def __bool__(self):
        return bool(self._chance() % 2)

    def __iter__(self):
        return iter([Old(self._chance) for _ in range(self._chance() % 3)])

    def __exit__(self, *_error):
        return bool(self._chance() % 2)


class Notebook(dict):
    """Globals that note whose values from before were seen. (Python asks a subclass of dict for each name, also within functions.)"""

    def __init__(self, chance):
        super().__init__({each: Old(chance) for each in NAMES}, tick=self._tick)
        self.before = dict(self)
        self.seen = set()
        self._fuel = 300

    def __getitem__(self, key):
        self._fuel -= 1
        if self._fuel < 0:
            raise Spent
        value = super().__getitem__(key)
        if self.before.get(key) is value:
            self.seen.add(key)
        return value

    def _tick(self):
        """Called in each loop and function: no program runs for ever, or lets a list grow without end."""
        self._fuel -= 1
        if self._fuel < 0 or any(isinstance(each, list | str) and len(each) > 1000 for each in sys._getframe(1).f_locals.values()):
            raise Spent

    def __delitem__(self, key):
        if self.get(key) is self.before.get(key) and key in self.before:
            self.seen.add(key)
        super().__delitem__(key)


def fill(template, *parts):
    return st.tuples(*parts).map(lambda found: template.format(*found))


expressions = st.recursive(
    name | st.just("1"),
    lambda inner: st.one_of(
        fill("{} + {}", inner, inner),
        fill("({} and {})", inner, inner),
        fill("({} if {} else {})", inner, inner, inner),
        fill("{}({})", name, inner),
        fill("({} := {})", name, inner),
        fill("(lambda {}={}: {})", name, inner, inner),
        fill("[{} for {} in {} if {}]", inner, name, name, inner),
        fill("{{{}: {} for {} in {} for {} in {}}}", inner, inner, name, name, name, inner),
        fill("f'{{{}}}'", name),
        fill("{}.x", name),
    ),
    max_leaves=5,
)
simple = st.one_of(
    fill("{} = {}", name, expressions),
    fill("{} += {}", name, expressions),
    fill("{} = {} = {}", name, name, expressions),
    fill("{}, *{} = [{}, 2]", name, name, expressions),
    fill("{}: {} = {}", name, name, expressions),
    fill("del {}", name),
    fill("import os as {}", name),
    fill("{} = lambda {}: {}", name, name, expressions),
    expressions,
)


def indented(block):
    return textwrap.indent("\n".join(block), "    ")


def compound(inner):
    block = st.lists(inner, min_size=1, max_size=3).map(indented)
    return st.one_of(
        fill("if {}:\n{}\nelse:\n{}", expressions, block, block),
        fill("if {}:\n{}", expressions, block),
        fill("for {} in {}:\n    tick()\n{}\n    if {}: break\nelse:\n{}", name, name, block, name, block),
        fill("while {}:\n    tick()\n{}\n    if {}: continue\n    break", expressions, block, name),
        fill("while True:\n{}\n    break", block),
        fill("with {} as {}:\n{}", name, name, block),
        fill("try:\n{}\nexcept ValueError as {}:\n{}\nelse:\n{}\nfinally:\n{}", block, name, block, block, block),
        fill("try:\n{}\nexcept Exception:\n{}", block, block),
        fill(
            "match {}:\n    case [{}, {}]:\n{}\n    case {}:\n{}",
            expressions,
            st.just("a"),
            st.just("b"),
            block.map(indent),
            name,
            block.map(indent),
        ),
        fill("class {}:\n{}", name, block),
        fill("def {}({}={}):\n    global {}\n    tick()\n{}", name, st.just("q"), expressions, name, block),
        fill("def {}({}={}):\n    tick()\n{}\n    return {}", name, name, expressions, block, name),
        fill("@{}\ndef {}():\n    tick()\n{}", name, name, block),
    )


def indent(block):
    return textwrap.indent(block, "    ")


statements = st.recursive(simple, compound, max_leaves=12)
programs = st.lists(statements, min_size=1, max_size=6).map("\n".join)


def refuse(text):
    raise SyntaxError(text)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(programs, st.lists(st.integers(0, 5), min_size=5, max_size=5))
def test_what_a_program_sees_and_binds_was_announced(source, chances):
    try:
        code = compile(source, "cell", "exec")
    except SyntaxError:
        assume(False)
    turn = iter(range(10_000))
    notebook = Notebook(lambda: chances[next(turn, 0) % len(chances)])
    with contextlib.suppress(Exception, Spent):  # what it did until then counts
        exec(code, notebook)
    found = analyse(source, refuse)
    bound = {each for each in NAMES if each in notebook and notebook.get(each) is not notebook.before[each]}
    gone = {each for each in NAMES if each not in notebook}
    assert notebook.seen <= found.reads
    assert bound <= set(found.binds)
    assert gone <= found.deletes
    assert not found.unseen
