"""The hard rules: what keeps a request from a cluster, each in words and with what would make the cluster eligible."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from jupyter_remote_gpu.clusters.slurm_gpus import fits, is_slice
from jupyter_remote_gpu.offers import ClusterSnapshot, ClusterState, Pool
from jupyter_remote_gpu.selection.places import country_code
from jupyter_remote_gpu.selection.values import Demand, Preference
from jupyter_remote_gpu.selection.words import ago, amount, duration, listed

__all__ = ["Against", "contradictions", "fitting_pools", "needed_gpus", "obstacles", "sane"]

_WEIGHTS = ("time", "cost", "carbon", "distance")
_ABSURD = 10_000_000
"""No pool has that many GPUs, nodes or jobs."""


@dataclass(frozen=True, slots=True)
class Against:
    """Why a cluster cannot run a request, and what would help ("" when nothing would)."""

    reason: str
    remedy: str = ""


def needed_gpus(demand: Demand) -> int:
    """The GPUs of the whole request; of one that leaves it to the cluster, one."""
    gpus = demand.resources.gpus
    return (1 if gpus is None else gpus) * max(1, demand.resources.nodes)


def contradictions(demand: Demand, names: Sequence[str]) -> tuple[str, ...]:
    """What cannot be about `demand`, whatever the clusters `names` look like; () when nothing is wrong with it."""
    found = []
    asked = demand.resources
    wish = asked.gpu_model or ("an amount of GPU memory" if asked.gpu_memory_mb else "")
    if asked.gpus == 0 and (wish or demand.accelerator):
        found.append(f"no GPU is asked for, but {wish or demand.accelerator} is")
    if both := sorted(set(demand.only) & set(demand.exclude)):
        found.append(f"{listed(both, 'and')} is both asked for and excluded")
    found += [_unknown(name, names) for name in dict.fromkeys((*demand.only, *demand.exclude)) if name not in names]
    found += [wrong for word in demand.countries if (wrong := country_code(word)[1])]
    if any(number is not None and number < 0 for number in (asked.gpus, asked.nodes, asked.cpus, asked.memory_mb, asked.time)):
        found.append("a negative amount is asked for")
    if not 0 <= demand.run_seconds < float("inf"):
        found.append(f"a run of {demand.run_seconds:g} s cannot be")
    if asked.time and demand.run_on == "" and demand.run_seconds > asked.time:
        found.append(f"the work takes {duration(demand.run_seconds)}, but only {duration(asked.time)} are asked for")
    return (*found, *_wrong_weights(demand.prefer))


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"there is no cluster {name!r}" + (f" (is {near[0]} meant?)" if near else "")


def _wrong_weights(prefer: Mapping[str, float] | Preference) -> list[str]:
    if isinstance(prefer, Preference):
        return []
    found = [f"{name!r} has no weight; {listed(_WEIGHTS, 'and')} have" for name in prefer if name not in _WEIGHTS]
    found += [f"the weight of {name!r} cannot be {weight:g}" for name, weight in prefer.items() if not 0 <= weight < float("inf")]
    return found if found or any(prefer.values()) else ["all weights are 0"]


def obstacles(demand: Demand, snapshot: ClusterSnapshot, now: float) -> list[Against]:
    """What speaks against the cluster as a whole; its pools are not looked at."""
    found = []
    if snapshot.name in demand.exclude:
        found.append(Against("you excluded it", f"do not exclude {snapshot.name}"))
    if demand.only and snapshot.name not in demand.only:
        found.append(Against(f"only {listed(demand.only)} may be taken", f"allow {snapshot.name}, too"))
    if snapshot.state is ClusterState.UNREACHABLE:
        found.append(_unreachable(snapshot, now))
    return [*found, *_site(demand, snapshot)]


def _unreachable(snapshot: ClusterSnapshot, now: float) -> Against:
    detail = snapshot.detail.rstrip(".")
    seen = f"; what is known of it is {ago(now - snapshot.updated)} old" if snapshot.pools and now - snapshot.updated > 1 else ""
    return Against(
        f"it cannot be reached{f': {detail}' if detail else ''}{seen}", f"`%remote_gpu clusters {snapshot.name}` looks at it again"
    )


def _site(demand: Demand, snapshot: ClusterSnapshot) -> list[Against]:
    site, found = snapshot.site, []
    setting = f"the configuration of {snapshot.name}"
    allowed = {country_code(word)[0] for word in demand.countries}
    if allowed and not site.country:
        found.append(Against("nobody has said in which country it is", f"say `site.country` in {setting}"))
    elif allowed and site.country.upper() not in allowed:
        found.append(
            Against(f"it is in {site.country.upper()}; only {listed(sorted(allowed))} is allowed", f"allow {site.country.upper()}")
        )
    if demand.data_class and demand.data_class not in site.data_classes:
        may = (
            f"only {listed(site.data_classes, 'and')} data may be there" if site.data_classes else "nobody has said which data may be there"
        )
        found.append(Against(f"{may}, not {demand.data_class}", f"if they may, say so in `site.data_classes` in {setting}"))
    if demand.project and site.projects and demand.project not in site.projects:
        known = listed(site.projects, "and")
        found.append(
            Against(f"the project {demand.project} is not there, only {known}", f"ask for the project {demand.project} to be let in")
        )
    if demand.internet and site.internet is False:
        found.append(Against("its nodes do not reach the internet", "fetch what is needed first, and do without the internet"))
    return found


def sane(pool: Pool) -> tuple[Pool, str]:
    """A pool whose figures can be, and what was wrong with them in words ("" when nothing was)."""
    free, down, total, jobs, gpus = pool.gpus_free, pool.gpus_down, pool.gpus_total, pool.pending_jobs, pool.pending_gpus
    if (
        free >= 0 <= down
        and free + down <= total < _ABSURD > jobs >= 0 <= gpus < _ABSURD
        and total >= pool.gpus_per_node >= 0 <= pool.time_limit
    ):
        return pool, ""
    total = min(max(0, pool.gpus_total), _ABSURD)
    down = min(max(0, pool.gpus_down), total)
    better = replace(
        pool,
        gpus_total=total,
        gpus_down=down,
        gpus_free=min(max(0, pool.gpus_free), total - down),
        gpus_per_node=min(max(0, pool.gpus_per_node), total),
        pending_jobs=min(max(0, pool.pending_jobs), _ABSURD),
        pending_gpus=min(max(0, pool.pending_gpus), _ABSURD),
        time_limit=max(0, pool.time_limit),
    )
    said = f"{pool.gpus_total} GPUs, {pool.gpus_free} free, {pool.gpus_down} down, {pool.pending_jobs} jobs waiting for {pool.pending_gpus}"
    return better, f"it says what cannot be ({said}), of which only what can be is believed"


def fitting_pools(demand: Demand, pools: Sequence[Pool]) -> tuple[list[Pool], Against | None]:
    """Those of `pools` that can run the demand; when none can: the first rule that left none, in words."""
    left = list(pools)
    for rule in _RULES:
        left, against = rule(demand, left)
        if against and not left:
            return [], against
    return left, None


_Verdict = tuple[list[Pool], Against | None]


def _named(demand: Demand, pools: list[Pool]) -> _Verdict:
    asked = demand.resources.partition
    if not asked or not any(pool.name for pool in pools):
        return pools, None
    partitions = {pool.name: pool.name.partition(":")[0] for pool in pools}
    wanted = set(asked.split(","))
    kept = [pool for pool in pools if partitions[pool.name] in wanted or pool.name in wanted]
    return kept, Against(f"it has no partition {asked}", f"it has {listed(dict.fromkeys(partitions.values()), 'and')}")


def _of_model(demand: Demand, pools: list[Pool]) -> _Verdict:
    asked = demand.resources
    if asked.gpus == 0 or not (asked.gpus or asked.gpu_model or asked.gpu_memory_mb):
        return pools, None
    kept = [pool for pool in pools if pool.gpus_total and _is_it(asked.gpu_model, pool.gpu_model, pool.fraction)]
    if kept:
        return kept, None
    has = dict.fromkeys(pool.gpu_model or "GPU" for pool in pools if pool.gpus_total)
    if not asked.gpu_model:
        wanted = amount(asked.gpus or 1, "GPU")
        words = (
            f"it has only parts of GPUs ({listed(has, 'and')}), {asked.gpus or 1} asked for"
            if has
            else f"it has no GPUs, {wanted} asked for"
        )
        return kept, Against(
            words.replace(" GPUs asked", " asked").replace(" GPU asked", " asked"), f"ask for {listed(has)}" if has else ""
        )
    return kept, Against(f"it has no {asked.gpu_model}", f"it has {listed(has, 'and')}" if has else "")


@lru_cache(maxsize=16384)
def _is_it(asked: str, model: str, fraction: bool) -> bool:
    """Whether a GPU of that model is one of those asked for; a part of one only when it is asked for."""
    part = is_slice(model)
    if fraction and not part and "shard" not in asked.lower():
        return False
    return fits(asked, model) if asked else not part


def _enough_memory(demand: Demand, pools: list[Pool]) -> _Verdict:
    least = demand.resources.gpu_memory_mb
    if not least:
        return pools, None
    most = max((pool.gpu_memory_mb for pool in pools), default=0)
    return [pool for pool in pools if pool.gpu_memory_mb >= least], Against(
        f"no GPU of it has {least} MiB", f"ask for at most {most} MiB" if most else ""
    )


def _of_architecture(demand: Demand, pools: list[Pool]) -> _Verdict:
    asked = demand.cpu_arch
    kept = [pool for pool in pools if pool.cpu_arch in ("", asked)] if asked else pools
    if kept:
        return kept, None
    has = listed(dict.fromkeys(pool.cpu_arch for pool in pools if pool.cpu_arch) or ("?",), "and")
    return kept, Against(f"its CPUs are {has}; the environment is built for {asked}", f"use an environment for {has}")


def _of_accelerator(demand: Demand, pools: list[Pool]) -> _Verdict:
    asked = demand.accelerator
    kept = [pool for pool in pools if pool.accelerator == asked or (pool.gpus_total and not pool.accelerator)] if asked else pools
    if kept:
        return kept, None
    has = listed(dict.fromkeys(pool.accelerator for pool in pools if pool.accelerator) or ("no GPU",), "and")
    return kept, Against(f"it has {has}; the environment needs {asked}", f"use an environment for {has}" if has != "no GPU" else "")


def _enough_gpus(demand: Demand, pools: list[Pool]) -> _Verdict:
    needed = needed_gpus(demand)
    if not demand.resources.gpus:
        return pools, None
    kept = [pool for pool in pools if pool.gpus_total >= needed]
    if kept:
        return kept, None
    most = max((pool.gpus_total for pool in pools), default=0)
    return kept, Against(f"it has {amount(most, 'GPU')}, {needed} asked for", f"ask for at most {most}")


def _on_one_node(demand: Demand, pools: list[Pool]) -> _Verdict:
    each = demand.resources.gpus or 0
    kept = [pool for pool in pools if (pool.gpus_per_node or pool.gpus_total) >= each]
    if kept:
        return kept, None
    largest = max((pool.gpus_per_node or pool.gpus_total for pool in pools), default=0)
    nodes = -(-each // largest) if largest else 0
    remedy = f"ask for at most {largest}" + (f", or for {nodes} nodes with {-(-each // nodes)} each" if nodes > 1 else "")
    return kept, Against(f"{each} GPUs on one node; the largest has {largest}", remedy)


def _nodes(demand: Demand, pools: list[Pool]) -> _Verdict:
    return _at_most(demand.resources.nodes, pools, lambda pool: pool.nodes, lambda most: amount(most, "node"))


def _cpus(demand: Demand, pools: list[Pool]) -> _Verdict:
    return _at_most(demand.resources.cpus, pools, lambda pool: pool.cpus_per_node, lambda most: f"{most} CPUs on a node")


def _memory(demand: Demand, pools: list[Pool]) -> _Verdict:
    return _at_most(demand.resources.memory_mb, pools, lambda pool: pool.memory_mb_per_node, lambda most: f"{most} MiB on a node")


def _at_most(asked: int, pools: list[Pool], has: Callable[[Pool], int], words: Callable[[int], str]) -> _Verdict:
    """By an amount per pool, of which 0 is "not said"."""
    if not asked:
        return pools, None
    most = max((has(pool) for pool in pools), default=0)
    kept = [pool for pool in pools if not has(pool) or has(pool) >= asked]
    return kept, Against(f"it has at most {words(most)}, {asked} asked for", f"ask for at most {most}")


def _short_enough(demand: Demand, pools: list[Pool]) -> _Verdict:
    asked = demand.resources.time
    kept = [pool for pool in pools if not pool.time_limit or pool.time_limit >= asked] if asked else pools
    if kept:
        return kept, None
    longest = max((pool.time_limit for pool in pools), default=0)
    return kept, Against(f"it grants at most {duration(longest)}, {duration(asked)} asked for", f"ask for at most {duration(longest)}")


def _in_order(demand: Demand, pools: list[Pool]) -> _Verdict:
    if not demand.resources.gpus:
        return [pool for pool in pools if not pool.gpus_total or pool.gpus_total > pool.gpus_down] or pools, None
    needed = needed_gpus(demand)
    kept = [pool for pool in pools if pool.gpus_total - pool.gpus_down >= needed]
    if kept:
        return kept, None
    total = max((pool.gpus_total for pool in pools), default=0)
    up = max((pool.gpus_total - pool.gpus_down for pool in pools), default=0)
    words = f"only {up} of its {total} GPUs are in order, {needed} asked for" if up else f"all its {amount(total, 'GPU')} are out of order"
    remedy = "ask its operators when they are back" + (f", or ask for at most {up}" if up else "")
    return kept, Against(words, remedy)


_RULES = (
    _named,
    _of_model,
    _enough_memory,
    _of_architecture,
    _of_accelerator,
    _enough_gpus,
    _on_one_node,
    _nodes,
    _cpus,
    _memory,
    _short_enough,
    _in_order,
)
