"""What a selection is asked, what it may know, and what it answers. Times are in seconds, points in time are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from jupyter_remote_gpu.models import ResourceRequest

__all__ = ["Basis", "Candidate", "Demand", "Figure", "InFlight", "Preference", "Rules", "Selection", "Spread", "Wait"]


class Preference(StrEnum):
    """What counts first; the expected time to the result decides between equals."""

    SOONEST = "soonest"
    CHEAPEST = "cheapest"
    GREENEST = "greenest"
    NEAREST = "nearest"


class Basis(StrEnum):
    """What a predicted wait rests on. Each has its own record of how far it was off."""

    SCHEDULER = "scheduler"
    FREE = "free"
    GAP = "gap"
    """There are free GPUs, but other requests wait before this one."""
    QUEUE = "queue"
    HISTORY = "history"
    STALE = "stale"
    """GPUs were free when the cluster was last seen, which is long ago."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a selection is asked: the request itself, and what matters beside it. "" and () are "any"."""

    resources: ResourceRequest = field(default_factory=ResourceRequest)
    cpu_arch: str = ""
    """What the environment is built for: "x86_64", "aarch64"."""
    accelerator: str = ""
    """The API that the code is written for: "cuda", "rocm", "xpu"."""
    internet: bool = False
    project: str = ""
    data_class: str = ""
    countries: tuple[str, ...] = ()
    """The countries that are allowed, as ISO 3166-1 alpha-2 codes."""
    only: tuple[str, ...] = ()
    """The clusters that are allowed."""
    exclude: tuple[str, ...] = ()
    prefer: Mapping[str, float] | Preference = Preference.SOONEST
    """What counts: one thing, or weights of "time", "cost", "carbon" and "distance"; twice as much of one with the weight 1 is worth as
    much as twice as much of another with the weight 1."""
    run_seconds: float = 0.0
    """How long the user says that the work takes, on a GPU of the model `run_on` ("": on whichever it runs)."""
    run_on: str = ""
    data_mb: Mapping[str, float] = field(default_factory=dict)
    """Megabytes that are not yet there, by cluster."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A time that is not known exactly: with a chance of 10, 50 and 90 % it is over by then."""

    low: float
    median: float
    high: float

    @property
    def expected(self) -> float:
        """The mean that the three points stand for, by Swanson's rule (0.3, 0.4 and 0.3 of them)."""
        return 0.3 * self.low + 0.4 * self.median + 0.3 * self.high


@dataclass(frozen=True, slots=True)
class Wait:
    """A predicted wait, and where it is from.

    `samples` is how many earlier waits stand behind it. `basis` and `raw` are the prediction before it was corrected by what earlier
    ones were off by: `Past.promised` brings them back, and so the next prediction is better.
    """

    low: float
    median: float
    high: float
    source: str
    samples: int = 0
    basis: Basis = Basis.UNKNOWN
    raw: float = 0.0

    @property
    def spread(self) -> Spread:
        """The range alone."""
        return Spread(self.low, self.median, self.high)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its unit and source; None: nobody knows it, and `source` says why or what would help."""

    value: float | None
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that was sent to a cluster at `since` and does not run yet; `pool` "" is not known."""

    cluster: str
    gpus: int
    since: float
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What ranks beside the demand: the user's choice, what is on its way, and what this gateway measured.

    `believe_for` is how many seconds a snapshot is believed. By cluster: `starts` (seconds from the grant to the first answer), `rates`
    (MB/s into it) and `carbon` (g CO₂e/kWh of its grid). What is not there has a default that is named as one.
    """

    chosen: str = ""
    believe_for: float = 120.0
    in_flight: tuple[InFlight, ...] = ()
    starts: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    carbon: Mapping[str, Figure] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """The words of schedulers, by cluster, that would not take this very request."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster and its best pool: whether the request can run there and why, and what to expect. Without `eligible` there are no figures."""

    cluster: str
    eligible: bool
    reasons: tuple[str, ...]
    remedies: tuple[str, ...] = ()
    """What would make it eligible."""
    pool: str = ""
    wait: Wait | None = None
    start: Figure | None = None
    moving: Figure | None = None
    run: Figure | None = None
    total: Spread | None = None
    cost: Figure | None = None
    carbon: Figure | None = None
    distance: Figure | None = None

    def json(self) -> dict[str, Any]:
        """The candidate of the REST API."""
        total = {**asdict(self.total), "expected": self.total.expected} if self.total else None
        return {**asdict(self), "reasons": list(self.reasons), "remedies": list(self.remedies), "total": total}


@dataclass(frozen=True, slots=True)
class Selection:
    """Candidates, the best first; `chosen` is empty when none is eligible; `sentence` says it all in one."""

    candidates: tuple[Candidate, ...]
    chosen: str
    sentence: str

    @property
    def best(self) -> Candidate | None:
        """The chosen candidate."""
        return self.candidates[0] if self.chosen else None

    def json(self) -> dict[str, Any]:
        """The answer of the REST API."""
        candidates = [candidate.json() for candidate in self.candidates]
        return {"candidates": candidates, "chosen": self.chosen, "sentence": self.sentence}
