"""Files and folders on the node."""

from __future__ import annotations

from typing import Any

from remote_gpu.data_frames import Reader

__all__ = ["Files"]


class Files:
    """A placeholder until files cross."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def taken(self) -> list[dict[str, Any]]:
        """What became of the files written since the last call."""
        return []

    def describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What is there."""
        return {"entries": []}

    def write(self, meta: dict[str, Any], reader: Reader, size: int) -> None:
        """A part of a file."""
        reader.skip(size)

    def read(self, meta: dict[str, Any], outgoing: int) -> None:
        """Send a file."""

    def close(self) -> None:
        """Let go of what is under way."""
