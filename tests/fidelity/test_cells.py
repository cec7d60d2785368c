"""How the documents of other projects become code cells."""

from __future__ import annotations

import json

from fidelity import cells
from fidelity.catalogue import CATALOGUE, Documents, documents
from fidelity.fetch import pins


def test_a_notebooks_code_cells_are_taken_as_they_are_and_empty_ones_left_out():
    content = [("code", ["%matplotlib inline\n", "x = 1"]), ("markdown", ["# title"]), ("code", [" \n"]), ("code", ["x"])]
    text = json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in content]})
    assert cells.notebook(text) == ["%matplotlib inline\nx = 1", "x"]


def test_a_gallery_script_is_split_at_its_breaks_without_docstring_and_prose():
    text = (
        '"""\nTitle\n=====\n"""\nimport os\n\n# %%\n# Prose, and\n# more.\n# \n\na = 1  # kept\n# kept, too\n'
        + "#" * 30
        + "\n# Prose\nb = 2\n"
    )
    assert cells.gallery(text) == ["import os", "a = 1  # kept\n# kept, too", "b = 2"]


def test_a_doctest_cell_ends_where_output_or_prose_begins():
    text = "    >>> a = 1\n    >>> a\n    1\n    >>> for i in b:\n    ...     print(i)\n    2\n\nProse.\n\n>>> c\n>>> d\n"
    assert cells.doctests(text) == ["a = 1\na", "for i in b:\n    print(i)", "c\nd"]


def test_each_ipython_prompt_is_a_cell():
    text = "    In [1]: def f():\n       ...:     return 1\n\n    In [2]: f()\n    Out[2]: 1\n\n    In [3]: !ls\n"
    assert cells.prompts(text) == ["def f():\n    return 1", "f()", "!ls"]


def test_myst_cells_lose_their_options():
    text = "Text\n```{code-cell}\n:tags: [hide]\n\nx = 1\n```\n```python\nno cell\n```\n````{code-cell} ipython3\ny = '''\n```\n'''\n````\n"
    assert cells.myst(text) == ["x = 1", "y = '''\n```\n'''"]


def test_an_ipython_directive_is_a_cell_or_the_prompts_in_it():
    text = (
        ".. ipython:: python\n   :okwarning:\n\n   x = 1\n   if x:\n       print(x)\n\nText\n\n.. ipython::\n\n   In [1]: a\n   In [2]: b\n"
    )
    assert cells.directives(text) == ["x = 1\nif x:\n    print(x)", "a", "b"]


def test_docstrings_come_in_the_order_of_the_file():
    text = 'class A:\n    """A.\n\n    >>> A()\n    """\n    def f(self):\n        """>>> 2"""\n\ndef g():\n    """>>> 3\n    3"""\n'
    assert cells.docstrings(text) == ["A()", "2", "3"]


def test_documents_that_load_data_from_elsewhere_and_cells_that_end_the_kernel_are_left_out(tmp_path):
    (tmp_path / "a.rst").write_text(">>> 1\n1\n>>> exit()\n\n>>> 2\n2\n")
    (tmp_path / "b.rst").write_text(">>> sns.load_dataset('x')\n")
    (tmp_path / "c.rst").write_text("nothing\n")
    (found,) = documents(Documents("p", "doctest", ("*.rst",), before="import x"), tmp_path)
    assert (found.name, found.cells) == ("p/a", ("1", "2"))
    assert found.before.endswith("\nimport x")


def test_every_project_of_the_catalogue_is_pinned():
    assert {entry.project for entry in CATALOGUE} <= pins().keys()
    assert len({entry.project for entry in CATALOGUE}) >= 6
