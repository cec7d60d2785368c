"""The cluster that is chosen for a notebook, in the sidebar or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable

from remote_gpu.gateway import Gateway

__all__ = ["Choice"]


class Choice:
    """What one gateway says of it; asked again only once a file of the gateway's says that somebody has chosen."""

    def __init__(self) -> None:
        self._written = -1
        self._chosen = ""

    def again(self) -> None:
        """It is another gateway now: ask it."""
        self._written = -1

    def of(self, gateway: Gateway, kernel_id: str, notebook: Callable[[], str]) -> str:
        """The cluster for the notebook with that kernel, or that path; "" when none is chosen."""
        choices = gateway.record.choices
        if choices is None:
            return self._chosen
        try:
            written = os.stat(choices).st_mtime_ns  # noqa: PTH116  the hot path
        except OSError:
            written = 0
        if written != self._written:
            self._written = written
            path = notebook()
            known = kernel_id or path
            chosen = gateway.choice(kernel_id=kernel_id or None, notebook=path or None) if known and written else "auto"
            self._chosen = "" if chosen == "auto" else chosen
        return self._chosen
