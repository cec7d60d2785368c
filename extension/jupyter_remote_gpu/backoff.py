"""When a link tries again: at once, then later and later, with jitter so that many links do not knock together."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits between attempts, in seconds: 0, then about `first`, growing by `factor` up to `longest`."""

    first: float = 0.25
    factor: float = 2.0
    longest: float = 15.0
    random: Callable[[], float] = random.random
    """A number in [0, 1) at each call; each wait is between half and the whole of its step."""

    def waits(self) -> Iterator[float]:
        """The waits of one outage; endless."""
        yield 0.0
        step = self.first
        while True:
            yield step * (0.5 + 0.5 * self.random())
            step = min(step * self.factor, self.longest)
