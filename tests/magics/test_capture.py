"""Which names a cell reads, binds, changes, deletes and imports."""

from __future__ import annotations

import builtins
import warnings

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from remote_gpu.capture.analysis import Import, Names, analyse

transform = TransformerManager().transform_cell
BUILTINS = frozenset(dir(builtins))


def names(source: str) -> Names:
    return analyse(source, transform)


def words(found) -> str:
    return " ".join(sorted(set(found) - BUILTINS))


@pytest.mark.parametrize(
    ("source", "reads", "binds"),
    [
        ("", "", ""),
        ("x = y", "y", "x"),
        ("x = 1\ny = x", "", "x y"),
        ("x = x + 1", "x", "x"),
        ("x += 1", "x", "x"),
        ("x: int = y", "y", "x"),
        ("x: Kind", "Kind", ""),
        ("a, (b, *c), d.e, f[g] = h", "h d f g", "a b c"),
        ("[a, b] = 1, 2; a", "", "a b"),
        ("print(f'{x!r:{width}} {y + 1}')", "x width y", ""),
        ("f'{(z := x)}'; z", "x", "z"),
        ("for i in xs: total = i\ni, total", "xs i total", "i total"),
        ("for i in xs:\n  last = i\nelse:\n  last = 0\nlast", "xs", "i last"),
        ("for d['k'] in xs: pass", "d xs", ""),
        ("for i in xs:\n  if i: break\nelse:\n  e = 1\ne", "xs e", "e i"),
        ("while True:\n  x = f()\n  if x: break\nx", "f", "x"),
        ("while x:\n  y = 1\n  continue\n  z\ny", "x y", "y"),
        ("while (line := read()): text = line\nline, text", "read text", "line text"),
        ("if c: x = 1\nelse: x = 2\nx", "c", "x"),
        ("if c: x = 1\nx", "c x", "x"),
        ("if c: raise E\nelse: x = 2\nx", "c E", "x"),
        ("if c: y = 1\nelif d: y = 2\ny", "c d y", "y"),
        ("with open(p) as f, g as (h, k): x = f\nx", "p g x", "f h k x"),
        ("with open(p) as f: x = f\nx", "p", "f x"),
        ("with suppress(E): x = 1\nx", "suppress E x", "x"),
        ("async with a as b: pass\nasync for c in b: pass\nx = await c", "a c", "b c x"),
        ("try: x = f()\nexcept E as e: print(e)\nx", "f E x", "x e"),
        ("try: x = f()\nexcept E: x = 0\nx", "f E", "x"),
        ("try: x = f()\nexcept E: raise\nx", "f E", "x"),
        ("try: x = 1\nfinally: y = 1\nx, y", "", "x y"),
        ("try: x = f()\nexcept E: y = x\nelse: y = x\nfinally: z = x\nz", "f E x", "x y z"),
        ("try: f()\nexcept* E as g: g", "f E", "g"),
        ("import a.b, c.d as e\nfrom f import g, h as i\na, e, g, i", "", "a e g i"),
        ("def f(a, b=c, *d, e: g = h, **k) -> m: return a, b, d, e, k, n", "c g h m n", "f"),
        ("@deco(x)\ndef f(): pass", "deco x", "f"),
        ("def f(): return f()", "", "f"),
        ("def f(): return g\ng = 1", "", "f g"),
        ("def f(): return g\nf()\ng = 1", "g", "f g"),
        ("def f(): return g\nh(f)\ng = 1", "g h", "f g"),
        ("def f(): return h()\ndef h(): return g\nf()\ng = 1", "g", "f g h"),
        ("def f(): return h()\nf()\ndef h(): return g", "g h", "f h"),
        ("@now\ndef f(): return g\ng = 1", "now g", "f g"),
        ("if c:\n  g = 1\n  f()\n\ndef f(): return g\nf()", "c f g", "f g"),
        ("def f():\n  x = 1\n  def inner():\n    nonlocal x\n    x = y\n    return x\n  return inner", "y", "f"),
        ("def f():\n  return x\n  x = 1", "", "f"),
        ("def f():\n  x = 1\n  def inner():\n    global x\n    return x", "x", "f"),
        ("def f():\n  global g\n  g = h\n", "h", "f"),
        ("def f():\n  global g\n  g = h\nf()", "h", "f g"),
        ("def f():\n  for a in b: c = a\n  with d as e: pass\n  import k\n  return c, e, k", "b d", "f"),
        ("def f():\n  try: a\n  except E as e: e\n  del q", "a E", "f"),
        ("def f():\n  x: Never = y\n  return x", "y", "f"),
        ("def f():\n  class C:\n    a = b\n    def m(self): return c\n  return C", "b c", "f"),
        ("async def f():\n  async for a in b: yield await a", "b", "f"),
        ("def gen():\n  x = yield y\n  yield from z", "y z", "gen"),
        ("f = lambda a, b=c: a + b + d", "c d", "f"),
        ("f = lambda: g\ng = 1\nf()", "", "f g"),
        ("x = [lambda: g]\ng = 1", "g", "x g"),
        ("[a + b for a in c if d for e in a]", "b c d", ""),
        ("{a: b for a, b in c}; {a for a in d}; (a for a in e)", "c d e", ""),
        ("[x for x in x]", "x", ""),
        ("x = [last := a for a in b]\nlast", "b last", "x last"),
        ("[(a, b) for a in range(3) for b in [a]]", "", ""),
        ("(x := y) + x", "y", "x"),
        ("a and (b := c) and b\nb", "a b c", "b"),
        ("(a := 1) if c else (b := 2)\na", "a c", "a b"),
        ("assert a, (b := c)\nb", "a b c", "b"),
        ("0 < (a := f()) < (b := g())\na, b", "f g b", "a b"),
        ("class A(B, metaclass=M):\n  x = y\n  z = x\n  def m(self): return w, x", "B M y w x", "A"),
        ("class A:\n  x = x", "x", "A"),
        ("class A:\n  x = 1\n  y = [x for _ in x]", "x", "A"),
        ("class A:\n  global g\n  g = 1\ng", "", "A g"),
        ("class A:\n  def m(self): return g\ng = 1\nA().m()", "", "A g"),
        ("class A:\n  def m(self): return g\nA().m()\ng = 1", "g", "A g"),
        ("class A:\n  def helper(): return g\n  x = helper()\ng = 1", "g", "A g"),
        ("class A:\n  def m(self): return __secret", "_A__secret", "A"),
        ("class A:\n  class B:\n    y = z\n  w = B", "z", "A"),
        ("@dataclass\nclass P:\n  x: int = 0\n  y: T = x", "dataclass T", "P"),
        ("del x", "x", ""),
        ("x = 1\ndel x\nx", "", "x"),
        (
            "match p:\n  case [a, *b]: c = a\n  case {'k': d, **e}: c = d\n  case K(x=f) | K(y=f): c = f\n  case _: c = 0\nc",
            "p K",
            "a b c d e f",
        ),
        ("match p:\n  case [a] if a > q: r = 1\n  case 3 as s: pass\nr", "p q r", "a r s"),
        ("match p:\n  case M.x: pass", "p M", ""),
        ("match p:\n  case 1: c = 0\n  case 2: c = 1\nc", "p c", "c"),
        ("def f():\n  class C:\n    x = 1\n    def m(self): return x\n  return C", "x", "f"),
        ("x = 1; globals()['y'] = x; globals()['y']; globals()['z']", "z", "x y"),
        ("if 'x' not in globals(): x = 1\nx", "x", "x"),
        ("exec('a = b'); eval('c + a')", "b c", "a"),
        ("exec(code, {'a': b})", "code b", ""),
        ("df.query('a > @limit and b < @other.x')", "df limit other", ""),
        ("duckdb.sql('select * from table1 join Table2 using (id)')", "duckdb table1 Table2", ""),
        ("numexpr.evaluate('a * sin(b)')", "numexpr a sin b", ""),
        ("raise E(x)\ny = z", "E x", ""),
        ("x = 1; return x", "", "x"),
    ],
)
def test_reads_and_binds_follow_the_order_of_the_cell(source, reads, binds):
    found = names(source)
    assert (words(found.reads), words(found.binds)) == (words(reads.split()), words(binds.split()))
    assert not found.unseen


@pytest.mark.parametrize(
    ("source", "reads", "binds"),
    [
        ("%timeit -n 10 -r3 f(x)", "f x", ""),
        ("%timeit y = x", "x", ""),
        ("%timeit -o x", "x", ""),
        ("%%timeit z = a\nb = z + c", "a c", ""),
        ("%time y = x\ny", "x y", "y"),
        ("%%time\na = b\na", "b", "a"),
        ("%%time\na = b\n!ls $c", "b c", "a"),
        ("%%capture out --no-stderr\nx = y", "y", "out x"),
        ("%prun -l 5 f(x)", "f x", ""),
        ("!echo {x} $y.z $HOME {a[b]} {c:.2f}", "x y a b c HOME", ""),
        ("files = !ls $folder", "folder", "files"),
        ("if c:\n    !rm {x}", "c x", ""),
        ("def f(a):\n    !echo $a $b", "b", "f"),
        ("x?", "x", ""),
        ("?x.y", "x", ""),
        ("x.y??", "x", ""),
        ("%%bash --out text -s $x\necho $y {z}", "x", "text"),
        ("%%writefile {name}.txt\nfoo bar", "name", ""),
        ("%%R -i a,b -o c\nc <- a + b", "a b", "c"),
        ("%%unknown_magic\nx = y", "y", "x"),
        ("%%unknown_magic\nnot python at all", "", ""),
        ("%matplotlib inline\nplt.plot(x)", "plt x", ""),
        ("%cd {folder}", "folder", ""),
        ("%env A=$value", "value", ""),
        ("get_ipython().system('echo $x')", "x", ""),
    ],
)
def test_names_in_magics_and_shell_lines_are_seen(source, reads, binds):
    found = names(source)
    assert (words(found.reads), words(found.binds)) == (words(reads.split()), words(binds.split()))
    assert not found.unseen


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("x[0] = 1", "x"),
        ("x.a = x.b", "x"),
        ("x.a[0].b['c'] += 1", "x"),
        ("x += 1", "x"),
        ("x @= y", "x"),
        ("del x[0], y.a", "x y"),
        ("x[0], (y.a, *z[1:]) = w", "x y z"),
        ("for x[0] in y: pass", "x"),
        ("with a as b.c: pass", "b"),
        ("f(x).a = 1", ""),
        ("x = y[0]", ""),
        ("def f(a):\n  a[0] = 1\n  x[0] = 1\nf(y)", "x"),
        ("def f():\n  x[0] = 1", ""),
        ("def f():\n  global x\n  x += 1\nf()", "x"),
        ("class A:\n  y = {}\n  y['a'] = 1\n  x[0] = 1", "x"),
        ("x: int\nx.y: int = 3", "x"),
    ],
)
def test_changes_by_syntax_are_those_of_the_object_at_the_root(source, changes):
    assert words(names(source).changes) == words(changes.split())


@pytest.mark.parametrize(
    ("source", "deletes"),
    [
        ("del x, y", "x y"),
        ("del (a, [b]), c[0], d.e", "a b"),
        ("if c: del x", "x"),
        ("try: pass\nexcept E as e: pass", "e"),
        ("def f():\n  global g\n  del g\n  h = 1\n  del h\nf()", "g"),
        ("def f():\n  global g\n  del g", ""),
        ("class A:\n  x = 1\n  del x", ""),
        ("%xdel x", "x"),
    ],
)
def test_deletions_are_those_of_the_notebooks_names(source, deletes):
    assert words(names(source).deletes) == words(deletes.split())


def test_imports_are_found_wherever_they_stand():
    source = """\
import a, b.c, d.e as f
from g import h, i as j
from . import k
from ..m.n import o
def function():
    import p
class Class:
    import q
if x:
    importlib.import_module("r.s")
    __import__("t")
"""
    assert names(source).imports == (
        Import("a", "", "a"),
        Import("b.c", "", "b"),
        Import("d.e", "", "f"),
        Import("g", "h", "h"),
        Import("g", "i", "j"),
        Import(".", "k", "k"),
        Import("..m.n", "o", "o"),
        Import("p", "", ""),
        Import("q", "", ""),
        Import("r.s", "", ""),
        Import("t", "", ""),
    )


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("from numpy import *", "from numpy import *"),
        ("exec(code)", "exec(…)"),
        ("def f(): return eval(x)", "eval(…)"),
        ("globals().update(x)", "globals()"),
        ("vars()", "vars()"),
        ("%run script.py", "%run"),
        ("%%cython\ndef f(): pass", "%cython"),
        ("get_ipython().user_ns['x']", "get_ipython().user_ns"),
        ("get_ipython().run_line_magic(name, '')", "a magic that is put together when it runs"),
    ],
)
def test_what_hides_names_is_said(source, what):
    assert names(source).unseen == what


def test_objects_that_code_may_change_are_told():
    found = names("model.fit(x, y=z[0]); a.b.c.append(q + 1); w + v; f(*args, **options)")
    assert words(found.touches) == "a args model options x z"


def test_functions_tell_what_their_bodies_do_with_the_notebook():
    functions = names(
        "def f(a):\n  global count\n  count += 1\n  return a + g() + rate\nclass C:\n  def m(self): return f(device)"
    ).functions
    assert words(functions["f"].reads) == "count g rate"
    assert words(functions["f"].binds) == "count"
    assert words(functions["C"].reads) == "device f"
    assert set(functions) == {"f", "C"}


@pytest.mark.parametrize("source", ["x = (", "\0", "x = 1 +", "%%", "def", "'\\N{no such}'", "(" * 3000])
def test_a_cell_that_cannot_be_read_has_no_names(source):
    assert names(source).binds == ()


def test_a_tree_that_is_too_deep_still_gives_its_names():
    found = names("total = " + " + ".join(["x", "y"] * 2500))
    assert (words(found.reads), found.binds) in {("x y", ("total",)), ("", ())}  # newer parsers refuse it


def test_a_bad_escape_is_left_for_the_node_to_warn_of():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert words(names("x = '\\d'\ny").reads) == "y"
    assert not caught


def test_a_text_is_read_once_and_only_transformed_when_it_is_no_python():
    asked: list[str] = []

    def counting(text: str) -> str:
        asked.append(text)
        return str(transform(text))

    first = analyse("only_here = 17", counting)
    assert analyse("only_here = 17", counting) is first
    assert asked == []
    analyse("!echo $only_here_too", counting)
    analyse("!echo $only_here_too", counting)
    assert asked == ["!echo $only_here_too"]
