"""What the constructors check their arguments with. Every argument is a node's claim until one of these has seen it."""

from __future__ import annotations

from typing import Any, TypeVar

from remote_gpu.errors import RemoteGpuError

__all__ = ["UnsafeValue", "exactly", "natural", "one_of", "raw", "text"]

_T = TypeVar("_T")


class UnsafeValue(RemoteGpuError):
    """What a node sent as a value is none that this project builds. Nothing of it was used."""

    reason = "unsafe_value"
    status = 502

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint or "The value stays on the node. Tell the node's owner if you did not expect this.", **details)


def exactly(value: object, kind: type[_T]) -> _T:
    """`value`, which must be of the type `kind` itself and not of a subclass."""
    if type(value) is not kind:
        raise UnsafeValue(f"A {kind.__name__} was expected, not a {type(value).__name__}.")
    return value


def text(value: object, longest: int = 1000) -> str:
    """`value`, a string of at most `longest` characters."""
    found = exactly(value, str)
    if len(found) > longest:
        raise UnsafeValue(f"A string of at most {longest} characters was expected, not of {len(found)}.")
    return found


def natural(value: object, most: int = (1 << 62)) -> int:
    """`value`, a whole number from 0 to `most`."""
    found = exactly(value, int)
    if not 0 <= found <= most:
        raise UnsafeValue(f"A number from 0 to {most} was expected.")
    return found


def one_of(value: object, *allowed: Any) -> Any:
    """`value`, which must be one of `allowed` and of its type."""
    for each in allowed:
        if type(value) is type(each) and value == each:
            return each
    raise UnsafeValue(f"One of {', '.join(map(repr, allowed))} was expected.")


def raw(value: object) -> memoryview:
    """The memory behind `value`: a buffer that came beside the head, or bytes within it; contiguous, of single bytes."""
    if type(value) not in (memoryview, bytes, bytearray):
        raise UnsafeValue(f"Memory was expected, not a {type(value).__name__}.")
    view = memoryview(value)  # type: ignore[arg-type]
    if not view.c_contiguous:
        raise UnsafeValue("The memory of an array has holes.")
    return view.cast("B")
