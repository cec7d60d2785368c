"""`%remote_gpu put` and `get`, and the `--files` of a cell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from remote_gpu.arguments import Place, VerbLine
from remote_gpu.sessions import Attached, Sessions
from remote_gpu.transfer.carriers import Carriers
from remote_gpu.transfer.files import Files, Moved
from remote_gpu.transfer.progress import Progress

__all__ = ["FilesVerbs"]


class FilesVerbs:
    """Those of one notebook kernel."""

    def __init__(self, sessions: Sessions, carriers: Carriers) -> None:
        self._sessions = sessions
        self._carriers = carriers

    def put(self, line: VerbLine) -> str:
        """Send a file or a folder; returns what became of it, in words."""
        return self._put(self._attached(line), line.words[0], *line.words[1:]).sentence()

    def get(self, line: VerbLine) -> str:
        """Bring a file or a folder; returns what became of it, in words."""
        files = Files(self._carriers.of(self._attached(line)))
        with Progress(f"getting {line.words[0]}") as progress:
            return files.get(line.words[0], *line.words[1:], progress=progress).sentence()

    def with_cell(self, attached: Attached, paths: Sequence[str]) -> None:
        """Send what a cell names after ``--files``: under the same path there, where it lies below the current folder."""
        for path in paths:
            self._put(attached, path, _place_of(path))

    def _put(self, attached: Attached, path: str, place: str = "") -> Moved:
        with Progress(f"putting {path}") as progress:
            return Files(self._carriers.of(attached)).put(path, place, progress)

    def _attached(self, line: VerbLine) -> Attached:
        return self._sessions.of_cell(Place(line.name))


def _place_of(path: str) -> str:
    """Where a local path goes: ``data/a.csv`` into ``data/``, what lies elsewhere into the working folder itself."""
    within = os.path.relpath(Path(path).expanduser().absolute())
    parent = "" if within.startswith("..") else str(Path(within).parent)
    return "" if parent in ("", ".") else f"{parent}/"
