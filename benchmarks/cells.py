"""Warm cells: a no-op, many lines, many displays, and how soon a printed line is seen. Rival: ipyparallel's ``%%px``."""

from __future__ import annotations

import statistics

from benchmarks.notebook import Notebook, notebook, rounds
from benchmarks.report import Row

LOAD = "%load_ext remote_gpu"
WARM = "%%remote_gpu\npass"
PARALLEL = """\
import ipyparallel
cluster = ipyparallel.Cluster(n=1)
client = cluster.start_and_connect_sync()
view = client[:]
view.block = True
view.activate()"""
LINES, DISPLAYS = 100_000, 1_000
PRINT = f"for i in range({LINES}): print(i)"
SHOW = f"from IPython.display import HTML, display\nfor i in range({DISPLAYS}): display(HTML(str(i)))"
TICK = "import time\nfor i in range(30):\n    time.sleep(0.3); print(time.time())"


def _printed(book: Notebook, code: str) -> float:
    run = book.run(code)
    count = sum(text.count("\n") for text in (*run.text, *run.shown.values()))
    if count < LINES:
        message = f"only {count} of {LINES} lines arrived"
        raise RuntimeError(message)
    return run.total


def _shown(book: Notebook, code: str) -> float:
    run = book.run(code)
    if run.displays < DISPLAYS:
        message = f"only {run.displays} of {DISPLAYS} displays arrived"
        raise RuntimeError(message)
    return run.total


def _seen(book: Notebook, code: str) -> tuple[float, ...]:
    """Milliseconds from print() to the client, for each line (same machine, same clock)."""
    delays = []
    for when, text in book.run(code).arrivals:
        delays += [(when - float(line)) * 1000 for line in text.split() if line.replace(".", "").isdigit()]
    return tuple(delays)


def measure(quick: bool = False) -> list[Row]:
    """All warm-cell cases; `quick` takes few rounds."""
    many, few = (30, 2) if quick else (200, 5)
    rows: list[Row] = []
    with notebook() as plain, notebook(LOAD, WARM) as ours, notebook(PARALLEL) as rival:
        books = {"plain ipykernel": (plain, ""), "remote_gpu": (ours, "%%remote_gpu\n"), "ipyparallel %%px": (rival, "%%px --stream\n")}

        def case(name: str, unit: str, scale: float, count: int, run, code: str, goal: str) -> None:  # type: ignore[no-untyped-def]
            cases = {who: (lambda book=book, prefix=prefix: run(book, prefix + code) * scale) for who, (book, prefix) in books.items()}
            for who, values in rounds(count, cases, warm_up=min(count, 3)).items():
                base = "" if who == "plain ipykernel" else "plain ipykernel"
                rows.append(Row(name, who, unit, values, base, goal if who == "remote_gpu" else ""))
            mine, theirs = (statistics.median(row.values) for row in rows[-2:])
            rows.append(Row(name, "remote_gpu / %%px", "ratio", (mine / theirs,)))

        case("no-op cell, warm", "ms", 1000, many, lambda book, code: book.run(code).total, "pass", "≤ 2.5 × plain, ≤ 1.1 × %%px")
        case(f"print {LINES:,} lines", "s", 1, few, _printed, PRINT, "≤ 2 × plain, ≤ 1 × %%px")
        case(f"{DISPLAYS:,} displays", "s", 1, few, _shown, SHOW, "≤ 2 × plain, ≤ 1 × %%px")
        for who, (book, prefix) in list(books.items())[:2]:
            goal = "≤ 25 ms" if who == "remote_gpu" else ""
            rows.append(Row("printed line is seen", who, "ms", _seen(book, prefix + TICK), "plain ipykernel" if goal else "", goal))
        ours.run("%remote_gpu stop")
        rival.run("cluster.stop_cluster_sync()")
    return rows
