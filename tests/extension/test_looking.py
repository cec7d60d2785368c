"""Looks at hosts, with an ssh of the tests' own: what is found, what is proposed, and that nothing is written."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from tests.extension.slurm_outputs.recordings import VERSIONS, recorded
from tests.fakes.ssh import FakeHost, FakeSsh

from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.looking.look import check_wanted, look
from jupyter_remote_gpu.looking.programs import Part, parts_of
from jupyter_remote_gpu.looking.reading import facts_of, module_version
from remote_gpu.errors import LinkProblem, StartFailed, UsageProblem

API = yaml.safe_load((Path(__file__).parents[2] / "docs/reference/rest-api.yaml").read_text())["components"]["schemas"]
SHELLS = [shell for shell in ("bash", "dash", "zsh", "tcsh", "fish", "ksh") if shutil.which(shell)]
WHOLE = [version for version in VERSIONS if "-" not in version]

PYTHON = """case "$*" in *"import os, sys"*) echo "JRG-PYTHON|$4|{version}|{kernel}|yes|$4 {prefix}" ;; *) exit 9 ;; esac"""
"""A Python that tells what it is, and can do nothing else."""


@pytest.fixture
def ssh(places, monkeypatch):
    made = FakeSsh(places.base / "ssh")
    monkeypatch.setenv("PATH", made.path)
    return made


@pytest.fixture
async def logins(ssh):
    made = Logins()
    yield made
    for login in made.all():
        await login.end()
    await made.aclose()


def python(host: FakeHost, path: str, version: str = "3.12.4", kernel: str = "") -> Path:
    file = host.home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n" + PYTHON.format(version=version, kernel=kernel, prefix=file.parent) + "\n")
    file.chmod(0o755)
    return file


def slurm(
    host: FakeHost,
    version: str = "22.05",
    sbatch: str = "echo 'sbatch: Job 1 to start at 1795791412 using 1 processors on nodes n1 in partition grace' >&2",
):
    """Slurm's commands, which print what real ones did."""
    for program, word, name in (
        ("scontrol", "config", "config"),
        ("scontrol", "partition", "partitions"),
        ("sinfo", "", "nodes-idle"),
        ("sacctmgr", "", "accounts-alice"),
    ):
        (host.folder / f"{program}{word}").write_text(recorded(version, name).out)
    host.command("scontrol", f'for word; do :; done; cat "{host.folder}/scontrol$word"')
    for program in ("sinfo", "sacctmgr"):
        host.command(program, f'cat "{host.folder}/{program}"')
    host.command("sbatch", f'cat > /dev/null; echo "$*" >> "{host.folder}/asked"\n{sbatch}')


async def seen(logins, host, wanted=None, said=None):
    lines = [] if said is None else said
    return await look(logins.of(host), wanted or {}, lines.append)


def why(proposal, setting):
    return next(choice.why for choice in proposal.choices if choice.setting == setting)


# a plain machine


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_host_is_seen_through_any_login_shell_and_nothing_is_written(ssh, logins, shell):
    host = ssh.host("box", shell)
    (host.home / ".bashrc").write_text("echo 'Welcome to box. JRG-LOOK is not ours.'\n")
    (host.home / ".tcshrc").write_text("echo 'Welcome to box.'\n")
    (host.home / ".bash_profile").write_text("echo banner; export SCRATCH=$HOME/'my scratch'\n")
    (host.home / "my scratch").mkdir()
    python(host, ".venv/bin/python", kernel="7.1.0")
    before = host.files()
    found = await seen(logins, "box")
    assert {name: stamp for name, stamp in host.files().items() if not name.startswith((".cache", ".local"))} == before  # fish's own
    facts = found.facts
    assert (facts.system, facts.home, facts.user) == (os.uname().sysname, str(host.home), getpass.getuser())
    assert facts.cut_off == ""
    assert facts.slurm is None
    assert facts.python.path == str(host.home / ".venv/bin/python")
    assert [folder.path for folder in facts.scratch] == [str(host.home / "my scratch")]
    assert facts.home_free_mb > 0
    assert found.proposal.config == {"kind": "ssh", "host": "box", "python": str(host.home / ".venv/bin/python")}
    assert not found.proposal.blockers


async def test_what_is_told_of_a_look_is_as_documented(ssh, logins):
    slurm(ssh.host("hpc"))
    told = (await seen(logins, "hpc")).json()
    json.dumps(told)
    for value, schema in ((told["facts"], "HostFacts"), (told["facts"]["slurm"], "SlurmFacts"), (told["proposal"], "Proposal")):
        assert set(value) == set(API[schema]["properties"]), schema
    properties = API["HostFacts"]["properties"]
    assert all(set(each) == set(properties["pythons"]["items"]["properties"]) for each in told["facts"]["pythons"])
    partition = API["SlurmFacts"]["properties"]["partitions"]["items"]["properties"]
    assert all(set(each) == set(partition) for each in told["facts"]["slurm"]["partitions"])


async def test_a_python3_that_suits_need_not_be_named(ssh, logins):
    host = ssh.host("box")
    host.command("python3", PYTHON.format(version="3.11.2", kernel="7.0.1", prefix="/usr"))
    proposal = (await seen(logins, "box")).proposal
    assert "python" not in proposal.config
    assert "Python 3.11.2 with ipykernel 7.0.1" in why(proposal, "python")


@pytest.mark.parametrize(
    ("version", "kernel", "words"),
    [("3.9.1", "7.0", "3.9.1"), ("3.12.0", "6.29.5", "ipykernel 6.29.5"), ("3.12.0", "", "without ipykernel")],
)
async def test_a_python_that_does_not_suit_is_in_the_way_and_another_can_be_made(ssh, logins, version, kernel, words):
    host = ssh.host("box")
    path = python(host, "mine/bin/python", version, kernel)
    proposal = (await seen(logins, "box", {"python": str(path)})).proposal
    assert words in proposal.blockers[0]
    assert proposal.bootstrap
    proposal = (await seen(logins, "box", {"python": "~/mine/bin/python"})).proposal
    assert words in proposal.blockers[0]


async def test_a_python_that_is_not_there_is_told(ssh, logins):
    ssh.host("box")
    proposal = (await seen(logins, "box", {"python": "/no/python"})).proposal
    assert "/no/python on box does not run" in proposal.blockers[0]


async def test_gpus_are_those_that_nvidia_smi_shows(ssh, logins):
    ssh.host("box").command("nvidia-smi", "printf 'NVIDIA H100, 81559\\nNVIDIA H100, 81559\\n'")
    facts = (await seen(logins, "box")).facts
    assert facts.accelerator == "cuda"
    assert [(gpu.name, gpu.memory_mb) for gpu in facts.gpus] == [("NVIDIA H100", 81559)] * 2


async def test_a_driver_that_does_not_work_is_no_gpu(ssh, logins):
    ssh.host("box").command("nvidia-smi", "echo 'NVIDIA-SMI has failed, because it could not communicate with the driver.'; exit 9")
    assert (await seen(logins, "box")).facts.gpus == ()


# modules, prologues and slow hosts


async def test_a_module_with_a_python_that_suits_becomes_the_prologue(ssh, logins):
    host = ssh.host("hpc")
    path = python(host, "sw/python/3.12/bin/python3", "3.12.1", "7.0.0")
    (host.home / ".bash_profile").write_text(
        f"""module() {{ case "$*" in
  *avail*) printf '/sw/modules:\\npython/3.8.2\\npython/3.12.1(default)\\ngcc/13\\n' >&2 ;;
  'load python/3.12.1') PATH={path.parent}:$PATH ;;
  *) echo "no module $*" >&2; return 1 ;;
esac; }}\n"""
    )
    found = await seen(logins, "hpc")
    assert found.facts.modules == ("python/3.8.2", "python/3.12.1")
    assert found.proposal.config["prologue"] == ["module load python/3.12.1"]
    assert found.proposal.config["python"] == str(path)


async def test_modules_that_take_too_long_are_left_out_and_the_rest_is_seen(ssh, logins):
    host = ssh.host("hpc")
    real = shutil.which("timeout")
    host.command("timeout", f'shift; exec {real} 1 "$@"')
    (host.home / ".bash_profile").write_text("module() { sleep 30; }\n")
    found = await seen(logins, "hpc")
    assert found.facts.modules is None
    assert found.facts.modules_slow
    assert any("--prologue" in warning for warning in found.proposal.warnings)


async def test_a_prologue_that_fails_is_told_with_its_line_and_what_the_shell_said(ssh, logins):
    ssh.host("hpc")
    with pytest.raises(StartFailed, match="module load nothing") as caught:
        await seen(logins, "hpc", {"prologue": ["true", "module load nothing"]})
    assert "not found" in caught.value.message


async def test_a_host_that_runs_only_its_own_commands_is_told(ssh, logins):
    ssh.host("robot", "false")
    with pytest.raises(LinkProblem, match="runs no shell for us"):
        await seen(logins, "robot")


async def test_a_name_that_is_no_host_is_told(ssh, logins):
    with pytest.raises(LinkProblem, match="nowhere cannot be reached"):
        await seen(logins, "nowhere")


def test_a_look_that_was_cut_off_has_what_came_before():
    facts = facts_of(
        "hpc",
        parts_of("\nJRG-LOOK machine\nLinux\naarch64\nn\nme\n/home/me\n/bin/sh\n\nJRG-LOOK = 0\n\nJRG-LOOK pythons\nJRG-PYT"),
        slurm_asked=True,
    )
    assert (facts.arch, facts.cut_off, facts.pythons) == ("aarch64", "pythons", ())


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"pyton": "x"}, "Did you mean 'python'"),
        ({"kind": "site"}, "ssh or slurm"),
        ({"trust": True}, "trust"),
        ({"request": {"gpu": 1}}, "gpus"),
    ],
)
def test_what_is_wanted_is_checked_before_anybody_logs_in(wanted, words):
    with pytest.raises(UsageProblem) as caught:
        check_wanted("box", wanted)
    assert words in str(caught.value)


def test_a_host_that_would_be_an_option_of_ssh_is_refused():
    with pytest.raises(UsageProblem, match="not a host"):
        check_wanted("-oProxyCommand=x", {})


async def test_a_cancelled_look_ends_its_program_over_there(ssh, logins, wait_until):
    host = ssh.host("box")
    host.command("nvidia-smi", f'echo $$ > "{host.folder}/pid"; exec sleep 60')
    host.command("timeout", 'shift; exec "$@"')
    looking = asyncio.create_task(seen(logins, "box"))
    async with asyncio.timeout(20):
        while not (host.folder / "pid").exists() or not (host.folder / "pid").read_text():
            await asyncio.sleep(0.02)
    pid = int((host.folder / "pid").read_text())
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10)


# Slurm


@pytest.mark.parametrize("version", WHOLE)
async def test_slurm_is_asked_for_the_smallest_job_and_proposed_when_it_takes_it(ssh, logins, version):
    host = ssh.host("hpc")
    slurm(host, version)
    said = []
    found = await seen(logins, "hpc", said=said)
    facts = found.facts.slurm
    assert facts.installation.version == tuple(map(int, version.split(".")))
    assert facts.default_account == "dri"
    assert {"mins", "small"} < set(facts.account_names)
    assert [each.name for each in facts.partitions if each.default] == ["grace"]
    assert found.proposal.config["kind"] == "slurm"
    assert "account" not in found.proposal.config
    assert "--account NAME" in why(found.proposal, "account")
    (asked,) = (host.folder / "asked").read_text().splitlines()
    assert "--test-only" in asked
    assert "--gpus-per-node=1" in asked
    assert said[-1].startswith("Slurm would start it")


async def test_slurm_on_a_host_without_it_is_in_the_way(ssh, logins):
    ssh.host("box")
    proposal = (await seen(logins, "box", {"kind": "slurm"})).proposal
    assert "There is no sbatch on box" in proposal.blockers[0]
    assert not proposal.bootstrap


async def test_a_host_with_slurm_may_be_a_plain_machine_all_the_same(ssh, logins):
    host = ssh.host("hpc")
    slurm(host)
    found = await seen(logins, "hpc", {"kind": "ssh"})
    assert (found.facts.slurm, found.proposal.config["kind"]) == (None, "ssh")
    assert not (host.folder / "asked").exists()


async def test_gpus_are_asked_for_as_the_site_wants_it(ssh, logins):
    host = ssh.host("hpc")
    slurm(host, sbatch='case "$*" in *--gres=gpu:1*) ;; *) echo "sbatch: error: Use --gres=gpu:N here." >&2; exit 1 ;; esac')
    proposal = (await seen(logins, "hpc")).proposal
    assert proposal.config["gpus_by"] == "gres"


async def test_a_type_is_named_where_slurm_wants_one(ssh, logins):
    host = ssh.host("hpc")
    slurm(host, sbatch='case "$*" in *gpu*:[a-z]*:1*|*per-node=[a-z]*:1*) ;; *) echo "sbatch: error: Name the model." >&2; exit 1 ;; esac')
    proposal = (await seen(logins, "hpc")).proposal
    assert proposal.config["request"]["gpu_model"] == "gh200"
    assert "partition" not in proposal.config
    assert why(proposal, "request.gpu_model") == "Slurm wants the type named."


async def test_another_account_is_tried_when_the_default_one_is_refused(ssh, logins):
    host = ssh.host("hpc")
    words = "Batch job submission failed: Invalid account or account/partition combination specified"
    slurm(host, sbatch=f'case "$*" in *--account=small*) ;; *) echo "sbatch: error: {words}" >&2; exit 1 ;; esac')
    assert (await seen(logins, "hpc")).proposal.config["account"] == "small"


async def test_when_slurm_takes_nothing_its_own_words_are_in_the_way(ssh, logins):
    host = ssh.host("hpc")
    slurm(host, sbatch=f'cat "{host.folder}/refused" >&2; exit 1')
    (host.folder / "refused").write_text(recorded("22.05", "refusal-submit-limit").err)
    proposal = (await seen(logins, "hpc", {"account": "small"})).proposal
    assert "did not take the job" in proposal.blockers[0]
    assert proposal.config["account"] == "small"
    asked = (host.folder / "asked").read_text().splitlines()
    assert all("--account=small" in line for line in asked)


async def test_a_controller_that_is_away_is_told(ssh, logins):
    host = ssh.host("hpc")
    away = recorded("22.05", "away-nodes").err
    (host.folder / "away").write_text(away)
    for name in ("scontrol", "sinfo", "sacctmgr", "sbatch"):
        host.command(name, f'cat "{host.folder}/away" >&2; exit 1')
    proposal = (await seen(logins, "hpc")).proposal
    assert "Slurm on hpc does not answer" in proposal.blockers[0]


async def test_slurm_that_is_found_in_a_login_shell_only_gives_a_prologue(ssh, logins):
    host = ssh.host("hpc")
    hidden = host.folder / "slurm"
    slurm(host)
    hidden.mkdir()
    for name in ("scontrol", "sinfo", "sacctmgr", "sbatch"):
        (host.folder / "bin" / name).rename(hidden / name)
    (host.home / ".bash_profile").write_text(f"PATH={hidden}:$PATH\n")
    found = await seen(logins, "hpc")
    assert found.facts.slurm.login_only
    assert found.proposal.config["prologue"] == ["true"]
    assert (host.folder / "asked").exists()


async def test_a_wanted_gpu_that_the_cluster_does_not_have_is_told_with_those_that_it_has(ssh, logins):
    slurm(ssh.host("hpc"))
    with pytest.raises(UsageProblem, match="hpc has no b200") as caught:
        await seen(logins, "hpc", {"request": {"gpu_model": "b200"}})
    assert "h100" in caught.value.hint


# odd outputs


def test_lines_that_are_not_ours_are_passed_over():
    parts = parts_of(
        "motd\n\nJRG-LOOK machine\nLinux\nx86_64\nn1\nme\n/home/me\n/bin/sh\n\nJRG-LOOK = 0\nnoise\nJRG-LOOK pythons\n"
        "warning: x\nJRG-PYTHON|/a|3.11.2||maybe|x\nJRG-PYTHON|/b/python|3.11.2||no|/b /b\nJRG-LOOK = 0\nJRG-LOOK end\nJRG-LOOK = 0"
    )
    facts = facts_of("n", parts, slurm_asked=False)
    assert [(each.path, each.venv) for each in facts.pythons] == [("/b/python", False)]


@pytest.mark.parametrize(
    ("said", "free"),
    [
        ("JRG-DF /dev/sda 1000000 600000 409600 60% /home", 400),
        ("JRG-DF nfs:/home 1000000 1 999999 1% /home\nJRG-QUOTA nfs:/home 900000* 1000000 1024000 0 1 2 3", 121),
        ("JRG-QUOTA none", None),
        ("df: no such file", None),
    ],
)
def test_free_space_is_that_of_the_file_system_or_of_the_quota(said, free):
    assert facts_of("n", {"home": Part(said, 0)}, slurm_asked=False).home_free_mb == free


def test_amd_gpus_are_read_by_the_heads_of_their_table():
    said = "JRG-ROCM device,VRAM Total Memory (B),VRAM Total Used Memory (B),Card Series,Card Model\nJRG-ROCM card0,137438953472,0,AMD Instinct MI300A,0x74a0"
    facts = facts_of("n", {"gpus": Part(said, 0)}, slurm_asked=False)
    assert (facts.accelerator, [(gpu.name, gpu.memory_mb) for gpu in facts.gpus]) == ("rocm", [("AMD Instinct MI300A", 131072)])


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("python/3.12.4", (3, 12)),
        ("Python/3.11.5-GCCcore-13.2.0", (3, 11)),
        ("cray-python/3.9.13.1", (3, 9)),
        ("miniforge/24.1", ()),
        ("python", ()),
    ],
)
def test_the_version_of_a_module_is_in_its_name(name, version):
    assert module_version(name) == version
