"""What ``jupyter remote-gpu`` prints: results to stdout, everything that is no result to stderr; tables whose columns stand below each other."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["duration", "note", "print_json", "print_table", "say"]

_NARROWEST = 30
_MINUTE, _HOUR = 60, 3600


def say(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line beside the result: what is being done, or what is wrong."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_json(value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> int:
    """`value`, for programs; returns the exit status of having done so."""
    say(json.dumps(value, indent=2, default=str))
    return 0


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Columns below their heads; a last column that is too wide for the terminal goes on below itself. Returns the exit status 0."""
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    left = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(_NARROWEST, shutil.get_terminal_size((160, 24)).columns - left)
    for row in table:
        begin = "  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False))
        first, *more = textwrap.wrap(row[-1], room) or [""]
        say(f"{begin}  {first}".rstrip())
        for line in more:
            say(f"{'':{left}}{line}")
    return 0


def duration(seconds: float) -> str:
    """A time in words: 0.4 s, 3 min 20 s, 4 h, 1 h 30 min."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    units = ((seconds // _HOUR, "h"), (seconds % _HOUR // _MINUTE, "min"), (seconds % _MINUTE if seconds < _HOUR else 0, "s"))
    return " ".join(f"{int(number)} {unit}" for number, unit in units if int(number))
