"""A question that several wait for and one answers: did it work, and if not, why?"""

from __future__ import annotations

import asyncio

__all__ = ["Decision"]


class Decision:
    """Answered again and again; each who waits gets the next answer."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait for the next answer; raises the problem that it is."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    def make(self, problem: Exception | None) -> None:
        """Answer; whether anybody waits does not matter."""
        waiting, self._next = self._next, None
        if waiting is None or waiting.done():
            return
        if problem is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(problem)
            waiting.exception()  # a waiter may have been cancelled; the answer is not lost on anybody
