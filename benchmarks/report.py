"""What a measurement is, and how it is shown: JSON lines in a file, a table on the terminal."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ipykernel", "ipython", "jupyter_client", "jupyter_server", "pyzmq", "ipyparallel", "distributed", "numpy", "pandas", "xxhash")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case: the median of `values` in `unit`, and its ratio to the `base` case of the same run."""

    case: str
    who: str
    unit: str
    values: tuple[float, ...]
    base: str = ""
    goal: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        """The median of all values."""
        return statistics.median(self.values)

    @property
    def bad(self) -> float:
        """The 95th percentile (the largest value when there are few)."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def versions() -> dict[str, str]:
    """Versions of what is compared, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def ratio(row: Row, rows: list[Row]) -> float | None:
    """`row`'s median over the median of its base case in the same run; None without one."""
    for other in rows:
        if other.case == row.case and other.who == row.base and other.median:
            return row.median / other.median
    return None


def table(rows: list[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| case | who | median | p95 | unit | n | ratio | goal | note |", "|---|---|---:|---:|---|---:|---|---|---|"]
    for row in rows:
        value = ratio(row, rows)
        shown = f"{value:.2f} × {row.base}" if value is not None else ""
        lines.append(
            f"| {row.case} | {row.who} | {row.median:.4g} | {row.bad:.4g} | {row.unit} | {len(row.values)} | {shown} | {row.goal} | {row.note} |"
        )
    return "\n".join(lines)


def save(rows: list[Row]) -> Path:
    """Append the rows as JSON lines to a new file of this run, beside machine and versions."""
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{stamp}.jsonl"
    machine = {"when": stamp, "cpus": os.cpu_count(), "system": platform.system(), "load1": os.getloadavg()[0], **versions()}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(machine) + "\n")
        for row in rows:
            file.write(json.dumps({**asdict(row), "median": row.median, "p95": row.bad, "ratio": ratio(row, rows)}) + "\n")
    return path
