"""How far a transfer is, as one line that is redrawn; short transfers show nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

from remote_gpu.summary import amount

__all__ = ["Progress"]

_SHOW_AFTER = 1.0
_EVERY = 0.25


class Progress:
    """Called with (bytes done, bytes in all). Use it as a context manager: its line ends with the transfer."""

    def __init__(self, what: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._out = out
        self._clock = clock
        self._since = self._drawn = 0.0
        self._began = 0
        self._shown = False

    def __enter__(self) -> Self:
        self._since = self._drawn = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._write("\n")

    def __call__(self, done: int, total: int) -> None:
        """Note how far it is, and draw it if it is time."""
        now = self._clock()
        if not self._shown and now - self._since < _SHOW_AFTER:
            self._began = done if done < total else self._began
            return
        if now - self._drawn < _EVERY and done < total:
            return
        if not self._shown and done >= total:
            return
        self._drawn, self._shown = now, True
        rate = (done - self._began) / max(now - self._since, 1e-3)
        share = 100 * done // max(total, 1)
        self._write(f"\r{self._what}: {amount(done)} of {amount(total)} ({share} %), {amount(rate)}/s   ")

    def _write(self, text: str) -> None:
        out = self._out or sys.stderr
        out.write(text)
        out.flush()
