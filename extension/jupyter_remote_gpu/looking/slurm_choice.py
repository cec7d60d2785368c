"""What to ask a Slurm for, so that it gives a GPU: candidates, best first, from what its commands said. Pure; ``sbatch --test-only`` has the last word.

A partition's own limits are heeded here: an installation that does not enforce them takes a job that can never start, also in a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jupyter_remote_gpu.clusters.options import read_options
from jupyter_remote_gpu.clusters.slurm_gpus import choose_type, is_slice
from jupyter_remote_gpu.clusters.slurm_nodes import GpuUse, known_types, usage
from jupyter_remote_gpu.clusters.slurm_script import GpusBy
from jupyter_remote_gpu.clusters.slurm_site import Partition
from jupyter_remote_gpu.clusters.slurm_trial import told
from jupyter_remote_gpu.looking.facts import SlurmFacts
from jupyter_remote_gpu.models import ClusterKind

__all__ = ["Config", "SESSION_TIME", "candidates", "partition_of", "trial_options", "uses_in"]

Config = Mapping[str, Any]

SESSION_TIME = 4 * 3600
"""Seconds that a session asks for where the site's own default is no time to work in."""

_TIME_TO_WORK = 3600
_MOST_ACCOUNTS, _MOST_PARTITIONS = 4, 3


def candidates(slurm: SlurmFacts, wanted: Config) -> list[Config]:
    """Configurations to try, the smallest and best first; what the user `wanted` is in each of them.

    First with the site's own defaults, in each way to ask for a GPU, of any type and by type; then in other partitions, then with other accounts.
    """
    accounts = [wanted["account"]] if wanted.get("account") else _accounts(slurm)
    partitions = [wanted["partition"]] if wanted.get("partition") else _partitions(slurm)
    ways = [wanted["gpus_by"]] if wanted.get("gpus_by") else [way.value for way in GpusBy]
    usual = [(ways[0], False), (ways[0], True)]
    tried = [(accounts[0], partitions[0], way, typed) for typed in (False, True) for way in ways]
    tried += [(accounts[0], partition, *how) for partition in partitions[1:] for how in usual]
    tried += [(account, partition, *how) for account in accounts[1:] for partition in partitions for how in usual]
    return list(_without_twins([_candidate(slurm, wanted, *how) for how in tried]))


def trial_options(config: Config, slurm: SlurmFacts, *, where: str, home: str) -> list[str]:
    """What sbatch is told for a candidate. Raises `UsageProblem` for a wanted word that cannot be, and a GPU that is not there."""
    read = read_options(where, ClusterKind.SLURM, config)
    groups = [group for group in slurm.nodes if not read.partition or group.partition == read.partition]
    return told(read, folder=home, gpu_type=choose_type(read.request, known_types(groups), where))


def partition_of(slurm: SlurmFacts, name: str) -> Partition | None:
    """The partition `name`; "": the default one."""
    return next((each for each in slurm.partitions if (each.name == name if name else each.default)), None)


def uses_in(slurm: SlurmFacts, partition: Partition | None) -> list[GpuUse]:
    """The GPUs of a partition by type, most first; of all when there is no default one."""
    uses = [use for use in usage(slurm.nodes) if use.total and (partition is None or use.partition == partition.name)]
    return sorted(uses, key=lambda use: -use.total)


def _accounts(slurm: SlurmFacts) -> list[str]:
    """None named, which is the default one; then the others."""
    return ["", *(name for name in slurm.account_names if name != slurm.default_account)][:_MOST_ACCOUNTS]


def _partitions(slurm: SlurmFacts) -> list[str]:
    """Those with GPUs that let the user in: none named, if the default one will do; then those that share nodes, and where a job stays."""
    accounts = slurm.account_names or ("",)
    fitting = [each for each in slurm.partitions if each.up and uses_in(slurm, each) and any(map(each.lets_in, accounts))]
    fitting.sort(key=lambda each: _rank(slurm, each))
    names = ["" if each.default else each.name for each in fitting]
    return names[:_MOST_PARTITIONS] or [""]


def _rank(slurm: SlurmFacts, partition: Partition) -> tuple[object, ...]:
    short = partition.max_time is not None and partition.max_time < _TIME_TO_WORK
    total = sum(use.total for use in uses_in(slurm, partition))
    return short, partition.whole_nodes, not partition.default, partition.name in slurm.displaced, -total, partition.name


def _candidate(slurm: SlurmFacts, wanted: Config, account: str, partition: str, way: str, typed: bool) -> Config:
    known = partition_of(slurm, partition)
    request: dict[str, Any] = dict(wanted.get("request") or {})
    if "time" not in request and (time := _time(slurm, known, account)):
        request["time"] = time
    uses = uses_in(slurm, known)
    if "gpus" not in request and slurm.nodes:
        request |= _gpus(known, uses)
    if "gpu_model" not in request and request.get("gpus") != 0 and (model := _model(uses, typed=typed)):
        request["gpu_model"] = model
    named = {"account": account, "partition": partition, "gpus_by": "" if way == GpusBy.GPUS_PER_NODE else way}
    found = {**wanted, **{name: value for name, value in named.items() if value}}
    return {**found, "request": request} if request else found


def _time(slurm: SlurmFacts, partition: Partition | None, account: str) -> int:
    """Seconds to ask for; 0: what the site gives to jobs that do not ask is right."""
    default = partition.default_time if partition is not None else None
    if default is not None and default >= _TIME_TO_WORK:
        return 0
    used = account or slurm.default_account
    limits = [each.time for each in slurm.accounts if each.name == used] + ([partition.max_time] if partition is not None else [])
    return min([SESSION_TIME, *(limit for limit in limits if limit)])


def _gpus(partition: Partition | None, uses: Sequence[GpuUse]) -> dict[str, int]:
    """All of a node where only whole nodes are given; none where there is none; else the one that a session gets by itself."""
    if not uses:
        return {"gpus": 0}
    return {"gpus": uses[0].per_node} if partition is not None and partition.whole_nodes and uses[0].per_node > 1 else {}


def _model(uses: Sequence[GpuUse], *, typed: bool) -> str:
    """The type to name: where a job might get a part of a GPU, that of most whole ones; with `typed`, in any case."""
    whole = [use.gpu_type for use in uses if use.gpu_type and not is_slice(use.gpu_type)]
    parts = [use.gpu_type for use in uses if is_slice(use.gpu_type)]
    return (whole or parts or [""])[0] if typed or (whole and parts) else ""


def _without_twins(found: Sequence[Config]) -> Iterator[Config]:
    seen: list[Config] = []
    for config in found:
        if config not in seen:
            seen.append(config)
            yield config
