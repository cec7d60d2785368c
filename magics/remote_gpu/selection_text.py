"""A selection as text: its sentence, a table of what to expect of each cluster, and where each number is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remote_gpu.gateway_infos import SelectionInfo
from remote_gpu.tables import table

__all__ = ["told"]

_HEADS = ("cluster", "pool", "runs after", "result in", "cost", "carbon", "distance")
_UNITS = ((172800, 86400, "d"), (3600, 3600, "h"), (60, 60, "min"), (0, 1, "s"))
_TERMS = ("start", "moving", "run", "cost", "carbon", "distance")
_DIGITS = 2


def told(selection: SelectionInfo) -> str:
    """All of it."""
    can = [each for each in selection.candidates if each.get("eligible")]
    cannot = [each for each in selection.candidates if not each.get("eligible")]
    parts = [selection.sentence + "\n"]
    if can:
        parts.append("\n" + table(_HEADS, [_row(each) for each in can]))
        parts += [f"{line}\n" for each in can for line in _sources(each)]
    if cannot and can:
        parts.append("\n" + table(("cannot", "because", "it could with"), [_against(each) for each in cannot]))
    if selection.id:
        parts.append(f"\nSelection {selection.id}.\n")
    return "".join(parts)


def _row(candidate: Mapping[str, Any]) -> Sequence[str]:
    wait, total = candidate.get("wait") or {}, candidate.get("total") or {}
    return (
        str(candidate["cluster"]),
        str(candidate.get("pool") or ""),
        _range(wait),
        _range(total),
        *(_figure(candidate.get(term)) for term in ("cost", "carbon", "distance")),
    )


def _range(spread: Mapping[str, Any]) -> str:
    """The middle, and the range that holds eight of ten."""
    if not spread:
        return "?"
    low, middle, high = (duration(float(spread[name])) for name in ("low", "median", "high"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _figure(figure: Mapping[str, Any] | None) -> str:
    if not figure or figure.get("value") is None:
        return "?"
    value = float(f"{float(figure['value']):.{_DIGITS}g}")
    return f"{value:g} {figure.get('unit', '')}".rstrip()


def _sources(candidate: Mapping[str, Any]) -> Iterator[str]:
    wait = candidate.get("wait") or {}
    said = [f"wait: {wait['source']}"] if wait.get("source") else []
    said += [f"{term}: {figure['source']}" for term in _TERMS if (figure := candidate.get(term)) and figure.get("source")]
    yield f"  {candidate['cluster']}: {'; '.join(said)}."


def _against(candidate: Mapping[str, Any]) -> Sequence[str]:
    return str(candidate["cluster"]), ", ".join(candidate.get("reasons") or ()), ", ".join(candidate.get("remedies") or ())


def duration(seconds: float) -> str:
    """How long, to about two figures: ``10 s``, ``12 min``, ``1.5 h``, ``3 d``."""
    seconds = max(0.0, seconds)
    size, unit = next((size, unit) for least, size, unit in _UNITS if seconds >= least)
    number = f"{seconds / size:.1f}" if unit in ("h", "d") and seconds < 9.5 * size else f"{seconds / size:.0f}"
    return f"{number.removesuffix('.0')} {unit}"
