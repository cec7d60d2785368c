"""One look serves everybody, and a controller is asked as seldom as can be."""

from __future__ import annotations

import asyncio

import pytest

from jupyter_remote_gpu.clusters.machines import Done
from jupyter_remote_gpu.clusters.slurm_queue import Queue
from jupyter_remote_gpu.clusters.slurm_text import _QUEUE
from remote_gpu.errors import LinkProblem, StartFailed


class Controller:
    """Answers squeue with the jobs in `states`; everything else is not there."""

    name = "login"

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.asked: list[str] = []
        self.problem: Done | None = None

    async def run(self, argv, *, given="", limit=30, env=None) -> Done:
        program = next(word for word in argv[1:] if not word.startswith("-") and "=" not in word and not word.isupper() and "_" not in word)
        self.asked.append(program)
        await asyncio.sleep(0)
        if self.problem is not None:
            return self.problem
        if program != "squeue":
            return Done(1, "", "slurm_load_jobs error: Invalid job id specified")
        rows = []
        for job, state in self.states.items():
            values = dict.fromkeys(_QUEUE, "") | {
                "JobID": job,
                "State": state,
                "Partition": "grace",
                "Name": f"jrg-s{job}",
                "Reason": "Priority",
            }
            rows.append("|".join(values[name] for name in _QUEUE) + "|")
        return Done(0, "\n".join(rows), "")


async def test_a_hundred_who_ask_at_once_cost_one_command():
    controller = Controller()
    queue = Queue(controller, "bristol")
    controller.states = {str(number): "PENDING" for number in range(1, 101)}
    found = await asyncio.gather(*(queue.job(str(number), within=1.0) for number in range(1, 101)))
    assert [job.id for job in found] == [str(number) for number in range(1, 101)]
    assert controller.asked == ["squeue"]


async def test_a_job_that_is_younger_than_the_last_look_is_looked_for_once_more():
    controller = Controller()
    queue = Queue(controller, "bristol")
    assert await queue.jobs(within=10) == {}
    controller.states["7"] = "PENDING"
    assert (await queue.job("7", within=10)).id == "7"
    assert (await queue.of_session("s7", within=10)).id == "7"
    assert await queue.job("8", within=10) is None


@pytest.mark.parametrize(
    ("done", "kind", "words"),
    [
        (Done(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"), LinkProblem, "does not answer"),
        (Done(None, "", ""), LinkProblem, "does not answer"),
        (Done(127, "", "squeue: No such file or directory"), StartFailed, "no Slurm"),
        (Done(1, "", "squeue: error: something else"), LinkProblem, "something else"),
    ],
)
async def test_a_queue_that_cannot_be_seen_says_why(done, kind, words):
    controller = Controller()
    controller.problem = done
    with pytest.raises(kind, match=words):
        await Queue(controller, "bristol").jobs(within=0)
