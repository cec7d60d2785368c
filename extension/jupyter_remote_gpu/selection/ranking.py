"""Puts the clusters in order for a demand: those that can run it first, then the user's choice, then what is preferred, then what is free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jupyter_remote_gpu.models import ClusterKind
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool
from jupyter_remote_gpu.selection import terms
from jupyter_remote_gpu.selection.history import History
from jupyter_remote_gpu.selection.obstacles import Against, contradictions, fitting_pools, obstacles, sane
from jupyter_remote_gpu.selection.values import Candidate, Demand, Figure, InFlight, Preference, Rules, Selection, Spread, Wait
from jupyter_remote_gpu.selection.waits import guess, predict, queue_of, told
from jupyter_remote_gpu.selection.words import ago, amount, duration

__all__ = ["rank"]

_STEP = math.log(1.1)
_ALIKE = 30.0
"""Times that differ by less than a tenth of them and of these seconds do not decide: what is free does."""
_LOOKED_AT = 3
"""How many pools of a cluster are predicted for: those that look best at once."""
_WORTH_SAYING = 60.0
"""Shorter waits are not spoken of."""
_FLOORS = {"time": 60.0, "cost": 0.05, "carbon": 10.0, "distance": 5.0}
"""What does not matter of each term, in its unit: it is added before two are compared by their ratio."""
_UNSEEN = Pool("")


@dataclass(frozen=True, slots=True)
class _Judged:
    """A candidate, and what is free for it."""

    candidate: Candidate
    free: int = 0
    idle: bool = False


def rank(
    demand: Demand,
    snapshots: Sequence[ClusterSnapshot],
    history: History | None = None,
    rules: Rules | None = None,
    now: float = 0.0,
) -> Selection:
    """Rank the clusters for `demand`, by the expected time to its result or by what it prefers; equals stay in the order of `snapshots`.

    `now` is in seconds since the epoch, as are the snapshots' times. Nothing is raised: a demand that contradicts itself has no eligible candidate, and
    the sentence says why.
    """
    history, rules = history or History(), rules or Rules()
    wrong = contradictions(demand, [snapshot.name for snapshot in snapshots]) if snapshots else ()
    if wrong:
        return _contradicting(snapshots, wrong)
    on_the_way: dict[str, list[InFlight]] = {}
    for each in rules.in_flight:
        on_the_way.setdefault(each.cluster, []).append(each)
    judged = [_judge(demand, snapshot, history, rules, on_the_way.get(snapshot.name, ()), now) for snapshot in snapshots]
    scores = _scores(demand, judged)
    order = sorted(range(len(judged)), key=lambda index: (_merit(demand, judged[index], rules), scores[index], -judged[index].free, index))
    candidates = tuple(judged[index].candidate for index in order)
    chosen = candidates[0].cluster if candidates and candidates[0].eligible else ""
    return Selection(candidates, chosen, _sentence(candidates, chosen))


def _contradicting(snapshots: Sequence[ClusterSnapshot], wrong: Sequence[str]) -> Selection:
    candidates = tuple(Candidate(snapshot.name, eligible=False, reasons=tuple(wrong)) for snapshot in snapshots)
    return Selection(candidates, "", f"Nothing can run this: {'; '.join(wrong)}.")


def _merit(demand: Demand, judged: _Judged, rules: Rules) -> tuple[bool, bool, bool]:
    """Before all figures: eligible, the user's choice, and for a request that says nothing of GPUs, that one is free."""
    candidate = judged.candidate
    return not candidate.eligible, candidate.cluster != rules.chosen, demand.resources.gpus is None and not judged.idle


def _judge(demand: Demand, snapshot: ClusterSnapshot, history: History, rules: Rules, in_flight: Sequence[InFlight], now: float) -> _Judged:
    against = obstacles(demand, snapshot, now)
    checked = [sane(pool) for pool in snapshot.pools]
    pools, lacking = [_UNSEEN], None
    if snapshot.state is ClusterState.READY:
        pools, lacking = fitting_pools(demand, [pool for pool, _ in checked] or [_UNSEEN])
    against += [lacking] if lacking else []
    if not against and snapshot.name in rules.refused:
        against.append(Against(rules.refused[snapshot.name].rstrip("."), "ask for what its scheduler takes"))
    if against:
        remedies = tuple(each.remedy for each in against if each.remedy)
        return _Judged(Candidate(snapshot.name, eligible=False, reasons=tuple(each.reason for each in against), remedies=remedies))
    guesses = [guess(demand, pool, snapshot, queue_of(pool, snapshot, in_flight), history, rules, now) for pool in pools]
    if len(guesses) > _LOOKED_AT:
        guesses = sorted(guesses, key=lambda each: (each.raw, -each.queue.free))[:_LOOKED_AT]
    (spread, count), best = min(
        ((predict(demand, snapshot, each, history), each) for each in guesses),
        key=lambda found: (round(found[0][0].expected, 3), -found[1].queue.free),
    )
    wait = told(snapshot, best, spread, count, now)
    odd = [words for _, words in checked if words]
    reasons = (*_reasons(demand, snapshot, wait, in_flight, rules, now), *odd[:1])
    return _Judged(_figures(demand, snapshot, best.pool, wait, reasons, rules), best.queue.free, best.queue.free > 0)


def _figures(demand: Demand, snapshot: ClusterSnapshot, pool: Pool, wait: Wait, reasons: tuple[str, ...], rules: Rules) -> Candidate:
    start, moving, run = terms.start(snapshot, rules), terms.moving(demand, snapshot, rules), terms.run(demand, pool)
    return Candidate(
        snapshot.name,
        eligible=True,
        reasons=reasons,
        pool=pool.name,
        wait=wait,
        start=start,
        moving=moving,
        run=run,
        total=terms.total(wait, (start, moving), run),
        cost=terms.cost(demand, snapshot, pool, run),
        carbon=terms.carbon(snapshot, rules),
        distance=terms.distance(snapshot),
    )


def _reasons(demand: Demand, snapshot: ClusterSnapshot, wait: Wait, in_flight: Sequence[InFlight], rules: Rules, now: float) -> list[str]:
    reasons = ["you chose it"] if rules.chosen == snapshot.name else []
    total, free = snapshot.gpus_total, snapshot.gpus_free
    if snapshot.state is ClusterState.CHECKING:
        reasons.append("its state is not known yet")
    elif total:
        reasons.append(f"{free} of {total} GPUs free")
    else:
        reasons.append("CPU only")
    if on_the_way := sum(each.gpus for each in in_flight):
        reasons.append(f"{amount(on_the_way, 'GPU')} asked for just now")
    if wait.median > _WORTH_SAYING and snapshot.state is ClusterState.READY:
        reasons.append(f"about {duration(wait.median)} to wait ({duration(wait.low)} to {duration(wait.high)}; {wait.source})")
    if demand.internet and snapshot.site.internet is None:
        reasons.append("nobody has said whether its nodes reach the internet")
    remote = snapshot.kind != ClusterKind.LOCAL  # this machine is what it was
    if remote and snapshot.updated and now - snapshot.updated > rules.believe_for:
        reasons.append(f"last seen {ago(now - snapshot.updated)} ago")
    elif remote and snapshot.updated - now > rules.believe_for:
        reasons.append(f"last seen {ago(snapshot.updated - now)} in the future, by a clock that jumped")
    return reasons


def _scores(demand: Demand, judged: Sequence[_Judged]) -> list[tuple[float, ...]]:
    """What is the least is the best."""
    candidates = [each.candidate for each in judged]
    times = [_step(candidate.total) for candidate in candidates]
    if demand.prefer is Preference.SOONEST:
        return [(time,) for time in times]
    if isinstance(demand.prefer, Preference):
        term = {Preference.CHEAPEST: "cost", Preference.GREENEST: "carbon", Preference.NEAREST: "distance"}[demand.prefer]
        return list(zip(_ratios(candidates, term), times, strict=True))
    weighed = [(weight, _ratios(candidates, term)) for term, weight in sorted(demand.prefer.items()) if weight]
    return [(round(sum(weight * ratios[index] for weight, ratios in weighed), 6),) for index in range(len(candidates))]


def _step(total: Spread | None) -> int:
    return math.floor(math.log(total.expected + _ALIKE) / _STEP) if total else 0


def _ratios(candidates: Sequence[Candidate], term: str) -> list[float]:
    """A term as a logarithm to the base of 2, so that twice as much is one more; what is not known counts as the worst that is."""
    floor = _FLOORS[term]
    values = [_value(candidate, term) for candidate in candidates]
    unit = _unit(candidates, term)
    known = [
        math.log2(value + floor) if value is not None and (not unit or _figure(candidate, term).unit == unit) else None
        for value, candidate in zip(values, candidates, strict=True)
    ]
    worst = max((ratio for ratio in known if ratio is not None), default=0.0)
    return [round(worst if ratio is None else ratio, 6) for ratio in known]


def _value(candidate: Candidate, term: str) -> float | None:
    if candidate.total is None:
        return None
    return candidate.total.expected if term == "time" else _figure(candidate, term).value


def _figure(candidate: Candidate, term: str) -> Figure:
    found: Mapping[str, Figure | None] = {"cost": candidate.cost, "carbon": candidate.carbon, "distance": candidate.distance}
    return found[term] or Figure(None, "", "")


def _unit(candidates: Sequence[Candidate], term: str) -> str:
    """Of money in several currencies only that counts that most candidates have: there are no rates of exchange here."""
    units = [_figure(each, term).unit for each in candidates if term == "cost" and each.cost is not None and each.cost.value is not None]
    return max(sorted(set(units)), key=units.count) if units else ""


def _sentence(candidates: Sequence[Candidate], chosen: str) -> str:
    if not candidates:
        return "No cluster is configured."
    if not chosen:
        return "No cluster can run this: " + "; ".join(f"{each.cluster}: {', '.join(each.reasons)}" for each in candidates) + "."
    best = candidates[0]
    only = "the only cluster" if len(candidates) == 1 else ""
    return f"{chosen}: " + ", ".join(reason for reason in (only, *best.reasons) if reason) + "."
