"""Functions of the notebook on the node: its names are their globals, and they stay what they are."""

from __future__ import annotations

import pytest
from tests.fakes.other_side import NearNode, Notebook


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


@pytest.fixture
def node(monkeypatch, notebook):
    return NearNode(monkeypatch)


both = pytest.mark.parametrize("same_python", [True, False], ids=["as bytecode", "as source text"])


@both
def test_a_function_uses_the_names_of_the_node_and_sees_a_later_definition(notebook, node, same_python):
    notebook.cell("k = 3\ndef f(x):\n    return g(x) * k\ndef g(x): return x + 1")
    assert notebook.encoded("f").needs == {"f", "g", "k"}
    notebook.send(node, "f", same_python=same_python)
    node.run("k = 10\ndef g(x): return x")
    assert node["f"](2) == 20
    node.run("def g(x): return 1")
    assert node["f"](2) == 10
    assert node["f"].__globals__ is node.names


@both
def test_functions_that_call_each_other_are_one_world_there(notebook, node, same_python):
    notebook.cell("def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)")
    notebook.send(node, "even", "odd", same_python=same_python)
    assert node["even"](10) is True
    notebook.cell("def odd(n):\n    return 'new'")
    notebook.send(node, "odd", same_python=same_python)
    assert node["even"](3) == "new"


@both
def test_defaults_annotations_and_attributes_stay(notebook, node, same_python):
    notebook.cell('def f(a: int, b=[1], *, c: str = "x", **rest) -> bool:\n    "says"\n    return a, b, c, rest\nf.note = 1')
    notebook.send(node, "f", same_python=same_python)
    f = node["f"]
    assert f(0, z=2) == (0, [1], "x", {"z": 2})
    assert (f.__doc__, f.note, f.__annotations__, f.__name__) == ("says", 1, {"a": int, "c": str, "return": bool}, "f")


@both
def test_closures_share_their_variables(notebook, node, same_python):
    notebook.cell(
        "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    def get():\n        return n\n"
        "    return up, get\nup, get = make()\nup()"
    )
    notebook.send(node, "up", "get", same_python=same_python)
    assert node["up"]() == 2
    assert node["get"]() == 2
    assert notebook.names["get"]() == 1


@both
def test_a_closure_may_call_itself(notebook, node, same_python):
    notebook.cell("def make():\n    def fac(n):\n        return 1 if n == 0 else n * fac(n - 1)\n    return fac\nfac = make()")
    notebook.send(node, "fac", same_python=same_python)
    assert node["fac"](5) == 120


@both
def test_lambdas_cross(notebook, node, same_python):
    notebook.cell("k = 2\ntwice = lambda x: x * k\ntable = {'a': lambda: 1,\n         'b': [lambda v, *, w=3: (v, w)]}")
    notebook.send(node, "k", "twice", "table", same_python=same_python)
    assert (node["twice"](4), node["table"]["a"](), node["table"]["b"][0](1)) == (8, 1, (1, 3))


@both
def test_decorated_functions_keep_what_was_wrapped_around_them(notebook, node, same_python):
    notebook.cell(
        "import functools\n"
        "def loud(function):\n    @functools.wraps(function)\n    def inner(*a):\n        return function(*a) + '!'\n    return inner\n"
        "@loud\ndef f(x):\n    return helper(x)\ndef helper(x):\n    return f'<{x}>'\n"
        "@functools.lru_cache(maxsize=7)\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "@functools.singledispatch\ndef kind(x):\n    return 'any'\n@kind.register\ndef _(x: int):\n    return 'int'\n"
        "part = functools.partial(helper, 5)"
    )
    parcel = notebook.encoded("f", same_python=same_python)
    assert "helper" in parcel.needs
    notebook.send(node, "f", "helper", "fib", "kind", "part", same_python=same_python)
    assert node["f"](1) == "<1>!"
    assert node["f"].__name__ == "f"
    assert node["fib"](20) == 6765
    assert node["fib"].cache_parameters()["maxsize"] == 7
    assert (node["kind"]("a"), node["kind"](1)) == ("any", "int")
    assert node["part"]() == "<5>"


def test_what_modules_define_goes_by_name_and_the_modules_are_told(notebook, node):
    notebook.cell(
        "import json, collections, os.path\nfrom textwrap import dedent\nvalues = [dedent, collections.OrderedDict, json]\nlen_ = len"
    )
    parcel = notebook.encoded("values")
    assert {"textwrap", "collections", "json"} <= parcel.modules
    notebook.send(node, "values", "len_")
    assert node["values"] == notebook.names["values"]
    assert node["len_"] is len


def test_a_function_imports_the_modules_that_it_reaches_through_their_package(notebook, node):
    import sys

    notebook.cell("import xml\nimport xml.etree.ElementTree\ndef f():\n    return xml.etree.ElementTree.fromstring('<a/>').tag")
    parcel = notebook.encoded("f", "xml")
    assert "xml.etree.ElementTree" in parcel.modules
    notebook.send(node, "f", "xml")
    assert node["f"]() == "a"
    assert "xml.etree.ElementTree" in sys.modules


def test_a_function_of_names_that_are_no_modules_brings_copies_of_what_it_uses(notebook, node):
    notebook.cell("k = 0\nspace = {'k': 5}\nexec('def f(): return k + g()\\ndef g(): return 1', space)\nf, g = space['f'], space['g']")
    notebook.send(node, "f", "g")
    assert node["f"]() == 6
    assert node["f"].__globals__ is not node.names


def test_the_notebooks_own_module_is_the_one_over_there(notebook, node):
    notebook.cell("import __main__ as here")
    notebook.send(node, "here")
    import sys

    assert node["here"] is sys.modules["__main__"]


def test_needs_follow_closures_methods_nested_functions_and_class_bodies(notebook):
    notebook.cell(
        "a = b = c = d = e = 1\n"
        "def outer():\n    def inner():\n        class Local:\n            x = a\n            def method(self):\n                return b\n        return Local\n"
        "    return inner\n"
        "class Model:\n    def run(self):\n        return [c for _ in range(1)]\n    go = staticmethod(lambda: d)\n"
        "values = {'k': [outer(), Model()]}"
    )
    assert notebook.encoded("values").needs == {"a", "b", "c", "d", "Model"}


def test_compiled_code_is_refused_for_another_python(notebook):
    notebook.cell("code = compile('1', 'x', 'eval')\nexec('def f(): return 1')\ng = eval('lambda: 0')")
    refused = notebook.encoded("code", "f", same_python=False).refused
    assert "compiled code, and the node has another version of Python" in refused["code"]
    assert "its source text is not known" in refused["f"]


def test_lambdas_in_one_line_are_told_apart(notebook, node):
    notebook.cell("a, b, c = lambda x: x + 1, lambda x: x + 2, [lambda: (lambda y: y * 3)]")
    notebook.send(node, "a", "b", "c", same_python=False)
    assert (node["a"](0), node["b"](0), node["c"][0]()(2)) == (1, 2, 6)


def test_indented_functions_with_odd_text_cross_as_source(notebook, node):
    notebook.cell('def make():\n    if True:\n        def f():\n            return """a\n b\n"""\n    return f\nf = make()')
    notebook.send(node, "f", same_python=False)
    assert node["f"]() == "a\n b\n"


def test_a_traceback_over_there_names_the_notebooks_line(notebook, node):
    import traceback

    notebook.cell("x = 1\n\ndef make():\n    def f():\n        return 1 / 0\n    return f\nf = make()")
    for same_python in (True, False):
        notebook.send(node, "f", same_python=same_python)
        with pytest.raises(ZeroDivisionError) as caught:
            node["f"]()
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert (last.lineno, last.filename) == (5, notebook.names["f"].__code__.co_filename)


def test_the_parts_of_cloudpickle_that_this_builds_on_are_there():
    """Fails first, and clearly, when cloudpickle changes what it keeps private."""
    from cloudpickle import cloudpickle

    for name in (
        "_class_reduce",
        "_class_setstate",
        "_dynamic_class_reduce",
        "_get_or_create_tracker_id",
        "_lookup_class_or_track",
        "_lookup_module_and_qualname",
        "_make_skeleton_enum",
        "_should_pickle_by_reference",
        "_BUILTIN_TYPE_NAMES",
        "_DYNAMIC_CLASS_TRACKER_BY_ID",
        "subimport",
    ):
        assert hasattr(cloudpickle, name), f"cloudpickle has no {name} any more; see remote_gpu.codec.pickler and remote_gpu.node.builders"

    class Example:
        pass

    maker, arguments, state, *_, setter = cloudpickle._dynamic_class_reduce(Example)
    assert (maker, setter) == (cloudpickle._make_skeleton_class, cloudpickle._class_setstate)
    meta, name, bases, keywords, tracker, extra = arguments
    assert (meta, name, bases, extra) == (type, "Example", (object,), None)
    assert keywords == {"__module__": __name__}
    assert isinstance(tracker, str)
    assert isinstance(state[0], dict)
    assert hasattr(cloudpickle.Pickler, "_dynamic_function_reduce")
    assert hasattr(cloudpickle.Pickler, "_dispatch_table")
