"""What may be a key of a dict or an item of a set: hashing it must end, soon, and within the C stack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from remote_gpu.codec.rebuild.checks import UnsafeValue

__all__ = ["check_keys"]

_SIMPLE = frozenset({str, int, bytes, bool, float, type(None)})
_NESTED = (tuple, frozenset)
_MOST = 10_000  # parts of one key, counted again wherever they are shared: hashing visits them so
_DEEPEST = 100


def check_keys(keys: Iterable[Any]) -> None:
    """Raise `UnsafeValue` for a tuple that holds itself many times over, or is nested so deep that hashing it would crash."""
    kinds = set(map(type, keys))
    if not kinds <= _SIMPLE:
        for key in keys:
            if isinstance(key, _NESTED):
                _check(key)


def _check(key: Any) -> None:
    count, depth, level = 0, 0, [key]
    while level:
        count += len(level)
        depth += 1
        if count > _MOST or depth > _DEEPEST:
            raise UnsafeValue("A key in what the node sent is nested too deep, or too large.")
        below: list[Any] = []
        for each in level:
            if isinstance(each, _NESTED):
                below.extend(each)
            if count + len(below) > _MOST:
                break
        level = below
