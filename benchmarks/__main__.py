"""Run the benchmarks and print their table: ``python -m benchmarks [--quick] [CASE …]``."""

from __future__ import annotations

import argparse
import importlib

from benchmarks.report import Row, save, table

CASES = ("cells", "capture", "names", "data", "starts", "memory", "widgets", "clusters", "far", "ways", "queues", "ranking", "snapshots")


def main() -> None:
    """Measure the chosen cases in one run; print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs, not to quote")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for name in chosen.cases or CASES:
        rows += importlib.import_module(f"benchmarks.{name}").measure(chosen.quick)
    print(table(rows))
    print(f"\nSaved: {save(rows)}")


if __name__ == "__main__":
    main()
