"""What waits in a cluster's queue, and what a cluster offers with it."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extension.slurm_outputs.recordings import VERSIONS, recorded
from tests.fakes.slurm import simulated_cluster

from jupyter_remote_gpu.clusters.machines import Done
from jupyter_remote_gpu.clusters.slurm_nodes import parse_nodes, pools
from jupyter_remote_gpu.clusters.slurm_offer import OWN_JOBS_ONLY, Offer
from jupyter_remote_gpu.clusters.slurm_pending import Pending, hides_jobs, parse_pending, pending_command, with_queue
from jupyter_remote_gpu.clusters.slurm_site import parse_partitions
from jupyter_remote_gpu.clusters.slurm_text import queue_command
from jupyter_remote_gpu.offers import Pool
from remote_gpu.errors import LinkProblem


def counted(version: str, name: str = "reasons-queue") -> str:
    """What `pending_command` would have printed when `name` was recorded, of the columns that were."""
    columns = [each.partition(":")[0] for each in queue_command()[-1].removeprefix("--Format=").split(",")]
    rows = (dict(zip(columns, line.split("|"), strict=False)) for line in recorded(version, name).out.splitlines())
    lines = Counter(
        f"{row['Partition']}|{row['tres-alloc']}|{row['tres-per-node']}|{row['tres-per-job']}|N/A|{row['Reason']}|"
        for row in rows
        if row["State"] == "PENDING"
    )
    return "".join(f"{count:7} {line}\n" for line, count in lines.items())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_gpus_that_wait_are_counted_by_partition_and_type(version):
    waiting = parse_pending(counted(version))
    seen = {pool.name: pool for pool in with_queue(pools(parse_nodes(recorded(version, "reasons-nodes").out)), waiting, {})}
    hopper = seen["hopper"]
    assert hopper.pending_jobs >= 3
    assert hopper.pending_gpus >= 8
    assert (seen["mig:nvidia_h100_80gb_hbm3"].pending_jobs, seen["vip"].pending_gpus) == (0, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_that_wait_for_something_else_than_nodes_do_not_count(version):
    output = counted(version)
    held = sum(1 for line in output.splitlines() if "|JobHeldUser|" in line or "|BeginTime|" in line or "|Dependency|" in line)
    assert held >= 3
    assert sum(each.jobs for each in parse_pending(output)) < sum(int(line.split()[0]) for line in output.splitlines())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_partitions_time_limit_is_its_pools(version):
    limits = {each.name: each.max_time for each in parse_partitions(recorded(version, "partitions").out)}
    seen = {pool.name: pool for pool in with_queue(pools(parse_nodes(recorded(version, "nodes-idle").out)), (), limits)}
    assert (seen["grace"].time_limit, seen["cpu"].time_limit) == (86400, 0)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("  3 gpu|node=2,gres/gpu=8,gres/gpu:h100=8|gres/gpu:h100:4|N/A|N/A|Resources|", Pending(("gpu",), (("h100", 24),), 3)),
        ("  1 a,b|node=1,gres/gpu=1,|gres:gpu:1|N/A|N/A|Priority|", Pending(("a", "b"), (("", 1),), 1)),
        ("  2 gpu|node=3|gres:gpu:a100:2|N/A|N/A|Priority|", Pending(("gpu",), (("a100", 12),), 2)),
        ("  1 gpu|node=3|N/A|gres/gpu:5|N/A|Priority|", Pending(("gpu",), (("", 5),), 1)),
        ("  1 gpu|node=1,gres/gpu=1|N/A|N/A|1-1000%10|Priority|", Pending(("gpu",), (("", 1000),), 1000)),
        ("  1 gpu|node=1|N/A|N/A|[2,4,7-9]|None|", Pending(("gpu",), (), 5)),
        ("  1 gpu|node=1|N/A|N/A|1,3,5,...|None|", Pending(("gpu",), (), 3)),
        ("  1 gpu|node=1|N/A|N/A|0-20:4|None|", Pending(("gpu",), (), 6)),
        ("  1 gpu|node=1|N/A|N/A|N/A|ReqNodeNotAvail, UnavailableNodes:a|b|", Pending(("gpu",), (), 1)),
    ],
)
def test_each_form_of_a_line_is_read(line, found):
    assert parse_pending(line) == (found,)


@pytest.mark.parametrize("output", ["", "Welcome to the cluster!\n", "  x gpu|||\n", "7 a|b\n", "slurm_load_jobs error: …\n"])
def test_lines_that_are_not_counts_are_passed_over(output):
    assert parse_pending(output) == ()


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text):
    assert all(each.jobs >= 0 for each in parse_pending(text))


def test_a_job_waits_for_the_pools_that_could_run_it():
    kinds = (Pool("gpu:a100", "a100", gpus_total=4), Pool("gpu:h100", "h100", gpus_total=4), Pool("cpu"))
    waiting = (
        Pending(("gpu",), (("h100", 20),), 10),
        Pending(("gpu",), (("", 3),), 3),
        Pending(("gpu", "cpu"), (), 5),
        Pending(("elsewhere",), (("h100", 99),), 99),
    )
    a100, h100, cpu = with_queue(kinds, waiting, {"gpu": 3600, "cpu": None})
    assert (a100.pending_jobs, a100.pending_gpus, a100.time_limit) == (8, 3, 3600)
    assert (h100.pending_jobs, h100.pending_gpus) == (18, 23)
    assert (cpu.pending_jobs, cpu.pending_gpus, cpu.time_limit) == (5, 0, 0)


def test_ten_thousand_jobs_are_cheap():
    kinds = [f"{number % 90 + 1} p{number % 20}|node=1,gres/gpu={number % 8}|N/A|N/A|N/A|Priority|" for number in range(400)]
    shown = tuple(Pool(f"p{number}", "h100", gpus_total=8) for number in range(20))
    began = time.process_time()
    seen = with_queue(shown, parse_pending("\n".join(kinds)), {})
    assert time.process_time() - began < 0.05
    assert sum(pool.pending_jobs for pool in seen) > 10_000


async def test_the_counting_is_done_over_there(tmp_path):
    queue = "".join(f"gpu|cpu={number},mem={number}G,node=1,billing=5,gres/gpu=1|N/A|N/A|N/A|Priority|\n" for number in range(1, 2001))
    (tmp_path / "squeue").write_text(f"#!/bin/sh\ncat <<'X'\n{queue}X\n")
    (tmp_path / "squeue").chmod(0o755)
    argv = ["env", f"PATH={tmp_path}:/usr/bin:/bin", *pending_command()]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().split(None, 1) == ["2000", "gpu|node=1,gres/gpu=1|N/A|N/A|N/A|Priority|\n"]


@pytest.mark.parametrize(("text", "hidden"), [("none", False), ("jobs", True), ("accounts,jobs,usage", True), ("accounts,nodes", False)])
def test_a_site_that_shows_only_own_jobs_is_noticed(text, hidden):
    assert hides_jobs(f"Priority = 1\nPrivateData             = {text}\nProctrackType = x\n") is hidden


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_configuration_hides_nothing(version):
    assert not hides_jobs(recorded(version, "config").out)


class Site:
    """A login node that answers by the program."""

    name = "login"

    def __init__(self, **answers: Done | Exception) -> None:
        self.answers: dict[str, Done | Exception] = {
            "sh": Done(0, "  4 hopper|node=1,gres/gpu=2,gres/gpu:h100=2|N/A|N/A|N/A|Priority|\n", ""),
            "partition": Done(0, "PartitionName=hopper MaxTime=1-00:00:00 State=UP\n", ""),
            "config": Done(0, "PrivateData = none\n", ""),
            **answers,
        }
        self.asked: Counter[str] = Counter()

    async def run(self, argv: Sequence[str], *, given: str = "", limit: float = 30, env: object = None) -> Done:
        del given, limit, env
        what = "sh" if "sh" in argv else argv[-1]
        self.asked[what] += 1
        if isinstance(answer := self.answers[what], Exception):
            raise answer
        if answer.status == -1:
            await asyncio.Event().wait()
        return answer


async def nodes():
    return parse_nodes(recorded("24.11", "nodes-idle").out)


async def hopper_of(offer: Offer) -> tuple[Pool, str]:
    seen, _, note = await offer.look()
    return next(pool for pool in seen if pool.name == "hopper"), note


async def test_a_cluster_offers_its_pools_with_queue_and_limits():
    pool, note = await hopper_of(Offer(Site(), nodes))
    assert (pool.pending_jobs, pool.pending_gpus, pool.time_limit, note) == (4, 8, 86400, "")
    assert (pool.nodes, pool.cpus_per_node, pool.memory_mb_per_node, pool.gpus_free) == (2, 16, 32000, 8)


async def test_a_queue_of_own_jobs_is_not_taken_for_the_queue():
    pool, note = await hopper_of(Offer(Site(config=Done(0, "PrivateData = jobs\n", "")), nodes))
    assert (pool.pending_jobs, pool.pending_gpus, note) == (0, 0, OWN_JOBS_ONLY)


@pytest.mark.parametrize(
    "answer",
    [LinkProblem("gone"), Done(1, "", "error"), Done(0, "", "sh: squeue: not found"), Done(None, "", ""), Done(-1, "", "")],
    ids=["gone", "error", "no squeue", "ended at its limit", "silent"],
)
async def test_a_queue_that_cannot_be_had_does_not_fail_the_nodes(answer, monkeypatch):
    monkeypatch.setattr("jupyter_remote_gpu.clusters.slurm_offer._LIMIT", 0.05)
    pool, _ = await hopper_of(Offer(Site(sh=answer, partition=answer, config=answer), nodes))
    assert (pool.gpus_total, pool.pending_jobs, pool.time_limit) == (8, 0, 0)


async def test_the_queue_is_asked_once_a_minute_and_rules_more_seldom():
    site = Site()
    offer = Offer(site, nodes)
    for _ in range(5):
        await offer.look()
    assert site.asked == {"sh": 1, "partition": 1, "config": 1}


async def test_nodes_that_cannot_be_had_are_a_failure_and_leave_nothing_behind():
    async def none():
        raise LinkProblem("sinfo failed")

    before = asyncio.all_tasks()
    with pytest.raises(LinkProblem, match="sinfo failed"):
        await Offer(Site(sh=Done(-1, "", "")), none).look()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_simulated_clusters_snapshot_has_its_queue():
    cluster = simulated_cluster()
    machine = cluster._machine
    machine.scheduler.turn = 1e9
    for _ in range(3):
        machine.scheduler.submit("other", gpus=3, limit="60", log="/l", account="")
    try:
        seen = await cluster.snapshot()
    finally:
        await cluster.aclose()
    (pool,) = seen.pools
    assert (pool.gpus_total, pool.cpus_per_node, pool.time_limit) == (4, 16, 86400)
    assert (pool.pending_jobs, pool.pending_gpus) == (3, 9)


def test_the_command_is_one_line_for_a_shell():
    words = shlex.split(pending_command()[2])
    assert words[:2] == ["SLURM_BITSTR_LEN=0", "squeue"]
    assert words[-2:] == ["uniq", "-c"]
