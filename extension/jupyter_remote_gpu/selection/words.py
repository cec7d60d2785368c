"""Durations and amounts in words."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["amount", "ago", "duration", "listed"]


def ago(seconds: float) -> str:
    """How long since: ``16 min``, the unit that leaves at least two."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


_UNITS = ((172800, 86400, "days"), (3600, 3600, "h"), (60, 60, "min"), (0, 1, "s"))
"""From how many seconds on a unit is used, and its seconds."""


def duration(seconds: float) -> str:
    """How long, to about two figures, for a prediction: ``10 s``, ``12 min``, ``1.5 h``, ``3 days``."""
    seconds = max(0.0, seconds)
    size, unit = next((size, unit) for least, size, unit in _UNITS if seconds >= least)
    number = f"{seconds / size:.1f}" if unit in ("h", "days") and seconds < 9.5 * size else f"{seconds / size:.0f}"
    return f"{number.removesuffix('.0')} {unit}"


def amount(number: int, noun: str) -> str:
    """``1 GPU``, ``2 GPUs``, ``no GPUs``."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    *rest, end = names
    return f"{', '.join(rest)} {last} {end}" if rest else end
