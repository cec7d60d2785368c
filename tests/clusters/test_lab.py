"""The lab itself: what the other tests of clusters rely on is really there."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lab import Cluster, Lab
from tests.lab.processes import start_time

SLEEP = "#!/bin/sh\nsleep 300\n"


def submit(lab: Lab, host: str, *options: str, script: str = SLEEP) -> str:
    done = lab.ssh(host, "sbatch", "--parsable", "-o", "/dev/null", *options, input=script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def running(lab: Lab) -> Iterator[Callable[..., tuple[str, Cluster]]]:
    """Submits a job, which is ended after the test."""
    jobs: list[tuple[str, Cluster]] = []

    def submitted(host: str, *options: str, script: str = SLEEP) -> tuple[str, Cluster]:
        cluster = lab.montreal if host.startswith("montreal") else lab.bristol
        jobs.append((submit(lab, host, *options, script=script), cluster))
        return jobs[-1]

    yield submitted
    for job, cluster in jobs:
        cluster.slurm("scancel", job)


@pytest.fixture
def answering(lab: Lab, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ssh with a program that answers each of its questions with the lab's password, and notes them in its errors."""
    program = tmp_path / "askpass"
    program.write_text(f'#!/bin/sh\necho "asked: $1" >&2\necho {lab.password}\n')
    program.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}

    def run(host: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [lab.bin / "ssh", host, *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
        )

    return run


@pytest.mark.parametrize("host", ["bristol", "montreal"])
def test_a_job_that_alice_submits_over_ssh_runs_as_her_on_a_node_that_is_a_machine_of_its_own(lab, running, host):
    file = lab.alice.home / f"said-{host}"
    script = f"#!/bin/sh\necho $(id -un) $(hostname) $CUDA_VISIBLE_DEVICES > {file}\ntouch /tmp/was-here\n"
    job, cluster = running(host, "--gres=gpu:1", script=script)
    assert cluster.wait_for_state(job, "COMPLETED", "FAILED") == "COMPLETED"
    user, node, gpus = file.read_text().split()
    assert (user, gpus) == ("alice", "0")
    assert node in cluster.nodes
    assert (cluster.machines[node].temporary / "was-here").exists()
    assert not Path("/tmp/was-here").exists()
    assert lab.ssh(host, "test -e /tmp/was-here").returncode == 1


def test_every_user_can_run_the_python_of_the_nodes_and_one_of_the_two_has_ipykernel(lab):
    version = "import ipykernel; print(ipykernel.version_info[0])"
    assert lab.ssh("bristol-bob", f"{lab.python} -c '{version}'").stdout == "7\n"
    assert "No module named 'ipykernel'" in lab.ssh("box", f"{lab.bare_python} -c '{version}'").stderr


def test_a_second_gpu_of_the_small_account_has_to_wait(running):
    first, bristol = running("bristol", "-A", "small", "--gres=gpu:1")
    bristol.wait_for_state(first, "RUNNING")
    second, _ = running("bristol", "-A", "small", "--gres=gpu:1")
    assert bristol.wait_for_reason(second, "AssocGrpGRES") == "AssocGrpGRES"
    assert bristol.job(second)["JobState"] == "PENDING"


def test_a_job_that_is_too_long_for_its_partition_waits_for_ever_in_bristol(running):
    job, bristol = running("bristol", "-p", "short", "-t", "10")
    assert bristol.wait_for_reason(job, "PartitionTimeLimit") == "PartitionTimeLimit"


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        ("bristol", "-A closed", "Job violates accounting/QOS policy"),
        ("bristol-bob", "-A small", "Invalid account or account/partition combination specified"),
        ("bristol-carol", "", "Invalid account or account/partition combination specified"),
        ("montreal", "-p interactive -t 120", "Requested time limit is invalid"),
        ("montreal", "--gres=gpu:h100:9", "Requested node configuration is not available"),
    ],
)
def test_who_may_not_submit_is_told_so_in_slurms_words(lab, host, options, words):
    done = lab.ssh(host, f"sbatch {options} --wrap true")
    assert done.returncode == 1
    assert words in done.stderr


def test_how_a_job_ended_is_known_to_sacct_in_bristol_and_to_scontrol_in_montreal(lab, running, wait_until):
    script = "#!/bin/sh\nexit 3\n"
    there, montreal = running("montreal", script=script)
    here, _ = running("bristol", script=script)
    montreal.wait_for_state(there, "FAILED")
    assert montreal.job(there)["ExitCode"] == "3:0"
    assert "accounting storage is disabled" in lab.ssh("montreal", "sacct").stderr
    ask = f"sacct -X -n -P -j {here} -o State,ExitCode"
    assert wait_until(lambda: lab.ssh("bristol", ask).stdout == "FAILED|3:0\n", 20)


def test_root_and_a_step_from_the_login_can_use_a_running_job(lab, running):
    job = lab.bristol.slurm("sbatch", "--parsable", "-o", "/dev/null", "--gres=gpu:1", input=SLEEP).stdout.strip()
    lab.bristol.wait_for_state(job, "RUNNING")
    lab.bristol.slurm("scancel", job)
    job, bristol = running("bristol", "-p", "hopper", "--gres=gpu:2")
    bristol.wait_for_state(job, "RUNNING")
    done = lab.ssh("bristol", f"srun --overlap --jobid {job} printenv SLURMD_NODENAME CUDA_VISIBLE_DEVICES")
    assert done.stdout.split() in (["hx1", "0,1"], ["hx2", "0,1"])


@pytest.mark.parametrize(
    ("host", "user", "machine"),
    [
        ("montreal-jump", "alice", "montreal-login"),
        ("bristol-bob", "bob", "bristol-login"),
        ("certified", "alice", "bristol-login"),
        ("box", "alice", "box"),
    ],
)
def test_each_host_is_the_user_and_the_machine_that_it_says(lab, host, user, machine):
    assert lab.ssh(host, "id -un; hostname").stdout.split() == [user, machine]


def test_the_box_has_no_slurm_and_the_nodes_are_reached_from_their_login(lab):
    assert "command not found" in lab.ssh("box", "sbatch --version").stderr
    assert lab.ssh("bristol", "ssh gh1 hostname; ssh hx2 hostname").stdout.split() == ["gh1", "hx2"]
    assert lab.ssh("montreal", "ssh nv3 hostname").stdout == "nv3\n"
    done = subprocess.run(["ssh", "-F", lab.nodes_config, "ta1", "id -un"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout == "root\n"


@pytest.mark.parametrize(("host", "question"), [("guarded", "alice@127.0.0.1's password:"), ("asking", "(alice@127.0.0.1) Password:")])
def test_a_second_factor_is_asked_for(lab, answering, host, question):
    done = answering(host, "id -un")
    assert done.stdout == "alice\n"
    assert question in done.stderr
    assert "Permission denied" in lab.ssh(host, "true").stderr


def test_a_certificate_ends_when_it_was_told_to(lab, wait_until):
    lab.sign_certificate(2)
    assert lab.ssh("certified", "true").returncode == 0
    assert wait_until(lambda: "Permission denied" in lab.ssh("certified", "true").stderr, 15)
    lab.sign_certificate(86400)
    assert lab.ssh("certified", "true").returncode == 0


def test_an_unknown_and_a_changed_host_key_are_refused_without_a_person(lab):
    assert "Host key verification failed" in lab.ssh("stranger", "true").stderr
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in lab.ssh("impostor", "true").stderr


def test_a_cut_ends_the_connections_that_are_there_and_what_they_ran_lives_on(lab, wait_until):
    server = lab.sshd["montreal"]
    command = "sleep 123 & echo $!; wait"
    with subprocess.Popen([lab.bin / "ssh", "montreal", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        inner = client.stdout.readline().strip()
        assert len(server.connections()) >= 2
        server.cut()
        assert client.wait(10) == 255
    assert server.connections() == []
    assert lab.ssh("montreal", f"kill {inner}").returncode == 0
    server.stop()
    assert "Connection refused" in lab.ssh("montreal", "true").stderr
    server.start()
    assert lab.ssh("montreal", "true").returncode == 0


def test_a_frozen_login_says_nothing_until_it_thaws(lab):
    server = lab.sshd["box"]
    server.freeze()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            lab.ssh("box", "true", timeout=2)
    finally:
        server.thaw()
    assert lab.ssh("box", "true").returncode == 0


def test_nothing_of_the_test_is_in_the_daemons_and_nothing_of_the_lab_on_the_host(lab, places):
    for machine in lab.machines.values():
        for pid in machine.pids():
            if start_time(pid):
                assert b"JUPYTER" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert str(lab.folder) not in Path("/proc/mounts").read_text()
    assert not {user.uid for user in (lab.alice, lab.bob, lab.carol)} & {entry.pw_uid for entry in pwd.getpwall()}
