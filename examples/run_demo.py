"""Run `digits.ipynb` headlessly, save it with its outputs, and print what ran where: ``make demo``."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
EXECUTED = HERE / "executed"
RECORD = "application/vnd.jupyter-remote-gpu.run+json"


def mime(cell: Any, kind: str) -> list[Any]:
    """Everything of one mime type among a cell's outputs."""
    return [output["data"][kind] for output in cell.get("outputs", []) if kind in output.get("data", {})]


def line_about(cell: Any) -> str:
    """Where a cell ran, for how long, and what it brought."""
    first = cell["source"].splitlines()[0]
    records = mime(cell, RECORD)
    pictures = len(mime(cell, "image/png"))
    if not records:
        return f"  here     {first[:60]}"
    record = records[-1]
    whole = "complete" if record["complete"] else "INCOMPLETE"
    extra = f", {pictures} picture" if pictures else ""
    return f"  {record['cluster']:8} {record['node']} ({record['gpu']}), {record['run_s']:.2f} s, {record['lines']} lines, {whole}{extra}"


def main() -> int:
    """Execute, save, print the summary; returns the exit status."""
    notebook = nbformat.read(HERE / "digits.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(HERE)}}
    )
    started = time.perf_counter()
    failed = ""
    try:
        client.execute()
    except CellExecutionError as error:
        failed = str(error)
    EXECUTED.mkdir(exist_ok=True)
    nbformat.write(notebook, EXECUTED / "digits.ipynb")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, picture in enumerate(picture for cell in cells for picture in mime(cell, "image/png")):
        (EXECUTED / f"figure-{number}.png").write_bytes(base64.b64decode(picture))
    remote = [cell for cell in cells if mime(cell, RECORD)]
    print(f"{len(cells)} code cells, {len(remote)} of them remote, in {time.perf_counter() - started:.1f} s:")
    print("\n".join(line_about(cell) for cell in cells))
    print(f"Saved with its outputs: {(EXECUTED / 'digits.ipynb').relative_to(HERE.parent)}")
    if failed or not remote:
        print(failed or "No cell ran remotely.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
