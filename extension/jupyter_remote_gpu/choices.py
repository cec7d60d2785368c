"""Which cluster the user chose for a notebook, and which notebook a kernel belongs to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from jupyter_remote_gpu.registry import Registry
from remote_gpu.errors import NotWritable

__all__ = ["AUTO", "Choices"]

AUTO = "auto"
"""The choice of leaving the choice to the selection."""

Lookup = Callable[[str], Awaitable[str | None]]


class Choices:
    """Choices per notebook. `file` is touched at each change, so a magic knows by one stat() whether to ask again."""

    def __init__(self, registry: Registry, file: Path, notebook_of: Lookup) -> None:
        self._registry = registry
        self._notebook_of = notebook_of
        self.file = file
        self._touch()

    async def notebook(self, notebook: str | None, kernel_id: str | None) -> str:
        """The notebook that is meant: the one that is named, else the one of that kernel, else none ("")."""
        if notebook is not None:
            return notebook
        return (await self._notebook_of(kernel_id) or "") if kernel_id else ""

    def get(self, notebook: str, known: Collection[str]) -> str:
        """The cluster chosen for `notebook`; "auto" when none is, or when it is not configured any more."""
        chosen = self._registry.choice(notebook)
        return chosen if chosen in known else AUTO

    def set(self, notebook: str, cluster: str) -> None:
        """Choose `cluster` (or "auto") for `notebook`."""
        self._registry.choose(notebook, cluster, time.time())
        self._touch()

    def _touch(self) -> None:
        try:
            self.file.write_text(f"{time.time_ns()}\n", encoding="ascii")
            self.file.chmod(0o600)
        except OSError as error:
            message = f"Cannot write {self.file}: {error.strerror}."
            raise NotWritable(message, hint="Set JUPYTER_REMOTE_GPU_FOLDER to a writable folder.") from error
