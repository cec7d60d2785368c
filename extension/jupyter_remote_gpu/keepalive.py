"""Keeps a stream alive, and notices when the other end is gone: a ping when nothing was said, an error when nothing was heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from remote_gpu.errors import LinkProblem
from remote_gpu.frames import Frame, Kind

__all__ = ["KeepAlive"]


class KeepAlive:
    """`ping_after` and `give_up_after` are seconds of silence, ours and the other end's."""

    def __init__(self, ping_after: float, give_up_after: float) -> None:
        self._ping_after = ping_after
        self._give_up_after = give_up_after
        self._sent = self._heard = 0.0

    def begin(self) -> None:
        """A new stream."""
        self._sent = self._heard = asyncio.get_running_loop().time()

    def sent(self) -> None:
        """Something was written."""
        self._sent = asyncio.get_running_loop().time()

    def heard(self) -> None:
        """Something came."""
        self._heard = asyncio.get_running_loop().time()

    async def watch(self, put: Callable[[Frame], None]) -> None:
        """`put` pings until the other end is silent for too long; then raises `LinkProblem`."""
        clock = asyncio.get_running_loop().time
        while True:
            now = clock()
            if now - self._heard >= self._give_up_after:
                raise LinkProblem(f"The node was silent for {self._give_up_after:g} s.")
            if now - self._sent >= self._ping_after:
                self._sent = now
                put(Frame(Kind.PING))
            await asyncio.sleep(min(self._sent + self._ping_after, self._heard + self._give_up_after) - now)
