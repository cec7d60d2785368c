"""Pillow's images, as their pixels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.node.leaving.calls import Reduction, Sender, Unsupported, build

__all__ = ["find"]

_MODES = frozenset(["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "La", "RGBa", "I;16"])


def find(kind: type) -> Callable[[Any, Sender], Reduction] | None:
    """The reducer of an image, also of one that was read from a file."""
    module: Any = sys.modules.get("PIL.Image")
    return _image if module is not None and issubclass(kind, module.Image) else None


def _image(value: Any, sender: Sender) -> Reduction:
    if value.mode not in _MODES:
        raise Unsupported(f"an image of the mode {value.mode}")
    sender.reserve(value.width * value.height)
    palette = None
    if value.mode in ("P", "PA") and value.palette is not None:
        palette = (value.palette.mode, bytes(value.palette.getdata()[1]) if value.palette.rawmode else bytes(value.palette.palette))
    transparency = value.info.get("transparency")
    if not isinstance(transparency, (int, bytes)):
        transparency = None
    pixels = memoryview(value.tobytes())
    return build("image", value.mode, value.width, value.height, sender.memory(pixels, writable=False), palette, transparency)
