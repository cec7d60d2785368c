"""How fast GPUs are beside each other, roughly: enough to say that a work of an hour on an A100 takes about three on a T4, and not more.

A speed is the mean of a card's dense 16-bit tensor rate and its memory's bandwidth, each over an A100's with 40 GB (312 TFLOP/s and 1,555 GB/s) and
in the geometric sense, as the makers publish them; not each was looked up again. Real programs differ by a factor of two either way.
"""

from __future__ import annotations

import re
from functools import lru_cache

from jupyter_remote_gpu.clusters.slurm_gpus import is_slice

__all__ = ["ROUGHLY", "SOURCE", "speed_of"]

SOURCE = "published peak rates, roughly"
ROUGHLY = (0.6, 1.6)
"""What a scaled time may be off by, as factors of the low and the high end."""

_TFLOPS_AND_GBS = {
    # NVIDIA: dense FP16/BF16 tensor TFLOP/s, GB/s
    "p100": (19, 732), "v100": (125, 900), "v100s": (130, 1134), "v100l": (125, 900), "t4": (65, 320), "a10": (125, 600), "a30": (165, 933),
    "a40": (150, 696), "a100": (312, 1555), "a100l": (312, 2039), "a800": (312, 2039), "l4": (121, 300), "l40": (181, 864), "l40s": (362, 864),
    "h100": (989, 3350), "h200": (989, 4800), "h800": (989, 3350), "gh200": (989, 4000), "b200": (2250, 8000), "gb200": (2500, 8000),
    "a4000": (77, 448), "a5000": (111, 768), "a6000": (155, 768), "3090": (71, 936), "4090": (165, 1008), "5090": (210, 1792),
    # AMD; an MI250 is two GPUs to its software
    "mi100": (185, 1229), "mi210": (181, 1638), "mi250": (181, 1638), "mi250x": (192, 1638), "mi300a": (981, 5300), "mi300x": (1307, 5300),
    "mi325x": (1307, 6000), "mi355x": (2500, 8000),
    # Intel; a Max 1550 as one
    "max1550": (839, 3277), "pvc": (839, 3277),
}  # fmt: skip
_SPEEDS = {name: (flops / 312 * bandwidth / 1555) ** 0.5 for name, (flops, bandwidth) in _TFLOPS_AND_GBS.items()}


@lru_cache(maxsize=4096)
def speed_of(model: str) -> float | None:
    """The speed of a GPU by its model or Slurm type, an A100's with 40 GB being 1; None for those that are not in the table, and for parts of GPUs."""
    if is_slice(model):
        return None
    words = re.split(r"[\s\-_/():,]+", model.lower())
    return next((_SPEEDS[word] for word in words if word in _SPEEDS), None)
