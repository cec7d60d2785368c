"""The table of `%remote_gpu vars`: names of both sides with type, shape, size, and where they are."""

from __future__ import annotations

import contextlib
import html as markup
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remote_gpu.summary import amount

__all__ = ["HEADS", "Row", "columns", "html", "row_from", "row_of", "rows", "table"]

HEADS = ("name", "type", "shape", "size", "where")
"""Of the columns."""

_LONGEST = 60
_SIZED = (str, bytes, bytearray, int, float, complex, bool, type(None))


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one value: `type` as people name it, `shape` of an array or a table, `size` in bytes.

    `handle` is true of a name whose local value only stands for the remote one.
    """

    type: str
    shape: tuple[int, ...] | None = None
    size: int | None = None
    handle: bool = False


def row_of(value: object) -> Row:
    """What is known of a local value. It is looked at, not gone through; nothing is raised."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    size: int | None = sys.getsizeof(value) if kind in _SIZED else None
    shape: tuple[int, ...] | None = None
    with contextlib.suppress(Exception):  # a value's own attributes
        sides = getattr(value, "shape", None)
        if sides is not None and not isinstance(value, type):
            shape = tuple(int(side) for side in sides)
            name += f" {dtype}" if (dtype := getattr(value, "dtype", None)) is not None else ""
            size = _bytes(value)
    return Row(name[:_LONGEST], shape, size)


def row_of_handle(value: Any) -> Row:
    """What is known of a handle, without asking the node."""
    facts = value._facts  # noqa: SLF001  a handle's own attributes would be asked for there
    return replace(row_from({"type": facts.type, "dtype": facts.dtype, "shape": facts.shape, "size": facts.size}), handle=True)


def row_from(entry: Mapping[str, Any], *, handle: bool = False) -> Row:
    """What a node says of a value: ``type``, ``shape``, ``dtype``, ``device``, ``size``. It is text to be shown, whatever it is."""
    name = " ".join(str(entry[key]) for key in ("type", "dtype") if entry.get(key))
    if entry.get("device") not in (None, "", "cpu"):
        name += f" on {entry['device']}"
    shape, size = entry.get("shape"), entry.get("size")
    sides = tuple(each for each in shape if isinstance(each, int)) if isinstance(shape, list | tuple) else None
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return Row(printable[:_LONGEST] or "object", sides, size if isinstance(size, int) else None, handle)


def rows(local: Mapping[str, Row], remote: Mapping[str, Row], differs: Collection[str] = ()) -> list[tuple[str, ...]]:
    """One line per name in alphabetical order, as texts under `HEADS`.

    Where it is: ``here``, ``there``, ``both`` (the same as far as is known), ``differs`` (both have it, and `differs` names it or
    the facts say so), ``handle`` (it is there, and its name here stands for it).
    """
    return [_line(name, local.get(name), remote.get(name), name in differs) for name in sorted(local.keys() | remote.keys(), key=str.lower)]


def table(local: Mapping[str, Row], remote: Mapping[str, Row], differs: Collection[str] = ()) -> str:
    """The rows as text in columns; each line ends with a newline."""
    found = rows(local, remote, differs)
    return columns(HEADS, found) if found else "No variables, neither here nor there.\n"


def html(local: Mapping[str, Row], remote: Mapping[str, Row], differs: Collection[str] = ()) -> str:
    """The rows as a table for a notebook; all texts are escaped."""
    lines = [f"<tr>{_cells('th', HEADS)}</tr>", *(f"<tr>{_cells('td', row)}</tr>" for row in rows(local, remote, differs))]
    return f"<table>{''.join(lines)}</table>"


def columns(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Rows as text in columns."""
    cells = [[str(each) for each in row] for row in (heads, *lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return "".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in cells)


def _line(name: str, here: Row | None, there: Row | None, changed: bool) -> tuple[str, ...]:
    if here is not None and here.handle:
        return (name, *_facts(there or here), "handle")
    if here is None or there is None:
        known = here or there or Row("")
        return (name, *_facts(known), "there" if here is None else "here")
    if not changed and here.shape == there.shape and _root(here) == _root(there):
        return (name, *_facts(here), "both")
    both = (
        ours if ours == theirs else f"{ours or '–'} here, {theirs or '–'} there"
        for ours, theirs in zip(_facts(here), _facts(there), strict=True)
    )
    return (name, *both, "differs")


def _facts(row: Row) -> tuple[str, str, str]:
    shape = "" if row.shape is None else f"({', '.join(map(str, row.shape))}{',' if len(row.shape) == 1 else ''})"
    return row.type, shape, "" if row.size is None else amount(row.size)


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f'<{tag} style="text-align: left">{markup.escape(text)}</{tag}>' for text in texts)


def _bytes(value: Any) -> int | None:
    if hasattr(value, "memory_usage"):  # pandas
        usage = value.memory_usage()
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    if hasattr(value, "estimated_size"):  # polars
        return int(value.estimated_size())
    if hasattr(value, "element_size"):  # torch
        return int(value.element_size() * value.numel())
    size = getattr(value, "nbytes", None)
    return int(size) if isinstance(size, int) else None


def _root(row: Row) -> tuple[str, str]:
    """The type's own name and the dtype: the modules before may differ between versions of a package, the device between sides."""
    kind, _, dtype = row.type.partition(" on ")[0].partition(" ")
    return kind.rpartition(".")[2], dtype
