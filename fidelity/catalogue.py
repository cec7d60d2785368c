"""Which documents of which projects are run, and how their cells are found. What they need is in requirements.txt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fidelity.cells import CONVERTERS

__all__ = ["CATALOGUE", "Document", "Documents", "documents"]

_ENDS = re.compile(r"\s*(?:exit|quit)(?:\(\))?\s*")
_ONLINE = re.compile(
    r"load_dataset\(|fetch_\w+\(|get_rdataset\(|urlopen\(|urlretrieve\(|requests\.get\(|open_dataset\(|get_data\(|DataReader\("
)


@dataclass(frozen=True, slots=True)
class Documents:
    """Files of a source distribution (glob patterns) and their converter; at most `most` of them, in order of their names.

    `before` is a cell that the documentation takes for granted (its test set-up has it). Documents that match `without` are left out:
    they load data from elsewhere.
    """

    project: str
    converter: str
    patterns: tuple[str, ...]
    most: int = 1000
    before: str = ""
    without: re.Pattern[str] = _ONLINE


@dataclass(frozen=True, slots=True)
class Document:
    """One document as code cells; `name` is unique and made for people. `before` is run first and is not counted."""

    project: str
    name: str
    before: str
    cells: tuple[str, ...]


# numpy takes the function that seeds `default_rng()` from `secrets` when it is imported; no name of ours is left behind.
_SAME_CHANCE = """\
__import__("secrets").randbits = lambda bits: 12345
__import__("random").seed(0)
__import__("numpy").random.seed(0)"""
_NONE = re.compile(r"(?!)")
_ARRAYS = "import numpy as np"

CATALOGUE = (
    Documents("ipython", "prompts", ("docs/source/interactive/*.rst",)),
    Documents("matplotlib", "gallery", ("galleries/tutorials/*.py",)),
    Documents("matplotlib", "gallery", ("galleries/examples/pie_and_polar_charts/*.py", "galleries/examples/statistics/*.py"), most=10),
    Documents("networkx", "gallery", ("examples/basic/*.py", "examples/graph/*.py"), most=10),
    Documents("numpy", "doctest", ("doc/source/user/*.rst",), before=_ARRAYS),
    Documents("pandas", "docstrings", ("pandas/core/series.py", "pandas/core/frame.py"), before=_ARRAYS + "\nimport pandas as pd"),
    Documents("scikit-learn", "gallery", ("examples/tree/*.py", "examples/linear_model/*.py"), most=8),
    Documents("scikit-learn", "gallery", ("examples/miscellaneous/plot_*display*.py", "examples/compose/plot_[d-f]*.py"), most=4),
    Documents("scipy", "doctest", ("doc/source/tutorial/*.rst",), before=_ARRAYS),
    Documents("scipy", "myst", ("doc/source/tutorial/stats/*.md",), most=8),
    Documents("seaborn", "notebook", ("doc/_docstrings/*.ipynb", "doc/_tutorial/*.ipynb"), most=12),
    Documents("statsmodels", "notebook", ("examples/notebooks/*.ipynb",), most=12),
    Documents(
        "sympy", "doctest", ("doc/src/tutorials/intro-tutorial/*.rst",), before="from sympy import *\nx, y, z, t = symbols('x y z t')"
    ),
    Documents("tqdm", "notebook", ("DEMO.ipynb", "tests_notebook.ipynb"), without=_NONE),
    Documents("xarray", "myst", ("doc/user-guide/*.md",)),
)


def documents(chosen: Documents, root: Path) -> Iterator[Document]:
    """The documents of one entry in the unpacked source distribution at `root`; those without cells are left out.

    So are cells that end the kernel: there is nothing to compare after one.
    """
    found = [path for pattern in chosen.patterns for path in sorted(root.glob(pattern))]
    taken = 0
    for path in found:
        cells = [cell for cell in CONVERTERS[chosen.converter](path.read_text(encoding="utf-8")) if not _ENDS.fullmatch(cell)]
        if not cells or any(chosen.without.search(cell) for cell in cells) or taken == chosen.most:
            continue
        taken += 1
        name = f"{chosen.project}/{path.relative_to(root).with_suffix('')}"
        yield Document(chosen.project, name, f"{_SAME_CHANCE}\n{chosen.before}".strip(), tuple(cells))
