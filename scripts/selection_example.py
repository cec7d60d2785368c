"""The worked example of docs/explanation/selection.md: what a real ranking says of three made-up clusters, as text and as a figure.

``python scripts/selection_example.py`` writes docs/images/selection.svg and prints the text.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "magics"), str(ROOT / "extension")]

from jupyter_remote_gpu.carbon import lookup, rounded  # noqa: E402
from jupyter_remote_gpu.models import ResourceRequest  # noqa: E402
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool, Site, StartEstimate  # noqa: E402
from jupyter_remote_gpu.selection import Demand, Figure, History, Past, Rules, Selection, rank  # noqa: E402
from remote_gpu.gateway_infos import SelectionInfo  # noqa: E402
from remote_gpu.selection_text import duration, told  # noqa: E402

NOW = 1_795_780_800.0
FIGURE = ROOT / "docs" / "images" / "selection.svg"
_WIDTH, _LEFT, _ROW, _TOP, _BAR = 760, 130, 54, 46, 16
_COLOURS = {"wait": "#8da0cb", "start": "#fc8d62", "moving": "#e5c494", "run": "#66c2a5"}


def example() -> Selection:
    """Four hours on an H100 or better, with 20 GB of data that lies in Bristol: of three clusters, one is busy, one is slower, one is not allowed."""
    bristol = ClusterSnapshot(
        "bristol",
        "slurm",
        ClusterState.READY,
        pools=(Pool("hopper", "h100", 81920, 32, 0, 4, "x86_64", "cuda", nodes=8, pending_jobs=3, pending_gpus=6),),
        updated=NOW - 12,
        round_trip=0.004,
        site=Site("GB", cost=1.2, currency="GBP"),
        estimate=StartEstimate(2700, "sbatch --test-only"),
    )
    narval = ClusterSnapshot(
        "narval",
        "slurm",
        ClusterState.READY,
        pools=(Pool("gpubase", "a100", 40960, 600, 41, 4, "x86_64", "cuda", nodes=150),),
        updated=NOW - 9,
        round_trip=0.092,
        site=Site("CA", "CA-QC", internet=False, cost=0.9, currency="GBP"),
    )
    vulcan = ClusterSnapshot(
        "vulcan",
        "slurm",
        ClusterState.READY,
        pools=(Pool("gpu", "l40s", 49152, 820, 300, 4, "x86_64", "cuda", nodes=205),),
        updated=NOW - 11,
        round_trip=0.118,
        site=Site("CA", "CA-AB", internet=False),
    )
    demand = Demand(
        ResourceRequest(gpus=1, gpu_memory_mb=40000, time=6 * 3600),
        run_seconds=4 * 3600,
        run_on="a100",
        data_mb={"narval": 20_000, "vulcan": 20_000},
        exclude=("vulcan",),
    )
    clusters = (bristol, narval, vulcan)
    found = {each.name: lookup(each.site) for each in clusters}
    carbon = {
        name: Figure(rounded(grid.grams), "g CO₂e/kWh", grid.text.partition(" (")[2].rstrip(")")) for name, grid in found.items() if grid
    }
    past = History(
        Past("narval", "gpubase", 1, 21600, NOW - 9000 * n, NOW - 9000 * n + 20 + 3 * n, NOW - 9000 * n + 8000) for n in range(1, 30)
    )
    return rank(demand, clusters, past, Rules(carbon=carbon), NOW)


def figure(selection: Selection) -> str:
    """Bars of what the time to the result is made of, and the range that holds eight of ten, for each cluster that can run it."""
    able = [each for each in selection.candidates if each.total is not None]
    scale = (_WIDTH - _LEFT - 40) / max(each.total.high for each in able if each.total)
    height = _TOP + _ROW * len(able) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, (name, colour) in enumerate(_COLOURS.items()):
        parts.append(f'<rect x="{_LEFT + 110 * place}" y="14" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 110 * place + 18}" y="25">{name}</text>')
    for row, each in enumerate(able):
        y, x = _TOP + row * _ROW, float(_LEFT)
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 13}" text-anchor="end">{each.cluster}</text>')
        lasts = {"wait": each.wait.median if each.wait else 0.0}
        lasts |= {name: value.value or 0.0 for name in ("start", "moving", "run") if (value := getattr(each, name)) is not None}
        for name, seconds in lasts.items():
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{seconds * scale:.1f}" height="{_BAR}" fill="{_COLOURS[name]}"/>')
            x += seconds * scale
        total = each.total
        if total is None:
            continue
        low, high = _LEFT + total.low * scale, _LEFT + total.high * scale
        middle = y + _BAR + 8
        parts.append(
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" stroke="black" fill="none"/>'
        )
        parts.append(
            f'<text x="{low:.1f}" y="{middle + 17}" font-size="11">{duration(total.low)} to {duration(total.high)}, expected {duration(total.expected)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write the figure, and print the text."""
    selection = example()
    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_text(figure(selection), encoding="utf-8")
    data = selection.json()
    print(told(SelectionInfo(chosen=data["chosen"], sentence=data["sentence"], candidates=tuple(data["candidates"]))))


if __name__ == "__main__":
    main()
