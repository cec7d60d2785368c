"""Documents into code cells: notebooks, sphinx-gallery scripts, doctest and IPython prompts, MyST and IPython directives. Pure."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable, Iterator

__all__ = ["CONVERTERS", "directives", "docstrings", "doctests", "gallery", "myst", "notebook", "prompts"]

_GALLERY_BREAK = re.compile(r"# ?%%.*|#{20,}\s*")
_PROMPT = re.compile(r"(\s*)In ?\[\d+\]: ?(.*)")
_MORE = re.compile(r"\s*\.{3,}: ?(.*)")
_FENCE = re.compile(r"(`{3,})\{(?:code-cell|ipython|jupyter-execute)\}")
_DIRECTIVE = re.compile(r"(\s*)\.\. (?:ipython:: *(?:python)?|jupyter-execute::)\s*$")


def notebook(text: str) -> list[str]:
    """The code cells of an .ipynb file, magics and all; empty ones are left out."""
    cells = json.loads(text)["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return [source.strip("\n") for source in sources if source.strip()]


def gallery(text: str) -> list[str]:
    """The blocks of a sphinx-gallery script, which begin at ``# %%`` or a line of ``#``; the prose below such a line goes."""
    blocks: list[list[str]] = [[]]
    prose = False
    for line in _without_docstring(text).splitlines():
        if _GALLERY_BREAK.fullmatch(line):
            blocks.append([])
            prose = True
        elif not (prose := prose and line.startswith("#")):
            blocks[-1].append(line)
    return _full("\n".join(block) for block in blocks)


def _without_docstring(text: str) -> str:
    body = ast.parse(text).body
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return "\n".join(text.splitlines()[first.end_lineno :])
    return text


def doctests(text: str) -> list[str]:
    """``>>>`` prompts: a cell ends where the document shows output or goes on in prose, so that each shown result is a cell's."""
    cells: list[list[str]] = []
    following = False
    for line in text.splitlines():
        code = line.strip()
        if code == ">>>" or code.startswith(">>> "):
            if not following:
                cells.append([])
            cells[-1].append(code[4:])
            following = True
        elif following and (code == "..." or code.startswith("... ")):
            cells[-1].append(code[4:])
        else:
            following = False
    return _full("\n".join(cell) for cell in cells)


def prompts(text: str) -> list[str]:
    """``In [1]:`` prompts, each a cell."""
    cells: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if begins := _PROMPT.fullmatch(line):
            cells.append([begins[2]])
            inside = True
        elif inside and (more := _MORE.fullmatch(line)):
            cells[-1].append(more[1])
        else:
            inside = False
    return _full("\n".join(cell) for cell in cells)


def myst(text: str) -> list[str]:
    """The code cells of a MyST document (```` ```{code-cell} ````), without their options."""
    cells: list[list[str]] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            if line.strip() == fence:
                fence = ""
            else:
                cells[-1].append(line)
        elif begins := _FENCE.match(line.strip()):
            fence = begins[1]
            cells.append([])
    return _full("\n".join(_without_options(cell)) for cell in cells)


def directives(text: str) -> list[str]:
    """The content of ``.. ipython:: python`` directives, each a cell; what has prompts is split at them."""
    cells: list[str] = []
    lines = iter([*text.splitlines(), "end"])
    line = next(lines, None)
    while line is not None:
        begins = _DIRECTIVE.fullmatch(line)
        line = next(lines, None)
        if begins is None:
            continue
        block: list[str] = []
        while line is not None and (not line.strip() or line.startswith(begins[1] + " ")):
            block.append(line)
            line = next(lines, None)
        body = "\n".join(_without_options(textwrap.dedent("\n".join(block)).splitlines()))
        cells += prompts(body) or [body]
    return _full(cells)


def docstrings(text: str) -> list[str]:
    """The doctests in the docstrings of a module, its classes and functions, in the order of the file."""
    return [cell for found in _docstrings(ast.parse(text)) for cell in doctests(found)]


def _docstrings(tree: ast.AST) -> Iterator[str]:
    if isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (found := ast.get_docstring(tree)):
        yield found
    for child in ast.iter_child_nodes(tree):
        yield from _docstrings(child)


def _without_options(lines: list[str]) -> list[str]:
    """Drop a directive's options (``:tags: …``) at the top, and the one block of YAML between ``---`` that may stand for them."""
    rest = list(lines)
    if rest and rest[0].strip() == "---" and "---" in rest[1:]:
        return rest[rest.index("---", 1) + 1 :]
    while rest and (not rest[0].strip() or re.match(r"\s*:[\w-]+:|\s*@\w+", rest[0])):
        rest.pop(0)
    return rest


def _full(cells: Iterator[str] | list[str]) -> list[str]:
    """Those with code in them."""
    return [cell.strip("\n") for cell in cells if any(line.strip() and not line.lstrip().startswith("#") for line in cell.splitlines())]


CONVERTERS: dict[str, Callable[[str], list[str]]] = {
    "notebook": notebook,
    "gallery": gallery,
    "doctest": doctests,
    "prompts": prompts,
    "myst": myst,
    "directives": directives,
    "docstrings": docstrings,
}
"""What a document is → how its cells are found."""
