"""When Slurm itself thinks that a session would start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.extension.slurm_outputs.recordings import VERSIONS, recorded
from tests.fakes.slurm import SimulatedSlurm, simulated_cluster

from jupyter_remote_gpu.clusters.base import Estimates
from jupyter_remote_gpu.clusters.machines import Done
from jupyter_remote_gpu.clusters.slurm_estimates import read_estimate
from jupyter_remote_gpu.models import KernelLaunch, ResourceRequest, SessionId
from remote_gpu.errors import LinkProblem, UsageProblem

NOW = "1795793000+0000\n"
LATER = "sbatch: Job 5 to start at {} using 1 processors on nodes hx1 in partition hopper\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_says_when_and_where(version):
    said = recorded(version, "estimate-now").err
    start = int(said.split(" to start at ")[1].split()[0])
    found = read_estimate(f"{start - 75}+0100\n{said}", "bristol")
    assert found is not None
    assert (found.seconds, found.source) == (75.0, "Slurm's own estimate (sbatch --test-only): on cn1 in cpu")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_that_would_be_displaced_is_named(version):
    found = read_estimate(NOW + recorded(version, "estimate-preempts").err, "bristol")
    assert found is not None
    assert found.source.startswith("Slurm's own estimate (sbatch --test-only): on hx1 in hopper, in place of job 2")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_that_slurm_would_not_take_is_refused_in_its_words(version):
    with pytest.raises(UsageProblem, match="Requested node configuration is not available"):
        read_estimate(NOW + recorded(version, "estimate-impossible").err, "bristol", 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_controller_that_is_away_says_nothing_of_the_request(version):
    with pytest.raises(LinkProblem):
        read_estimate(NOW + recorded(version, "away-estimate").err, "bristol", 1)


@pytest.mark.parametrize(
    ("clock", "start", "seconds"),
    [
        ("1795780800+0000", "2026-11-27T12:00:00", 0.0),
        ("1795780800+0000", "2026-11-27T12:10:00", 600.0),
        ("1795780800-0500", "2026-11-27T07:10:00", 600.0),
        ("1795780800+0530", "2026-11-27T17:40:00", 600.0),
        ("1795780800-0500", "1795781400", 600.0),
        ("1795780800+0000", "2026-11-27T11:00:00", 0.0),
    ],
)
def test_a_time_in_words_is_the_login_nodes(clock, start, seconds):
    found = read_estimate(f"{clock}\n{LATER.format(start)}", "bristol")
    assert found is not None
    assert found.seconds == seconds


@pytest.mark.parametrize(
    "said",
    [
        "",
        NOW,
        LATER.format("1795793060"),
        NOW + LATER.format("Unknown"),
        NOW + LATER.format("tomorrow"),
        NOW + "Welcome!\n",
    ],
)
def test_what_says_no_time_is_no_estimate(said):
    assert read_estimate(said, "bristol") is None


def test_a_site_may_print_before_it_answers():
    found = read_estimate(f"Welcome to login1!\n{NOW}sbatch: lua: account set to dri\n{LATER.format(1795793060)}", "bristol")
    assert found is not None
    assert found.seconds == 60.0


class Watched(SimulatedSlurm):
    """Keeps what sbatch was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, ...]] = []
        self.refuses = Done(0, "", "")
        self.silent = False

    async def run(self, argv: Sequence[str], **rest) -> Done:
        if "sbatch" in argv:
            self.told.append(tuple(argv[argv.index("sbatch") :]))
            if self.silent and "--test-only" in argv:
                await asyncio.Event().wait()
            if self.refuses.status:
                return self.refuses
        return await super().run(argv, **rest)


@pytest.fixture
async def cluster():
    made = simulated_cluster(Watched())
    yield made
    await made.aclose()


async def test_a_cluster_is_asked_with_the_options_of_the_launch(cluster):
    assert isinstance(cluster, Estimates)
    request = ResourceRequest(gpus=2, time=600)
    found = await cluster.estimate(request)
    assert found is not None
    assert 0 <= found.seconds <= 2
    await cluster._jobs.submit(request, KernelLaunch(SessionId("aaaaaaaaaa")))
    asked, launched = cluster._machine.told
    named = {"--test-only", *(word for word in asked if "estimate00" in word)}
    assert [word for word in asked if word not in named] == [word for word in launched if "aaaaaaaaaa" not in word]


async def test_the_same_question_is_asked_once(cluster):
    request = ResourceRequest(gpus=1)
    found = await asyncio.gather(*(cluster.estimate(request) for _ in range(50)))
    assert len(set(found)) == 1
    assert len(cluster._machine.told) == 1
    await cluster.estimate(ResourceRequest(gpus=2))
    assert len(cluster._machine.told) == 2


async def test_a_refusal_reaches_all_who_ask(cluster):
    cluster._machine.refuses = Done(1, "", f"{NOW}allocation failure: Requested node configuration is not available\n")
    for _ in range(2):
        with pytest.raises(UsageProblem, match="Requested node configuration is not available"):
            await cluster.estimate(ResourceRequest(gpus=9))
    assert len(cluster._machine.told) == 1


async def test_a_scheduler_that_does_not_answer_in_time_has_no_estimate(cluster, monkeypatch):
    monkeypatch.setattr("jupyter_remote_gpu.clusters.slurm_estimates._LIMIT", 0.05)
    await cluster._machine.hello()
    cluster._machine.silent = True
    assert await cluster.estimate(ResourceRequest(gpus=1)) is None


async def test_a_caller_who_leaves_takes_the_answer_from_nobody(cluster):
    await cluster._machine.hello()
    first, second = (asyncio.create_task(cluster.estimate(ResourceRequest(gpus=1))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    with pytest.raises(asyncio.CancelledError):
        await first
