"""The power that a GPU's board may draw, by model: what an energy is estimated from where nothing measures it.

Watts of one GPU at its limit, as the makers publish them; not each was looked up again. A site may set a lower limit, and little work reaches the limit, so
what is made of these is rough, says more than is used, and is marked as estimated wherever it is shown.
"""

from __future__ import annotations

import itertools
import re

__all__ = ["IDLE_SHARE", "board_power"]

IDLE_SHARE = 0.1
"""Of its limit, what a data-centre GPU draws that does nothing: 60 to 120 W of 700 are usual. Rough."""

_WATTS = {
    # NVIDIA
    "p100": 300, "v100": 300, "v100s": 250, "v100l": 300, "t4": 70, "a2": 60, "a10": 150, "a16": 63, "a30": 165, "a40": 300, "a100": 400,
    "a100l": 400, "a800": 400, "l4": 72, "l40": 300, "l40s": 350, "h20": 400, "h100": 700, "h200": 700, "h800": 700, "gh200": 700,
    "b200": 1000, "gb200": 1200, "a4000": 140, "a5000": 230, "a6000": 300, "3090": 350, "4090": 450, "5090": 575,
    # AMD; half of the card for an MI250, which is two GPUs to its software
    "mi100": 300, "mi210": 300, "mi250": 280, "mi250x": 280, "mi300a": 550, "mi300x": 750, "mi325x": 1000, "mi355x": 1400,
    # Intel
    "max1550": 600, "max1100": 300,
}  # fmt: skip
_AS_A_CARD = {"p100": 250, "v100": 250, "a100": 300, "a800": 300, "h100": 350, "h200": 600, "h800": 350}
"""Those that draw less as a PCIe card (of an H200: NVL) than on a carrier board."""

_SLICE = re.compile(r"(\d+)g\.\d+gb")
_SLICES = 7
"""The compute slices that a GPU is divided into (NVIDIA's guide to MIG)."""


def board_power(model: str) -> float | None:
    """Watts of one GPU of this model at its limit, of a part of one (``1g.10gb``) its share; None when the table does not have it.

    `model` is what a driver or a scheduler calls it: "NVIDIA H100 80GB HBM3", "h100", "a100_1g.5gb", "L40S".
    """
    words = re.split(r"[^a-z0-9.]+", model.lower())
    known = next((word for word in words if word in _WATTS), None)
    if known is None:  # "Max 1550"
        known = next((both for one, two in itertools.pairwise(words) if (both := one + two) in _WATTS), None)
    if known is None:
        return None
    watts = _AS_A_CARD.get(known, _WATTS[known]) if {"pcie", "nvl"} & set(words) else _WATTS[known]
    part = _SLICE.search(model.lower())
    return watts * min(1.0, int(part[1]) / _SLICES) if part else float(watts)
