"""Names in the text of IPython's magics, shell lines and query strings. Pure; part of `capture`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["EVALUATING", "Said", "magic", "names_in_query"]

_EXPANDED = re.compile(r"\$([^\W\d]\w*)|\{([^{}]+)\}")  # what IPython replaces on a magic's line: $name and {expression}
_WORD = re.compile(r"[^\W\d]\w*")
_AT = re.compile(r"@([^\W\d]\w*)")
_TABLE = re.compile(r"\b(?:from|join)\s+([^\W\d]\w*)", re.IGNORECASE)
_KEPT = re.compile(r"(?:^|\s)--(?:out|err|proc)[ =]([^\W\d]\w*)")  # where %%bash keeps what it wrote
_RPY = re.compile(r"(?:^|\s)-([io])[ =]?([\w,]+)")

EVALUATING = frozenset({"query", "eval", "sql", "execute", "evaluate"})
"""Methods that look up names in a string: those of pandas (``@x``), of DuckDB (tables) and of numexpr."""

_RUNNING = frozenset({"time", "prun", "memit", "mprun", "lprun", "capture", "debug", "heat", "snakeviz", "pyinstrument"})
_ASKING = frozenset({"pinfo", "pinfo2", "pdef", "pdoc", "psource", "pfile", "edit", "store"})
_OPAQUE = frozenset({"run", "load", "loadpy", "pylab", "reset", "reset_selective", "macro", "recall", "rerun", "cython"})
_TEXT = frozenset(
    {
        "bash",
        "sh",
        "script",
        "system",
        "sx",
        "!",
        "perl",
        "ruby",
        "python",
        "python2",
        "python3",
        "pypy",
        "html",
        "HTML",
        "js",
        "javascript",
        "latex",
        "markdown",
        "svg",
        "SVG",
        "writefile",
        "file",
        "R",
        "sql",
    }
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a magic's text has in it: names that it reads, binds and deletes, and `code` that it runs.

    `own`: the code runs as the body of a function, after `setup` (``%timeit``), so that it binds nothing outside.
    `unseen` says what cannot be seen.
    """

    reads: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    code: str = ""
    setup: str = ""
    own: bool = False
    unseen: str = ""


def magic(method: str, arguments: Sequence[object]) -> Said:
    """What ``get_ipython().METHOD(…)`` says; `arguments` are its constant ones, with None for each that is not."""
    if method not in ("run_line_magic", "run_cell_magic"):
        return Said(_expanded(str(arguments[0]))) if method in ("system", "getoutput") and arguments else Said()
    texts = [each for each in arguments if isinstance(each, str)]
    if not texts or len(texts) < len(arguments):
        return Said(unseen="a magic that is put together when it runs")
    name, line, body = [*texts, "", ""][:3]
    if name in _OPAQUE:
        return Said(_expanded(line), unseen=f"%{name}")
    if method == "run_cell_magic":
        return _cell(name, line, body)
    if name == "timeit":
        return Said(_expanded(line), code=_statement(line), own=True)
    if name in _RUNNING:
        return Said(_expanded(line), code=_statement(line))
    if name in _ASKING:
        return Said(tuple(_WORD.findall(line)[:1]))
    if name == "xdel":
        return Said(deletes=tuple(_WORD.findall(line)[-1:]))
    return Said(_expanded(line))


def _cell(name: str, line: str, body: str) -> Said:
    if name == "timeit":
        return Said(_expanded(line), setup=_statement(line), code=body, own=True)
    if name == "capture":
        return Said(binds=tuple(word for word in line.split() if word.isidentifier())[:1], code=body)
    if name in _TEXT:
        asked = [(kind, each) for kind, names in _RPY.findall(line) for each in names.split(",")] if name == "R" else []
        kept = (*_KEPT.findall(line), *(each for kind, each in asked if kind == "o"))
        return Said((*_expanded(line), *(each for kind, each in asked if kind == "i")), kept)
    return Said(_expanded(line), code=body)


def _statement(line: str) -> str:
    """The code on the line of ``%timeit -n 10 code``: what is left when options and their values are dropped, as soon as it is Python."""
    words = line.strip()
    while words.startswith("-"):
        _, _, words = words.partition(" ")
        words = words.lstrip()
        value, _, rest = words.partition(" ")
        if rest and not value.startswith("-") and not _is_python(words):
            words = rest.lstrip()
    return words


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _expanded(line: str) -> tuple[str, ...]:
    found: list[str] = []
    for name, expression in _EXPANDED.findall(line):
        if name:
            found.append(name)
        elif _is_python(expression.strip()):
            found += _names(expression.strip())
        else:
            found += _WORD.findall(expression)[:1]  # {x:.2f}
    return tuple(dict.fromkeys(found))


def _names(text: str) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]


def names_in_query(method: str, text: str) -> list[str]:
    """The notebook's names that a string may mean that is given to a method of `EVALUATING`."""
    if method in ("query", "eval"):
        return [*_AT.findall(text), *(_TABLE.findall(text) if method == "query" else ())]
    if method == "evaluate":
        return _names(text) if _is_python(text) else []
    return _TABLE.findall(text)
