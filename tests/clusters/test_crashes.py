"""A gateway that is killed between any two steps leaves no job that nobody knows: the next one takes it up, or ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clusters.ways import configuration, forget, use_lab
from tests.fakes import dying_gateway

from jupyter_remote_gpu.models import AllocationState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

STEPS = [
    ("login", "before"),
    ("login", "after"),
    ("sbatch", "before"),
    ("sbatch", "after"),
    ("squeue", "before"),
    ("squeue", "after"),
    ("attach", "before"),
    ("stop-scancel", "before"),
    ("stop-scancel", "after"),
    ("stop-rm", "before"),
]


@pytest.fixture
def cluster(lab, monkeypatch):
    cache = use_lab(lab, monkeypatch)
    yield {**configuration("slurm over ssh", lab), "partition": "hopper"}
    forget(cache)


def killed(base: Path, cluster: dict, command: str, moment: str) -> None:
    script = Path(dying_gateway.__file__)
    argv = [sys.executable, str(script), str(base), json.dumps(cluster), command, moment]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


@pytest.mark.parametrize(("command", "moment"), STEPS)
async def test_a_gateway_that_is_killed_leaves_no_job_unknown(places, cluster, command, moment):
    killed(places.base, cluster, command, moment)
    parts = dying_gateway.built(places.base, cluster)
    try:
        made = parts.clusters["tested"]
        await made._machine.hello(ask=True)
        await parts.sessions.take_up()
        async with asyncio.timeout(90):
            while (found := await parts.sessions.get("crash")).state is AllocationState.PENDING:
                await parts.sessions.wait(found.id, found.stamp, 5)
        known = {session.id for session in parts.registry.sessions()}
        standing = {each.allocation.session for each in await made.sessions()}
        assert standing <= known, "a job stands that the registry holds for over"
        assert found.state.over or found.id in standing
        if command == "login":
            assert found.state is AllocationState.FAILED
        elif command in ("squeue", "attach") or (command, moment) == ("sbatch", "after"):
            assert found.state is AllocationState.RUNNING, found.detail
            await parts.sessions.connect(found.id)
            assert (await parts.sessions.call(found.id, "status"))["session"] == found.id
        await parts.sessions.stop("crash")
        assert not await made.sessions()
    finally:
        for login in parts.logins.all():
            await login.end()
        await parts.aclose()
