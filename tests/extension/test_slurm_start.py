"""How a job in the queue is followed to its start: seldom, and at once when it begins."""

from __future__ import annotations

import asyncio

import pytest
from tests.extension.test_slurm_queue import Controller

from jupyter_remote_gpu.clusters import slurm_start
from jupyter_remote_gpu.clusters.slurm_queue import Queue
from jupyter_remote_gpu.clusters.slurm_start import Waiting
from jupyter_remote_gpu.models import Allocation, SessionId
from remote_gpu.errors import LinkProblem


class Begins:
    """The jobs of a cluster, of which the log of one appears in its time; `then` says what that does."""

    def __init__(self, *answers, then) -> None:
        self.answers, self.then, self.limits = list(answers), then, []

    async def begun(self, session: str, limit: float) -> bool:
        assert session == "s7"
        self.limits.append(limit)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer:
            self.then()
        else:
            await asyncio.sleep(limit)
        return answer


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(slurm_start, "_FIRST", 0.01)


async def followed(controller: Controller, jobs: Begins) -> list[Allocation]:
    queue = Queue(controller, "bristol")
    waiting = Waiting(queue, jobs, None)
    submitted = Allocation("bristol", SessionId("s7"), job_id="7", folder="s7", detail="Submitted.")
    return [each async for each in waiting.until_it_runs(submitted)]


async def test_a_job_that_begins_is_looked_at_at_once_and_not_before():
    controller = Controller()
    controller.states["7"] = "PENDING"
    jobs = Begins(False, True, then=lambda: controller.states.update({"7": "RUNNING"}))
    steps = await followed(controller, jobs)
    assert [step.detail.split(";")[0] for step in steps] == ["Slurm job 7 waits", "Slurm job 7 runs on "]
    assert len(jobs.limits) == 2
    assert jobs.limits[1] > jobs.limits[0]


async def test_a_log_from_before_does_not_make_a_job_that_waits_again_be_asked_for_all_the_time():
    controller = Controller()
    controller.states["7"] = "PENDING"
    looks = []

    async def jobs(*, within):
        looks.append(within)
        if len(looks) == 5:
            controller.states["7"] = "RUNNING"
        return await seen(within=within)

    queue = Queue(controller, "bristol")
    seen, queue.jobs = queue.jobs, jobs
    began = Begins(True, then=lambda: None)
    async for _ in Waiting(queue, began, None).until_it_runs(Allocation("bristol", SessionId("s7"), job_id="7", folder="s7")):
        pass
    assert len(began.limits) == 1


async def test_a_login_that_cannot_tell_leaves_it_at_looking_now_and_then():
    controller = Controller()
    controller.states["7"] = "PENDING"
    gone = [LinkProblem("The login is gone."), LinkProblem("The login is gone."), True]
    steps = await followed(controller, Begins(*gone, then=lambda: controller.states.update({"7": "RUNNING"})))
    assert "runs on" in steps[-1].detail


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED"])
async def test_a_job_that_ends_in_the_queue_is_no_start(state, monkeypatch):
    monkeypatch.setattr(slurm_start, "explained", lambda *_: told())

    async def told():
        return LinkProblem(f"It is over: {state}.")

    controller = Controller()
    controller.states["7"] = "PENDING"
    jobs = Begins(False, False, then=lambda: None)
    begun = jobs.begun

    async def ends(session, limit):
        controller.states["7"] = state
        return await begun(session, limit)

    jobs.begun = ends
    with pytest.raises(LinkProblem, match=state):
        await followed(controller, jobs)
