"""How much CO₂e a kilowatt hour makes where a cluster is: from its configuration, a live source, or the dated table below.

Sources differ by up to 17 times for one region (Québec), for some count only what the power stations emit and others their whole life; so every
figure goes with its source, year and basis, and with what the others say. For regions to be comparable, the figure of each is of one source and basis
(the mix of 2023); between Alberta and Québec lies far more than between any two sources. Nothing here is worth a third digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jupyter_remote_gpu.offers import Site

__all__ = ["TABLE_DATE", "Basis", "Intensity", "footprint", "lookup", "rounded"]

TABLE_DATE = "2026-11"
"""When the table was put together."""


class Basis(StrEnum):
    """What a figure counts. MIX: the year's electricity by source, times a factor for each; LIVE: the grid just now; SAID: somebody's word."""

    DIRECT = "direct"
    LIFE_CYCLE = "life-cycle"
    MIX = "mix"
    LIVE = "live"
    SAID = "configured"


@dataclass(frozen=True, slots=True)
class Intensity:
    """Grams of CO₂e for a kWh. `low` and `high`: the smallest and largest figure of all sources that are known; `year` 0 = it is of now."""

    grams: float
    basis: Basis
    source: str
    region: str = ""
    year: int = 0
    low: float = 0.0
    high: float = 0.0

    @property
    def text(self) -> str:
        """In words: "130 g CO₂e/kWh (…, 2023, direct)"."""
        when = f", {self.year}" if self.year else ""
        spread = f"; other sources say {rounded(self.low):g} to {rounded(self.high):g}" if self.high > self.low else ""
        return f"{rounded(self.grams):g} g CO₂e/kWh ({self.source}{when}, {self.basis}{spread})"

    def json(self) -> dict[str, Any]:
        """As the REST API has it."""
        return {
            "grams": rounded(self.grams),
            "low": rounded(self.low or self.grams),
            "high": rounded(self.high or self.grams),
            "unit": "g CO₂e/kWh",
            "basis": self.basis,
            "source": self.source,
            "region": self.region,
            "year": self.year or None,
        }


_MIX = "CodeCarbon, mix of 2023 × its factors"
_NIR = "NRCan h2k_hpxml, National Inventory Report"
_LCA = "Canada's Fuel LCA table"
_TABLE: dict[str, tuple[float, float | None, float | None]] = {
    # region: mix of 2023, direct, life-cycle
    "CA-BC": (21.7, 7, 39.8),
    "CA-AB": (627.7, 590, 627.8),
    "CA-ON": (64.7, 25, 45.7),
    "CA-QC": (3.9, 1, 16.9),
    "CA": (170, None, None),
    "GB": (237.6, None, None),
}
"""reference: mlco2/codecarbon `data/private_infra`; NRCan `h2k_hpxml`; canada.ca Fuel LCA. The two countries: CodeCarbon's of Our World in Data, 2023."""


def lookup(site: Site, live: Intensity | None = None) -> Intensity | None:
    """The figure for a site: what its configuration says, else what `live` does (for its country), else the table's; None when nobody knows."""
    known = _of_table(site)
    if site.carbon is not None:
        low, high = (known.low, known.high) if known is not None else (0.0, 0.0)
        return Intensity(site.carbon, Basis.SAID, "the cluster's configuration", site.region or site.country, 0, low, high)
    if live is not None and live.region == (site.country or site.region[:2]):
        return live
    return known


def _of_table(site: Site) -> Intensity | None:
    region = next((name for name in (site.region, site.country, site.region[:2]) if name in _TABLE), None)
    if region is None:
        return None
    mix, direct, life_cycle = _TABLE[region]
    all_of_them = [value for value in (mix, direct, life_cycle) if value is not None]
    source = _MIX if direct is None else f"{_MIX}; beside {_NIR}, and {_LCA}"
    return Intensity(mix, Basis.MIX, source, region, 2023, min(all_of_them), max(all_of_them))


def footprint(watt_hours: float, intensity: Intensity) -> float:
    """Grams of CO₂e of an energy, as far as they can be said: two digits. What cooling takes (PUE) is not in it."""
    return rounded(watt_hours / 1000 * intensity.grams)


def rounded(value: float) -> float:
    """`value` with two significant digits."""
    return float(f"{value:.2g}") if math.isfinite(value) else 0.0
