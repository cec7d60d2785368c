"""What hurts a lab: nodes and controllers that go away, a long path, and the end of a run that was killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.lab.lab import sweep
from tests.lab.processes import all_pids, command_line, start_time

ROOT = Path(__file__).parent.parent.parent
START = """
import os
from tests.lab.lab import Lab
from tests.lab.plan import Owner
lab = Lab.start(owned_by=Owner.of(os.getpid()))
print(lab.folder, *(machine.init for machine in lab.machines.values()))
"""


def test_a_killed_node_takes_its_job_along_and_comes_back(lab, wait_until):
    bristol = lab.bristol
    script = "#!/bin/sh\nsleep 300\n"
    job = lab.ssh("bristol", "sbatch --parsable -o /dev/null -w hx1 -p hopper --gres=gpu:1", input=script).stdout.strip()
    bristol.wait_for_state(job, "RUNNING")
    assert wait_until(lambda: lab.user_pids(lab.alice), 20)
    bristol.kill_node("hx1")
    assert lab.user_pids(lab.alice) == []
    bristol.start_node("hx1")
    lab.clean()
    assert set(bristol.node_states().values()) == {"idle"}
    assert lab.ssh("bristol", "ssh hx1 hostname").stdout == "hx1\n"


@pytest.mark.slow
def test_without_its_controller_slurm_answers_nobody(lab):
    lab.montreal.stop_controller()
    assert lab.ssh("montreal", "timeout 3 squeue").returncode != 0
    lab.montreal.start_controller()
    assert lab.ssh("montreal", "squeue -h").returncode == 0


def test_a_drained_node_takes_no_job_until_it_is_resumed(lab):
    lab.montreal.drain("nv1")
    lab.montreal.wait_for_node("nv1", "drained")
    lab.montreal.resume("nv1")
    lab.montreal.wait_for_node("nv1", "idle")


@pytest.mark.slow
def test_the_far_site_is_far_and_a_broken_path_is_silent(lab):
    with lab.far(one_way_ms=100, loss_ppm=0) as far:
        started = time.monotonic()
        assert lab.ssh("far", "hostname; sinfo -h -o %P").stdout.split() == ["far-login", "main*"]
        assert time.monotonic() - started > 0.6, "a new connection takes several round trips"
        assert "command not found" in lab.ssh("far-box", "sinfo").stderr
        far.cut()
        with pytest.raises(subprocess.TimeoutExpired):
            lab.ssh("far", "true", timeout=3)
        far.mend()
        assert lab.ssh("far", "ssh fr1 hostname").stdout == "fr1\n"
    assert "far" not in lab.hosts


@pytest.mark.slow
def test_the_lab_of_a_run_that_was_killed_is_taken_down_by_the_next(places):
    done = subprocess.run([sys.executable, "-c", START], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    folder, *inits = done.stdout.split()
    assert all(start_time(int(init)) for init in inits)
    assert folder in [str(path) for path in sweep()]
    assert not any(start_time(int(init)) for init in inits)
    assert not Path(folder).exists()
    assert not [pid for pid in all_pids() if folder in command_line(pid)]
