"""What names cost a warm cell: a changed variable of 1 KB, and 1,000 variables that did not change. Differences within one run."""

from __future__ import annotations

from benchmarks.notebook import Notebook, notebook, rounds
from benchmarks.report import Row

LOAD = "%load_ext remote_gpu"
MANY = 1000
_ALL = f"[{', '.join(f'many_{n}' for n in range(MANY))}]; None"
_MAKE = f"for _n in range({MANY}): globals()[f'many_{{_n}}'] = [_n, str(_n), [_n, None], {{'n': _n}}][_n % 4]"


def _timed(book: Notebook, code: str, before: str = "") -> float:
    if before:
        book.run(before)
    return book.run(code).total * 1000


def measure(quick: bool = False) -> list[Row]:
    """All cases; `quick` takes few rounds."""
    count = 10 if quick else 100
    with notebook(LOAD, "%%remote_gpu\npass", "small = 'x' * 1000; turn = 0", _MAKE, f"%%remote_gpu\nsmall\n{_ALL}") as book:
        changed = "turn += 1; small = str(turn).rjust(1000)"
        found = rounds(
            count,
            {
                "nothing": lambda: _timed(book, "%%remote_gpu\nNone", changed),
                "1 KB": lambda: _timed(book, "%%remote_gpu\nsmall; None", changed),
                "bound": lambda: _timed(book, "%%remote_gpu\nback = 'y' * 1000", changed),
                "1,000": lambda: _timed(book, f"%%remote_gpu\n{_ALL}"),
                "1,000 not looked at": lambda: _timed(book, f"%%remote_gpu --no-sync\n{_ALL}"),
            },
        )

    def more(one: str, other: str) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(found[one], found[other], strict=True))

    return [
        Row("warm cell that reads nothing", "remote_gpu", "ms", found["nothing"]),
        Row("added by a changed variable of 1 KB", "remote_gpu", "ms", more("1 KB", "nothing"), goal="≤ 1.5 ms"),
        Row("added by a variable of 1 KB that comes back", "remote_gpu", "ms", more("bound", "nothing"), goal="≤ 1.5 ms"),
        Row(f"added by {MANY:,} unchanged variables", "remote_gpu", "ms", more("1,000", "1,000 not looked at"), goal="≤ 10 ms"),
    ]
