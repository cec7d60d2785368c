"""A cluster's nodes as ``sinfo`` groups them, and the GPUs that they make up: in all, free, and out of order.

sinfo joins nodes that are alike in each column asked for, so a site of ten thousand nodes is some hundred lines.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jupyter_remote_gpu.clusters.slurm_gpus import accelerator_of, architecture_of, gpus_of, is_slice, memory_of
from jupyter_remote_gpu.clusters.slurm_json import nodes_of_json
from jupyter_remote_gpu.clusters.slurm_values import NodeGroup, said
from jupyter_remote_gpu.offers import Pool

__all__ = ["GpuUse", "expand", "known_types", "nodes_command", "once", "parse_nodes", "pools", "usage"]

_SEPARATOR = "|"
_NODES = (
    "Partition",
    "StateComplete",
    "Nodes",
    "NodeList",
    "Gres",
    "GresUsed",
    "CPUsState",
    "Memory",
    "Available",
    "Features",
    "Reason",
)
_UP = ("idle", "mixed", "allocated")
_AWAY = frozenset(
    (
        "drain",
        "fail",
        "external",
        "inval",
        "invalid_reg",
        "maintenance",
        "maint",
        "not_responding",
        "reboot",
        "reboot_issued",
        "reboot_requested",
    )
)
"""Flags of nodes that start no job until somebody has looked after them."""
_TAKEN = frozenset(("reserved", "planned", "blocked", "power_down", "powering_down"))
"""Flags of nodes whose free GPUs are not to be had just now: for a reservation, a waiting job, or on their way to sleep."""

_LIST_PART = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")


@dataclass(slots=True)
class GpuUse:
    """The GPUs of one type in one partition. `free` can be had now; `down` are on nodes out of order; the rest is in use or kept.

    It grows by `add`: made anew for each group of nodes, it would be most of the work of a look at a cluster.
    """

    partition: str
    gpu_type: str
    total: int = 0
    free: int = 0
    down: int = 0
    per_node: int = 0
    nodes: int = 0
    default: bool = False
    architecture: str = ""
    cpus_per_node: int = 0
    """Of the node that has most; `memory_mb_per_node`, too."""
    memory_mb_per_node: int = 0

    def add(self, group: NodeGroup, each: int, used: int) -> None:
        """Count a group whose nodes have `each` GPUs of the type, of which `used` are in use."""
        away = group.state not in _UP or bool(group.flags & _AWAY)
        kept = group.state == "allocated" or bool(group.flags & _TAKEN) or not group.available
        self.total += each * group.count
        self.free += 0 if away or kept else max(0, each - used) * group.count
        self.down += each * group.count if away else 0
        self.per_node = max(self.per_node, each)
        self.nodes += group.count
        self.architecture = self.architecture or architecture_of(self.gpu_type, group.features)
        self.cpus_per_node = max(self.cpus_per_node, group.cpus // max(1, group.count))
        self.memory_mb_per_node = max(self.memory_mb_per_node, group.memory_mb)


def nodes_command(partitions: Sequence[str] = ()) -> list[str]:
    """All nodes that this user may see, in groups, or those of some partitions."""
    chosen = [f"--partition={','.join(partitions)}"] if partitions else []
    return ["sinfo", *chosen, "--noheader", f"--Format={','.join(f'{name}:{_SEPARATOR}' for name in _NODES)}"]


def parse_nodes(output: str) -> tuple[NodeGroup, ...]:
    """The groups that `nodes_command` printed, or sinfo with ``--json``; other lines are passed over."""
    if output.lstrip().startswith("{"):
        return nodes_of_json(output)
    rows = (line.removesuffix(_SEPARATOR).split(_SEPARATOR, len(_NODES) - 1) for line in output.splitlines())
    return tuple(_group(row) for row in rows if len(row) == len(_NODES) and row[2].isdecimal())


def usage(groups: Sequence[NodeGroup]) -> tuple[GpuUse, ...]:
    """The GPUs by partition and type, in the order of their partitions; a partition without GPUs has one entry of none."""
    found: dict[tuple[str, str], GpuUse] = {}
    for group in groups:
        used = gpus_of(group.gres_used)
        for gpu_type, each in (gpus_of(group.gres) or {"": 0}).items():
            key = (group.partition, gpu_type)
            if key not in found:
                found[key] = GpuUse(*key, default=group.default)
            found[key].add(group, each, used.get(gpu_type, 0))
    return tuple(found.values())


def once(groups: Sequence[NodeGroup]) -> tuple[NodeGroup, ...]:
    """`groups` with each node only in the first partition that has it, so that sums over partitions are true."""
    seen: set[str] = set()
    lists: set[str] = set()
    kept = []
    for group in groups:
        if group.nodes in lists:  # the same nodes in another partition, mostly in the same words
            continue
        lists.add(group.nodes)
        names = expand(group.nodes)
        new = [name for name in names if name not in seen]
        seen.update(new)
        if len(new) == len(names) == group.count:
            kept.append(group)
        elif new:
            share = len(new) / max(1, group.count)
            cpus, idle = round(group.cpus * share), round(group.cpus_free * share)
            kept.append(replace(group, count=len(new), nodes=",".join(new), cpus=cpus, cpus_free=idle))
    return tuple(kept)


def pools(groups: Sequence[NodeGroup]) -> tuple[Pool, ...]:
    """One pool per partition and GPU type, named after the partition; of several types there, "PARTITION:TYPE"."""
    uses = usage(groups)
    several = {use.partition for use in uses if sum(other.partition == use.partition and other.total > 0 for other in uses) > 1}
    return tuple(_pool(use, several) for use in uses if use.total or use.partition not in several)


def known_types(groups: Sequence[NodeGroup]) -> tuple[str, ...]:
    """The GPU types of these nodes, those with the most free GPUs first."""
    free: dict[str, int] = {}
    for use in usage(groups):
        if use.gpu_type:
            free[use.gpu_type] = free.get(use.gpu_type, 0) + use.free
    return tuple(sorted(free, key=lambda name: -free[name]))


def expand(nodes: str) -> list[str]:
    """The names of a node list: ``gh[1-2],hx[01-03,7]`` → gh1 gh2 hx01 hx02 hx03 hx7."""
    return [name for part in _LIST_PART.findall(nodes) for name in _expanded(part)]


def _expanded(part: str) -> list[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    pieces, _, tail = rest.partition("]")
    numbers = [number for piece in pieces.split(",") for number in _numbers(piece)]
    if not tail:
        return [head + number for number in numbers]
    ends = _expanded(tail)
    return [f"{head}{number}{end}" for number in numbers for end in ends]


def _numbers(piece: str) -> Sequence[str]:
    """Of ``08-10``: 08 09 10."""
    low, dash, high = piece.partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        return ()
    return [f"{number:0{len(low)}}" for number in range(int(low), int(high) + 1)] if dash else (low,)


def _group(row: Sequence[str]) -> NodeGroup:
    partition, states, count, nodes, gres, gres_used, cpus, memory, available, features, reason = row  # the columns _NODES
    state, flags = _state(states)
    numbers = [int(number) if number.isdecimal() else 0 for number in cpus.split("/")]  # allocated/idle/other/total
    memory = memory.rstrip("+")
    return NodeGroup(
        partition=partition.removesuffix("*"),
        state=state,
        flags=flags,
        count=int(count),
        nodes=nodes,
        gres=said(gres),
        gres_used=said(gres_used),
        cpus=numbers[-1],
        cpus_free=numbers[1] if len(numbers) > 1 else 0,
        memory_mb=int(memory) if memory.isdecimal() else 0,
        features=_features(features),
        reason="" if reason == "none" else reason,
        default=partition.endswith("*"),
        available=available == "up",
    )


@functools.lru_cache(maxsize=256)
def _state(text: str) -> tuple[str, frozenset[str]]:
    state, *flags = text.strip().lower().split("+")
    return state.rstrip("*~#!%$@^-"), frozenset(flags)


@functools.lru_cache(maxsize=1024)
def _features(text: str) -> tuple[str, ...]:
    return tuple(word for word in said(text).split(",") if word)


def _pool(use: GpuUse, several: set[str]) -> Pool:
    return Pool(
        name=f"{use.partition}:{use.gpu_type}" if use.partition in several else use.partition,
        gpu_model=use.gpu_type or ("GPU" if use.total else ""),
        gpu_memory_mb=memory_of(use.gpu_type),
        gpus_total=use.total,
        gpus_free=use.free,
        gpus_per_node=use.per_node,
        cpu_arch=use.architecture,
        accelerator=accelerator_of(use.gpu_type) if use.total else "",
        gpus_down=use.down,
        fraction=is_slice(use.gpu_type),
        nodes=use.nodes,
        cpus_per_node=use.cpus_per_node,
        memory_mb_per_node=use.memory_mb_per_node,
    )
