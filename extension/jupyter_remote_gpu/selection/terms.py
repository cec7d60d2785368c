"""What a request costs on a pool beside the wait: start, data, run, money, carbon and distance, each with its unit and source."""

from __future__ import annotations

from jupyter_remote_gpu.models import ClusterKind
from jupyter_remote_gpu.offers import ClusterSnapshot, Pool
from jupyter_remote_gpu.selection.obstacles import needed_gpus
from jupyter_remote_gpu.selection.speeds import ROUGHLY, SOURCE, speed_of
from jupyter_remote_gpu.selection.values import Demand, Figure, Rules, Spread, Wait

__all__ = ["carbon", "cost", "distance", "moving", "run", "start", "total"]

_STARTS = {ClusterKind.LOCAL: 2.0, ClusterKind.SSH: 5.0, ClusterKind.SLURM: 10.0}
_START = 15.0
_RATE_HERE, _RATE = 500.0, 20.0
_MEASURED = "measured by this gateway"


def start(snapshot: ClusterSnapshot, rules: Rules) -> Figure:
    """Seconds from the grant to the first answer."""
    measured = rules.starts.get(snapshot.name)
    if measured is not None and 0 <= measured < float("inf"):
        return Figure(measured, "s", _MEASURED)
    return Figure(_STARTS.get(ClusterKind(snapshot.kind), _START) if snapshot.kind in set(ClusterKind) else _START, "s", "a usual one")


def moving(demand: Demand, snapshot: ClusterSnapshot, rules: Rules) -> Figure:
    """Seconds until the data that is not there is there."""
    amount = demand.data_mb.get(snapshot.name, 0.0)
    if not 0 < amount < float("inf"):
        return Figure(0.0, "s", "nothing is to be moved")
    rate, source = rules.rates.get(snapshot.name, 0.0), _MEASURED
    if not 0 < rate < float("inf"):
        rate, source = (_RATE_HERE if snapshot.kind == ClusterKind.LOCAL else _RATE), "taken until one is measured"
    return Figure(amount / rate, "s", f"{amount:,.0f} MB at {rate:.3g} MB/s, {source}")


def run(demand: Demand, pool: Pool) -> Figure | None:
    """Seconds of the run: the user's estimate, on this pool's GPUs if it says of which it is; None without one."""
    if not demand.run_seconds:
        return None
    said, here = speed_of(demand.run_on), speed_of(pool.gpu_model)
    if not demand.run_on:
        return Figure(demand.run_seconds, "s", "as you said, on any GPU")
    if said is None or here is None:
        stranger = demand.run_on if said is None else pool.gpu_model or "a CPU"
        return Figure(demand.run_seconds, "s", f"as you said for {demand.run_on}; how fast {stranger} is, is not known")
    if said == here:
        return Figure(demand.run_seconds, "s", f"as you said for {demand.run_on}")
    return Figure(
        demand.run_seconds * said / here, "s", f"as you said for {demand.run_on}, which is {said / here:.2g} × as fast ({SOURCE})"
    )


def total(wait: Wait, parts: tuple[Figure | None, ...], running: Figure | None) -> Spread:
    """The time to the result. Only the wait and a run on another GPU are not known exactly."""
    fixed = sum(part.value or 0.0 for part in parts if part is not None)
    lasts = running.value or 0.0 if running is not None else 0.0
    low, high = ROUGHLY if running is not None and SOURCE in running.source else (1.0, 1.0)
    return Spread(wait.low + fixed + low * lasts, wait.median + fixed + lasts, wait.high + fixed + high * lasts)


def cost(demand: Demand, snapshot: ClusterSnapshot, pool: Pool, running: Figure | None) -> Figure:
    """Money: of the run if its length is known, else of an hour."""
    site = snapshot.site
    if site.cost is None or not 0 <= site.cost < float("inf"):
        return Figure(None, site.currency, "nobody has said: `site.cost` in its configuration")
    gpus = needed_gpus(demand) if pool.gpus_total else 0
    source = f"{site.cost:g} {site.currency or 'units'} for a GPU and hour, by its configuration"
    if running is None or running.value is None:
        return Figure(site.cost * gpus, f"{site.currency or 'units'}/h", source)
    return Figure(site.cost * gpus * running.value / 3600, site.currency or "units", source)


def carbon(snapshot: ClusterSnapshot, rules: Rules) -> Figure:
    """Grams of CO₂e for a kWh there."""
    known = rules.carbon.get(snapshot.name)
    if known is not None:
        return known
    if snapshot.site.carbon is not None and 0 <= snapshot.site.carbon < float("inf"):
        return Figure(snapshot.site.carbon, "g CO₂e/kWh", "its configuration")
    return Figure(None, "g CO₂e/kWh", "nobody has said: `site.region` or `site.carbon` in its configuration")


def distance(snapshot: ClusterSnapshot) -> Figure:
    """Milliseconds there and back."""
    if snapshot.kind == ClusterKind.LOCAL:
        return Figure(0.0, "ms", "it is this machine")
    if not 0 < snapshot.round_trip < float("inf"):
        return Figure(None, "ms", "not measured yet")
    return Figure(snapshot.round_trip * 1000, "ms", "there and back, measured")
