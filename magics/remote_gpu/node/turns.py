"""Whose turn it is in a kernel, so that one cell of its queue can be cancelled and no other is touched.

The requests that wait lie in the kernel's sockets, where nothing can be taken out. So what is cancelled is remembered, and not
run when its turn comes. What runs is interrupted, and only while it really runs: between the end of a cell's code and the
beginning of the next one's, an interrupt would meet the wrong cell, or nobody.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

__all__ = ["Turns"]

_REMEMBERED = 10_000
_ON_ITS_WAY = 0.01  # seconds that a signal may take from one thread of this process to another


class Turns:
    """Those of one kernel. `cancel` may be called on any thread, all else on the one that runs cells: `begin`, `starts`, `end`.

    Before the cell's own code starts, IPython would catch an interrupt and go on: so none is sent, and `starts` tells.

    `interrupt` sends this process SIGINT.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._cancelled: deque[str] = deque(maxlen=_REMEMBERED)
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        self._turn = ""
        self._runs = self._aimed = False

    def begin(self, request: str) -> bool:
        """The turn of `request` comes; False if it was cancelled."""
        with self._lock:
            if request in self._cancelled:
                self._cancelled.remove(request)
                self._over.append(request)
                return False
            self._turn, self._aimed = request, False
            return True

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While all of this turn's cell runs; no interrupt outlives it."""
        try:
            yield
        finally:
            self._stop_running()

    def starts(self) -> bool:
        """The cell's own code starts: whether it was cancelled since its turn came, and is to be interrupted now."""
        with self._lock:
            if self._runs or not self._turn:  # code that the cell itself has IPython run
                return False
            self._runs = True
            return self._aimed

    def end(self) -> None:
        """The turn is over."""
        with self._lock:
            self._done()

    def cancel(self, request: str) -> str:
        """Have `request` not run, or interrupt it; returns what it was: ``waiting``, ``running`` or ``over``.

        One that never came is remembered as waiting: it may be on its way.
        """
        with self._lock:
            if request in self._over:
                return "over"
            if request != self._turn:
                if request not in self._cancelled:
                    self._cancelled.append(request)
                return "waiting"
            self._aimed = True
            if self._runs:
                self._interrupt()
            return "running"

    def _stop_running(self) -> None:
        """No interrupt is sent after this; one that was sent is met here, and not by the next cell."""
        try:
            with self._lock:
                aimed = self._aimed
                self._done()
            if aimed:
                time.sleep(_ON_ITS_WAY)
        except KeyboardInterrupt:
            self._done()

    def _done(self) -> None:
        if self._turn:
            self._over.append(self._turn)
        self._turn, self._runs = "", False
