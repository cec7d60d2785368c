"""The recorded outputs, by version and name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
VERSIONS = sorted(file.parent.name for file in HERE.glob("*/commands.json"))


@dataclass(frozen=True)
class Recording:
    """What a command printed, and how it ended."""

    argv: list[str]
    status: int
    out: str
    err: str


def recorded(version: str, name: str) -> Recording:
    index = json.loads((HERE / version / "commands.json").read_text())[name]
    out, err = (_text(HERE / version / f"{name}.{end}") for end in ("out", "err"))
    return Recording(index["argv"], index["status"], out, err)


def names(version: str, prefix: str) -> list[str]:
    index = json.loads((HERE / version / "commands.json").read_text())
    return [name for name in index if name.startswith(prefix)]


def ended_jobs(version: str) -> dict[str, str]:
    """What became of a job → its id."""
    return dict(json.loads((HERE / version / "ends.json").read_text()))


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
