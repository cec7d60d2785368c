"""Where a request goes, decided with all that the gateway knows: what the clusters look like, what their schedulers say, what was learned, what is on its way.

The ranking itself is pure (see `selection`); here is what it is given, and what becomes of its answer: it is kept under an id, with all its figures.
"""

from __future__ import annotations

import secrets
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jupyter_remote_gpu.carbon import Intensity, lookup, rounded
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.models import AllocationState, Session, iso
from jupyter_remote_gpu.offers import ClusterSnapshot
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.remembered import Remembered
from jupyter_remote_gpu.selection import Basis, Candidate, Demand, Figure, InFlight, Rules, Selection, rank
from jupyter_remote_gpu.snapshots import Snapshots

__all__ = ["Decided", "Selecting"]

_PATIENCE = 5.0  # seconds for clusters that were never seen, and then for schedulers
_NEWEST = 5  # starts of a cluster that say how long the next one takes
_SOON = 60.0  # seconds: nobody is asked for an estimate where a session starts within these


@dataclass(frozen=True, slots=True)
class Decided:
    """An answer, under its id; "" where there was nothing to decide."""

    id: str
    made: float
    demand: Demand
    selection: Selection

    @property
    def best(self) -> Candidate | None:
        """The chosen candidate."""
        return self.selection.best

    def json(self) -> dict[str, Any]:
        """The `Decision` of the REST API."""
        return {"id": self.id, "made": iso(self.made), **self.selection.json()}


class Selecting:
    """The selections of one gateway. `grid` is what a live source says of a country's electricity just now."""

    def __init__(
        self,
        registry: Registry,
        clusters: Clusters,
        snapshots: Snapshots,
        *,
        clock: Callable[[], float],
        grid: Callable[[], Intensity | None] = lambda: None,
    ) -> None:
        self.remembered = Remembered(registry)
        self._registry = registry
        self._clusters = clusters
        self._snapshots = snapshots
        self._clock = clock
        self._grid = grid
        self._starts: dict[str, deque[float]] = {}

    def started(self, cluster: str, seconds: float) -> None:
        """A session's first answer came so long after the cluster had granted it."""
        self._starts.setdefault(cluster, deque(maxlen=_NEWEST)).append(seconds)

    async def select(self, demand: Demand, *, chosen: str = "", notebook: str = "", thorough: bool = False) -> Decided:
        """Rank the clusters for `demand`, and remember the answer.

        Waits a few seconds for clusters that were never seen. Schedulers are asked what they think of the request where there is a choice and nothing is
        free, or if the answer is to be `thorough`.
        """
        alone = len(self._clusters) == 1 and demand == Demand()
        snapshots: Sequence[ClusterSnapshot] = self._snapshots.all() if alone else await self._snapshots.known(_PATIENCE)
        selection = self._rank(demand, snapshots, Rules(chosen=chosen))
        choice = not alone and len(demand.only) != 1
        if thorough or (choice and not _starts_soon(selection)):
            snapshots, refused = await self._snapshots.estimated(demand.resources, _PATIENCE)
            words = {name: problem.message for name, problem in refused.items()}
            selection = self._rank(demand, snapshots, Rules(chosen=chosen, refused=words))
        decided = Decided("" if alone and not thorough else secrets.token_hex(6), self._clock(), demand, selection)
        if decided.id:
            self.remembered.decide(decided.id, decided.made, decided.json(), notebook=notebook)
        return decided

    def _rank(self, demand: Demand, snapshots: Sequence[ClusterSnapshot], rules: Rules) -> Selection:
        carbon = {each.name: found for each in snapshots if (found := self._carbon(each)) is not None}
        starts = {name: statistics.median(seconds) for name, seconds in self._starts.items()}
        rules = replace(rules, in_flight=self._in_flight(snapshots), carbon=carbon, starts=starts)
        return rank(demand, snapshots, self.remembered.history(), rules, self._clock())

    def _carbon(self, snapshot: ClusterSnapshot) -> Figure | None:
        found = lookup(snapshot.site, self._grid())
        return Figure(rounded(found.grams), "g CO₂e/kWh", found.text.partition(" (")[2].rstrip(")")) if found is not None else None

    def _in_flight(self, snapshots: Sequence[ClusterSnapshot]) -> tuple[InFlight, ...]:
        """What this user's gateways have asked for and does not run yet, or not for long enough to be in a snapshot."""
        seen = {each.name: each.updated for each in snapshots}
        new = [each for each in self._registry.sessions() if each.state is AllocationState.PENDING or _is_news(each, seen)]
        asked = self.remembered.gpus_of([session.id for session in new])
        return tuple(InFlight(each.cluster, asked.get(each.id, 1), each.created) for each in new)


def _is_news(session: Session, seen: Mapping[str, float]) -> bool:
    """Whether a session runs since a snapshot was taken that still has its GPUs as free; `seen` has when that was, by cluster."""
    return session.state is AllocationState.RUNNING and (session.started or 0.0) > seen.get(session.cluster, float("inf"))


def _starts_soon(selection: Selection) -> bool:
    best = selection.best
    return best is not None and best.wait is not None and best.wait.basis is Basis.FREE and best.wait.median < _SOON
