"""Runs a function where deep recursion has room: in a thread with a large stack, under a higher limit."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["DEEPEST", "is_recursion", "with_deep_stack"]

DEEPEST = 200_000 if sys.version_info < (3, 12) else 0
"""Levels of calls for which there is room; 0 where Python itself bounds those within C, whatever the limit says."""

_STACK = 1024**3  # address space only: memory is taken as it is used
_T = TypeVar("_T")


def is_recursion(error: BaseException | None) -> bool:
    """Whether `error` says that calls are nested too deeply, also where another error was made of it."""
    return isinstance(error, RecursionError) or (error is not None and isinstance(error.__cause__, RecursionError))


def with_deep_stack(function: Callable[[], _T]) -> _T:
    """What `function` returns or raises; may nest `DEEPEST` levels of calls (fewer from Python 3.12). Blocks the caller meanwhile."""
    answers: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(function())
        except BaseException as error:  # noqa: BLE001  handed to the caller, whatever it is
            errors.append(error)

    with _room():
        thread = threading.Thread(target=run, name="remote_gpu-deep")
        thread.start()
        thread.join()
    if errors:
        raise errors[0]
    return answers[0]


@contextlib.contextmanager
def _room() -> Iterator[None]:
    stack, limit = threading.stack_size(_STACK), sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(max(limit, DEEPEST))
        yield
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(stack)
