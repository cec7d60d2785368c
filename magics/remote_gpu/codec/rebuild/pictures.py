"""Pillow's images, from raw pixels: no decoder of a file format sees what the node sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remote_gpu.codec.rebuild.checks import UnsafeValue, exactly, natural, one_of, raw
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["PICTURES"]

_WIDTHS = {
    "L": 1, "P": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3, "LAB": 3, "HSV": 3, "I": 4, "F": 4, "LA": 2, "PA": 2, "La": 2, "RGBa": 4, "I;16": 2,
}  # fmt: skip
"""Bytes per pixel; the mode "1" has a bit, and rows of whole bytes."""


def image(_: Context, mode: object, width: object, height: object, pixels: object, palette: object, transparency: object) -> Any:
    """An image."""
    from PIL import Image

    kind, view = one_of(mode, "1", *_WIDTHS), raw(pixels)
    wide, high = natural(width), natural(height)
    if view.nbytes != ((wide + 7) // 8 if kind == "1" else wide * _WIDTHS[kind]) * high:
        raise UnsafeValue("The pixels of an image do not fit its size.")
    made = Image.frombytes(kind, (wide, high), bytes(view)) if view.nbytes else Image.new(kind, (wide, high))
    if palette is not None:
        colours, entries = exactly(palette, tuple)
        made.putpalette(exactly(entries, bytes)[: 256 * 4], one_of(colours, "RGB", "RGBA"))
    if transparency is not None:
        made.info["transparency"] = transparency if type(transparency) is bytes else exactly(transparency, int)
    return made


PICTURES: dict[str, Callable[..., Any]] = {"image": image}
