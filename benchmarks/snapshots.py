"""What it costs the gateway to keep an eye on many clusters: 100 simulated Slurms, looked at as often as by default, while somebody asks all the time.

Each answers as a real one would, by lines of JSON as from an agent, with other figures at each look. What the answers cost to make is not counted: they
are made before. Nothing of the network is in it, and nothing of ssh, which are processes of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.report import Row
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.machines import QUICK, Done, Hello
from jupyter_remote_gpu.clusters.options import DataWay, RemoteOptions
from jupyter_remote_gpu.clusters.slurm import SlurmCluster
from jupyter_remote_gpu.offers import ClusterState
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.snapshots import Snapshots

CLUSTERS, NODES, LARGE = 100, 100, 10_000
PARTITIONS, GROUP = ("gpu*", "long"), 4
VARIANTS = 3
EVERY = 15.0
ASKS = 5.0
_PARTITIONS = "PartitionName=gpu MaxTime=1-00:00:00 State=UP\nPartitionName=long MaxTime=7-00:00:00 State=UP\n"


def nodes(count: int, group: int, seed: int) -> str:
    """What sinfo prints of so many nodes, of which `group` on average are alike; in two partitions that share all of them."""
    chance = random.Random(seed)
    names = [f"node{number:05}" for number in range(count)]
    chance.shuffle(names)
    cuts = sorted({0, count, *(chance.randrange(count) for _ in range(count // group))})
    lines = []
    for low, high in itertools.pairwise(cuts):
        used = chance.randint(0, 8)
        state = chance.choice(("idle", "mixed", "mixed", "allocated", "mixed+planned", "idle+drain"))
        members = "node[" + ",".join(sorted(name.removeprefix("node") for name in names[low:high])) + "]"
        cpus = 96 * (high - low)
        lines += [
            f"{partition}|{state}|{high - low}|{members}|gpu:h100:8(S:0-1)|gpu:h100:{used}(IDX:0-7)|{cpus // 2}/{cpus // 2}/0/{cpus}|1031000|up|x86_64,h100|none|"
            for partition in PARTITIONS
        ]
    return "\n".join(lines) + "\n"


def queue(seed: int) -> str:
    """What `pending_command` prints of a long queue."""
    chance = random.Random(seed)
    return "".join(f"{chance.randint(1, 400):7} gpu|node={n},gres/gpu={n * 8}|gres/gpu:h100:8|N/A|N/A|Priority|\n" for n in range(1, 60))


class LoginNode:
    """A machine that answers what it prepared."""

    name = "login"

    def __init__(self, answers: Mapping[str, Iterator[bytes]]) -> None:
        self._answers = answers

    async def hello(self, *, ask: bool = False) -> Hello:
        """See `Machine`."""
        del ask
        return Hello("login", 1000, "me", "/home/me", "x86_64", "python3", "3.11", "", "/home/me/.cache/jrg/b/x.pyz")

    async def run(self, argv: Sequence[str], *, given: str = "", limit: float = QUICK, env: Mapping[str, str] | None = None) -> Done:
        """See `Machine`."""
        del given, limit, env
        words = set(argv)
        line = next(self._answers[next(word for word in ("sinfo", "sh", "partition", "config") if word in words)])
        await asyncio.sleep(0)
        answer = json.loads(line)
        return Done(answer["status"], answer["out"], answer["err"])

    async def appears(self, path: str, limit: float) -> bool:
        """See `Machine`; nobody asks."""
        del path, limit
        return False

    async def ping(self) -> float:
        """See `Answers`."""
        return 0.01

    async def widen(self) -> bool:
        """See `Machine`."""
        return False

    async def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """See `Machine`; nobody asks for one."""
        return list(argv), {}

    async def aclose(self) -> None:
        """See `Machine`."""


def answers(count: int, group: int) -> dict[str, tuple[bytes, ...]]:
    """The answers of one kind of cluster, by the program."""
    texts = {
        "sinfo": [nodes(count, group, seed) for seed in range(VARIANTS)],
        "sh": [queue(seed) for seed in range(VARIANTS)],
        "partition": [_PARTITIONS],
        "config": ["PrivateData = none\n" + "Name = value\n" * 200],
    }
    return {name: tuple(json.dumps({"id": 1, "status": 0, "out": out, "err": ""}).encode() for out in outs) for name, outs in texts.items()}


def clusters(known: Mapping[str, tuple[bytes, ...]]) -> Clusters:
    """So many of that kind."""
    options = RemoteOptions(data=DataWay.SRUN)
    ready = {
        name: SlurmCluster(name, LoginNode({what: itertools.cycle(lines) for what, lines in known.items()}), options, Settings())
        for name in (f"site{number}" for number in range(CLUSTERS))
    }
    return Clusters(Settings(clusters={}, own_clusters=False), ready)


async def watch(known: Mapping[str, tuple[bytes, ...]], seconds: float, every: float = EVERY) -> tuple[float, float]:
    """(share of a core, processor seconds of the first look at all) of watching for so long after that, with a question now and then, as a panel asks."""
    made = clusters(known)
    snapshots = Snapshots(made, log=logging.getLogger("benchmark"), every=every)
    spent = time.process_time()
    found = await snapshots.known(60)
    first = time.process_time() - spent
    assert all(each.state is ClusterState.READY and each.gpus_total for each in found), "a cluster was not seen"
    began, spent = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        await asyncio.sleep(ASKS)
        _ = [each.json() for each in snapshots.all()]
    share = (time.process_time() - spent) / (time.monotonic() - began)
    await snapshots.aclose()
    await made.aclose()
    return share, first


def measure(quick: bool = False) -> list[Row]:
    """10,000 nodes in 100 clusters, and 10,000 in each."""
    case, rows = "watching 100 clusters, every 15 s", []
    for who, count, group, goal in (("10,000 nodes in all", NODES, GROUP, "< 5 %"), ("10,000 nodes in each", LARGE, 40, "")):
        found = [asyncio.run(watch(answers(count, group), EVERY * (1 if quick else 4))) for _ in range(1 if quick else 3)]
        note = f"a panel asks for all every {ASKS:g} s; {os.cpu_count()} cores"
        rows.append(Row(case, who, "% of a core", tuple(100 * share for share, _ in found), "", goal, note))
        rows.append(Row("first look at 100 clusters", who, "s of a core", tuple(first for _, first in found)))
    return rows
