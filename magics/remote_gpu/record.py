"""The run record: where and how one cell ran, as data that a frontend draws and as one line of text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Protocol

from remote_gpu.execution import Outcome, Result

__all__ = ["RECORD_MIME", "energy_of", "record_bundle"]

RECORD_MIME = "application/vnd.jupyter-remote-gpu.run+json"
_MINUTE, _HOUR = 60, 3600
_MOST_ENERGY, _MOST_GPUS = 1e9, 1024


class _Run(Protocol):
    facts: Mapping[str, Any]
    started: float
    ended: float | None
    outcome: Outcome | None
    began: bool
    detached: bool
    execution: Any


def record_bundle(run: _Run) -> dict[str, Any]:
    """The record of `run` as a mime bundle; times in seconds and ISO 8601 (UTC)."""
    state = _state(run)
    seconds = None if run.ended is None else max(0.0, run.ended - run.started)
    data = {
        **run.facts,
        "run_s": None if seconds is None else round(seconds, 3),
        "started": _iso(run.started),
        "ended": None if run.ended is None else _iso(run.ended),
        "lines": run.execution.lines,
        "complete": run.execution.complete,
        "state": state,
        "seq": [run.execution.first, run.execution.last],
    }
    if (energy := energy_of(run.execution.energy)) is not None:
        data["energy"] = energy
    return {RECORD_MIME: data, "text/plain": _text(data, seconds)}


def energy_of(said: Any) -> dict[str, Any] | None:
    """What a node said of a run's energy, as the record has it: watt hours with two digits, and how they were had. A node may say anything: None for what cannot be."""
    try:
        energy, gpus = float(f"{float(said['energy_wh']):.2g}"), int(said["gpus"])
        method, source = str(said["energy_method"])[:40], str(said["source"])[:120]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not 0 <= energy < _MOST_ENERGY or not 0 < gpus <= _MOST_GPUS:
        return None
    estimated = said.get("estimated") is not False
    return {"energy_wh": energy, "energy_method": method, "estimated": estimated, "gpus": gpus, "source": source}


def _state(run: _Run) -> str:
    if run.outcome is None:
        return "detached" if run.detached else "running" if run.began or run.execution.claimed else "queued"
    if run.outcome.result is Result.OK:
        return "done"
    if run.outcome.result is Result.DIED:
        return "lost"
    return "interrupted" if run.outcome.ename in ("KeyboardInterrupt", "Cancelled") else "failed"


def _text(data: Mapping[str, Any], seconds: float | None) -> str:
    parts = [str(data[name]) for name in ("cluster", "node", "gpu") if data.get(name)]
    if data["state"] not in ("running", "queued"):
        lines = data["lines"]
        parts.append(f"{lines} line{'' if lines == 1 else 's'}" + ("" if data["complete"] else ", not complete"))
    parts.append(_how(str(data["state"]), seconds))
    if (data.get("queued_s") or 0) >= 1:
        parts[-1] += f" after {duration(data['queued_s'])} of waiting"
    if energy := data.get("energy"):
        parts.append(f"{'about ' if energy['estimated'] else ''}{energy['energy_wh']:g} Wh{' (estimated)' if energy['estimated'] else ''}")
    if (data.get("names") or {}).get("text"):
        parts.append(data["names"]["text"])
    return " · ".join(parts)


def _how(state: str, seconds: float | None) -> str:
    if seconds is None:
        return {"detached": "left running", "queued": "waiting for its turn"}.get(state, state)
    return duration(seconds) if state == "done" else f"{state} after {duration(seconds)}"


def duration(seconds: float) -> str:
    """`seconds` as people say it: 0.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE)} s"
    return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE)} min"


def _iso(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="milliseconds")
