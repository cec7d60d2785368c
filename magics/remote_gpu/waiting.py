"""Shows how a start stands while it is waited for: in a notebook one output that changes, in a terminal one line, elsewhere few lines.

A queue may tell another place every half minute for days. What nobody can redraw (a log, the output of nbclient) therefore gets a line when
something of another kind is told, and else at intervals that grow.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from remote_gpu.output import Output

__all__ = ["DisplayedWait", "LineWait", "RedrawnWait", "Wait", "wait_for"]

_FIRST = 60.0  # seconds until a line of a kind that was told before
_LONGEST = 3600.0
_KINDS = 20  # lines of a new kind, after which a new kind does not make a line come at once
_NUMBERS = re.compile(r"\d+(?:[.:,]\d+)*")


class Wait(Protocol):
    """How something stands that is waited for. `show` is told each change; `pause` is called before something else is written."""

    def show(self, text: str) -> None:
        """It stands so now."""

    def pause(self) -> None:
        """Somebody else writes next."""

    def end(self, text: str) -> None:
        """It is over; `text` says so, where something was shown."""


class DisplayedWait:
    """One output of a notebook cell, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = ""

    def show(self, text: str) -> None:
        """See `Wait`."""
        from IPython.display import display

        if text == self._shown:
            return
        self._shown = text
        data = {"text/plain": text}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def pause(self) -> None:
        """See `Wait`."""

    def end(self, text: str) -> None:
        """See `Wait`."""
        if self._handle is not None:
            self.show(text or self._shown)


class RedrawnWait:
    """One line of a terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._width = 0
        self._shown = False

    def show(self, text: str) -> None:
        """See `Wait`."""
        text = " ".join(text.split())[: shutil.get_terminal_size().columns - 1]
        self._write(f"\r{text.ljust(self._width)}")
        self._width, self._shown = len(text), True

    def pause(self) -> None:
        """See `Wait`."""
        if self._width:
            self._write("\n")
            self._width = 0

    def end(self, text: str) -> None:
        """See `Wait`."""
        if text and self._shown:
            self.show(text)
        self.pause()

    def _write(self, text: str) -> None:
        out = self._out or sys.stderr
        out.write(text)
        out.flush()


class LineWait:
    """Lines that stay."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._kinds: set[str] = set()
        self._last = ""
        self._interval = _FIRST
        self._due = 0.0

    def show(self, text: str) -> None:
        """See `Wait`."""
        if text == self._last:
            return
        kind, now = _NUMBERS.sub("#", text), self._clock()
        if kind in self._kinds or len(self._kinds) >= _KINDS:
            if now < self._due:
                return
            self._interval = min(self._interval * 2, _LONGEST)
        self._kinds.add(kind)
        self._due = now + self._interval
        self._write(text)

    def pause(self) -> None:
        """See `Wait`."""

    def end(self, text: str) -> None:
        """See `Wait`."""
        if text and self._last:
            self._write(text)

    def _write(self, text: str) -> None:
        self._last = text
        out = self._out or sys.stderr
        out.write(f"{text}\n")
        out.flush()


def wait_for(output: Output) -> Wait:
    """What shows a wait in the cell that runs now. A notebook that nobody looks at, and captured output, get lines."""
    if sys.stderr.isatty():
        return RedrawnWait()
    return DisplayedWait() if output.is_live else LineWait()
