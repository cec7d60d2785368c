"""One run of `make fidelity`: documents through kernels, two or more at a time, verdicts into a table."""

from __future__ import annotations

import difflib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from fidelity.catalogue import CATALOGUE, Document, documents
from fidelity.explained import explanation
from fidelity.fetch import environment, source
from fidelity.kernels import Kernels, Ran, TooSlow
from fidelity.records import lines, records
from fidelity.rules import Verdict, compare

__all__ = ["Options", "check", "listing"]

_FEWEST_LOCAL_RUNS, _MOST_LOCAL_RUNS = 2, 5
_PATIENCE = 4.0  # how many times as long as the limit a remote run may take


@dataclass(frozen=True, slots=True)
class Options:
    """What to run: names that a document's must begin with (none: all), documents at a time, seconds for one local run."""

    only: tuple[str, ...] = ()
    jobs: int = 2
    limit: float = 90
    details: bool = False


@dataclass(slots=True)
class Found:
    """What became of one document: a verdict for each cell, or why it was left out."""

    document: Document
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: str = ""
    failed: int = 0
    silent: int = 0
    remote: int = 0
    """How many cells of the remote run bear a run record: they ran over there."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"local": [], "remote": []})
    """How long each run took, with the start and the end of its kernel."""

    def count(self) -> Counter[str]:
        """How many cells came to which verdict; explained differences count apart."""
        return Counter(self.verdict(index) for index in range(len(self.verdicts)))

    def verdict(self, index: int) -> str:
        """The verdict on a cell."""
        result = self.verdicts[index].result
        return "explained" if result == "different" and self.why(index) else result

    def why(self, index: int) -> str:
        """The title of the explanation for a cell, if there is one."""
        return explanation(self.document.name, self.document.cells[index], self.verdicts[index])


def _chosen(options: Options) -> Iterator[Document]:
    for entry in CATALOGUE:
        wanted = [name for name in options.only if name.startswith(entry.project) or entry.project.startswith(name)]
        if options.only and not wanted:
            continue
        for document in documents(entry, source(entry.project)):
            if not options.only or any(document.name.startswith(name) for name in options.only):
                yield document


def listing(options: Options) -> int:
    """Print the documents with their numbers of cells."""
    total = 0
    for document in _chosen(options):
        total += len(document.cells)
        print(f"{len(document.cells):5} {document.name}")
    print(f"{total:5} code cells")
    return 0


def check(options: Options) -> int:
    """Run everything and print it; returns the exit status."""
    print("fidelity: fetching what is missing (environment and source distributions) …", flush=True)
    python = environment()
    chosen = list(_chosen(options))
    kernels = Kernels(python)
    done: list[Found] = []
    start = time.monotonic()
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            futures: list[Future[Found]] = [pool.submit(_examine, kernels, document, options.limit) for document in chosen]
            try:
                for future in as_completed(futures):
                    done.append(future.result())
                    _report(done[-1], len(done), len(chosen), options)
            finally:
                kernels.stop()
                pool.shutdown(cancel_futures=True)
    finally:
        kernels.close()
    return _summary(done, time.monotonic() - start)


def _examine(kernels: Kernels, document: Document, limit: float) -> Found:
    """Local, remote, local; and local again, while cells differ that may only be new in each run."""
    found = Found(document)
    try:
        first = _ran(kernels, found, remote=False, limit=limit)
    except TooSlow:
        found.left_out = f"slower than {limit:g} s"
        return found
    found.failed = sum(cell.reply.get("status") != "ok" for cell in first)
    found.silent = sum(not cell.said for cell in first)
    here = [records(first)]
    try:
        ran = _ran(kernels, found, remote=True, limit=limit * _PATIENCE)
        there, found.remote = records(ran), sum(cell.remote for cell in ran)
    except (TooSlow, RuntimeError) as error:
        there = [[{"type": f"the remote run failed: {error!r}"}] for _ in document.cells]
    while len(here) < _FEWEST_LOCAL_RUNS or (
        len(here) < _MOST_LOCAL_RUNS and any(found.verdict(index) == "different" for index in range(len(here[0])))
    ):
        here.append(records(_ran(kernels, found, remote=False, limit=limit * _PATIENCE)))
        found.verdicts = [compare([run[index] for run in here], record) for index, record in enumerate(there)]
    return found


def _ran(kernels: Kernels, found: Found, *, remote: bool, limit: float) -> list[Ran]:
    start = time.monotonic()
    try:
        return kernels.run((found.document.before, *found.document.cells), remote=remote, limit=limit)[1:]
    finally:
        found.seconds["remote" if remote else "local"].append(time.monotonic() - start)


def _report(found: Found, number: int, of: int, options: Options) -> None:
    count = found.count()
    parts = [f"{count[name]} {name}" for name in ("same", "different", "explained", "not comparable") if count[name]]
    said = found.left_out or ", ".join(parts)
    times = ", ".join(f"{side} {' '.join(f'{each:.1f}' for each in taken)} s" for side, taken in found.seconds.items() if taken)
    print(f"[{number}/{of}] {found.document.name}: {said} ({times})", flush=True)
    shown = {"different", "explained", "not comparable"} if options.details else {"different"}
    for index, verdict in enumerate(found.verdicts):
        if found.verdict(index) in shown:
            _show(found, index, verdict)


def _show(found: Found, index: int, verdict: Verdict) -> None:
    print(f"  cell {index + 1}: {found.verdict(index)}  {found.why(index)}  rules: {', '.join(verdict.rules) or 'none'}")
    for line in found.document.cells[index].splitlines()[:12]:
        print(f"    | {line}")
    for line in _cut(difflib.unified_diff(lines(verdict.local), lines(verdict.remote), "local", "remote", lineterm="", n=2)):
        print(f"    {line}")


def _cut(said: Iterator[str], most: int = 60, width: int = 400) -> Iterator[str]:
    for number, line in enumerate(said):
        if number == most:
            yield "…"
            return
        yield line[:width]


def _summary(done: Sequence[Found], seconds: float) -> int:
    names = ("same", "different", "explained", "not comparable")
    table: dict[str, Counter[str]] = {}
    for found in done:
        row = table.setdefault(found.document.project, Counter())
        row += found.count()
        row.update(
            {"cells": len(found.verdicts), "failed": found.failed, "documents": not found.left_out, "left out": bool(found.left_out)}
        )
    total = sum(table.values(), Counter())
    heads = ("documents", "left out", "cells", *names, "failed")
    print("\n" + f"{'':14}" + "".join(f"{head:>16}" for head in heads))
    for project, row in [*sorted(table.items()), ("together", total)]:
        print(f"{project:14}" + "".join(f"{row[head]:>16}" for head in heads))
    print(f"\n{sum(found.remote for found in done)} of {total['cells']} cells ran over there in the remote run, as their run records say.")
    rules = Counter(name for found in done for verdict in found.verdicts for name in verdict.rules)
    print(f"'failed' are cells that end with an error in the local run, too; {sum(found.silent for found in done)} cells say nothing.")
    print("normalised: " + (", ".join(f"{name} in {count} cells" for name, count in rules.most_common()) or "nothing"))
    share = 100 * total["same"] / max(1, total["cells"] - total["not comparable"])
    print(f"{share:.2f} % of the comparable cells are the same; {seconds:.0f} s.")
    return 1 if total["different"] else 0
