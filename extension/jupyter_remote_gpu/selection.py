"""Where should a request run? Pure: the same inputs give the same answer, with the reasons in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jupyter_remote_gpu.models import ClusterKind, ClusterSnapshot, ClusterState, ResourceRequest

__all__ = ["Candidate", "Rules", "Selection", "rank"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What ranks beside the request: the cluster that the user chose, and how many seconds a snapshot is believed."""

    chosen: str = ""
    believe_for: float = 120.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster, whether the request can run there, and why."""

    cluster: str
    eligible: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Candidates, the best first; `chosen` is empty when none is eligible; `sentence` says it all in one."""

    candidates: tuple[Candidate, ...]
    chosen: str
    sentence: str

    def json(self) -> dict[str, Any]:
        """The answer of the REST API."""
        candidates = [{**asdict(candidate), "reasons": list(candidate.reasons)} for candidate in self.candidates]
        return {"candidates": candidates, "chosen": self.chosen, "sentence": self.sentence}


def rank(
    request: ResourceRequest,
    snapshots: Sequence[ClusterSnapshot],
    history: Sequence[tuple[str, float]] = (),
    rules: Rules | None = None,
    now: float = 0.0,
) -> Selection:
    """Rank the clusters for `request`: those that can run it first, then the user's choice, then free GPUs, then short waits.

    `history` has (cluster, seconds waited) of earlier requests; `now` and the snapshots' times are seconds since the epoch.
    """
    rules = rules or Rules()
    judged = [(_judge(request, snapshot, rules, now), snapshot) for snapshot in snapshots]
    order = sorted(range(len(judged)), key=lambda index: (_merit(judged[index], history, rules), index))
    candidates = tuple(judged[index][0] for index in order)
    chosen = candidates[0].cluster if candidates and candidates[0].eligible else ""
    return Selection(candidates, chosen, _sentence(candidates, chosen))


def _merit(judged: tuple[Candidate, ClusterSnapshot], history: Sequence[tuple[str, float]], rules: Rules) -> tuple[Any, ...]:
    candidate, snapshot = judged
    free = sum(pool.gpus_free for pool in snapshot.pools)
    waits = [seconds for cluster, seconds in history if cluster == candidate.cluster]
    wait = sorted(waits)[len(waits) // 2] if waits else 0.0
    return (not candidate.eligible, candidate.cluster != rules.chosen, free == 0, wait, -free)


def _judge(request: ResourceRequest, snapshot: ClusterSnapshot, rules: Rules, now: float) -> Candidate:
    against = _obstacles(request, snapshot)
    if against:
        return Candidate(snapshot.name, eligible=False, reasons=tuple(against))
    reasons = ["you chose it"] if rules.chosen == snapshot.name else []
    total, free = (sum(getattr(pool, name) for pool in snapshot.pools) for name in ("gpus_total", "gpus_free"))
    if snapshot.state is ClusterState.CHECKING:
        reasons.append("its state is not known yet")
    elif snapshot.state is ClusterState.READY:
        reasons.append(f"{free} of {total} GPUs free" if total else "CPU only")
    remote = snapshot.kind != ClusterKind.LOCAL  # this machine is what it was
    if remote and snapshot.updated and now - snapshot.updated > rules.believe_for:
        reasons.append(f"last seen {_ago(now - snapshot.updated)} ago")
    return Candidate(snapshot.name, eligible=True, reasons=tuple(reasons))


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _obstacles(request: ResourceRequest, snapshot: ClusterSnapshot) -> list[str]:
    if snapshot.state is ClusterState.UNREACHABLE:
        return [f"it cannot be reached: {snapshot.detail}" if snapshot.detail else "it cannot be reached"]
    if snapshot.state is ClusterState.CHECKING:
        return []
    fitting = [pool for pool in snapshot.pools if request.gpu_model.lower() in pool.gpu_model.lower()]
    if request.gpu_model and not fitting:
        return [f"it has no {request.gpu_model}"]
    if request.gpus and max((pool.gpus_total for pool in fitting), default=0) < request.gpus:
        most = max((pool.gpus_total for pool in fitting), default=0)
        return [f"it has {most or 'no'} GPU{'' if most == 1 else 's'}, {request.gpus} asked for"]
    if request.memory_mb and max((pool.gpu_memory_mb for pool in fitting), default=0) < request.memory_mb:
        return [f"no GPU of it has {request.memory_mb} MiB"]
    return []


def _sentence(candidates: Sequence[Candidate], chosen: str) -> str:
    if not candidates:
        return "No cluster is configured."
    if not chosen:
        return "No cluster can run this: " + "; ".join(f"{each.cluster}: {', '.join(each.reasons)}" for each in candidates) + "."
    best = candidates[0]
    only = "the only cluster" if len(candidates) == 1 else ""
    return f"{chosen}: " + ", ".join(reason for reason in (only, *best.reasons) if reason) + "."
