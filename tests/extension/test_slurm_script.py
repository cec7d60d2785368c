"""The batch job: its script, its options, and what may not become one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_remote_gpu.clusters.prologue import FAILED, STATUS
from jupyter_remote_gpu.clusters.slurm_checks import ALLOWED, check_extra, check_request
from jupyter_remote_gpu.clusters.slurm_script import Batch, GpusBy, job_name, merged, options, script, session_of
from jupyter_remote_gpu.clusters.slurm_units import parse_memory, parse_time
from jupyter_remote_gpu.models import ResourceRequest, SessionId
from remote_gpu.errors import UsageProblem

BATCH = Batch(
    SessionId("abcdefghij"), "/home/alice/s/abcdefghij", "/home/alice/s/abcdefghij/job.log", ("/usr/bin/python3", "-m", "x y", "'q'")
)
NOTHING = ResourceRequest()


def given_options(request=NOTHING, defaults=NOTHING, **rest) -> list[str]:
    return options(request, defaults, **{"batch": BATCH, **rest})


def run(batch: Batch) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "SSH_CONNECTION": "1.2.3.4", "KEPT": "yes"}
    return subprocess.run(["bash", "-s"], input=script(batch), capture_output=True, text=True, env=environment, timeout=30)


def test_the_script_becomes_the_command_in_the_same_process():
    code = "import os; print(os.getpid(), os.getppid(), os.environ.get('SSH_CONNECTION'), os.environ['KEPT'], os.environ.get('ADDED'))"
    batch = replace(BATCH, command=(sys.executable, "-c", code), prologue=("export ADDED='a b'",))
    process = subprocess.Popen(
        ["bash", "-s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/", "KEPT": "yes"},
    )
    said, _ = process.communicate(script(batch), timeout=30)
    assert said.split("\n")[-2] == f"{process.pid} {os.getpid()} None yes a b"


def test_arguments_reach_the_command_as_they_are():
    code = "import sys; print(sys.argv[1:])"
    done = run(replace(BATCH, command=(sys.executable, "-c", code, "a b", "$HOME", "'", '"', "`id`", "")))
    assert done.stdout == str(["a b", "$HOME", "'", '"', "`id`", ""]) + "\n"


def test_a_line_of_the_prologue_that_fails_is_named_and_nothing_runs():
    done = run(replace(BATCH, command=("echo", "it ran"), prologue=("true", "cd /nowhere # there", "echo later")))
    assert done.returncode == STATUS
    assert f"{FAILED}cd /nowhere # there\n" in done.stderr
    assert done.stdout == ""


def test_the_script_has_no_line_that_sbatch_reads_as_options():
    text = script(replace(BATCH, prologue=("#SBATCH --array=1-9",)))
    assert text.startswith("#!/bin/bash\n")
    assert not any(line.startswith("#SBATCH") for line in text.splitlines())


@pytest.mark.parametrize("line", ["a\nb", "a\rb", "a\0b"])
def test_a_prologue_line_is_one_line(line):
    with pytest.raises(UsageProblem, match="line break or a NUL"):
        script(replace(BATCH, prologue=(line,)))


def test_a_request_becomes_options():
    request = ResourceRequest(
        gpus=2,
        cpus=12,
        memory_mb=4096,
        time=5400,
        partition="gpu",
        account="def-x",
        qos="q",
        constraint="[a|b]&c",
        reservation="r",
        exclusive=True,
    )
    assert given_options(request, gpu_type="h100") == [
        "--job-name=jrg-abcdefghij",
        "--chdir=/home/alice/s/abcdefghij",
        "--output=/home/alice/s/abcdefghij/job.log",
        "--error=/home/alice/s/abcdefghij/job.log",
        "--open-mode=append",
        "--no-requeue",
        "--signal=B:USR1@120",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=12",
        "--mem=4096M",
        "--time=01:30:00",
        "--exclusive",
        "--gpus-per-node=h100:2",
        "--partition=gpu",
        "--account=def-x",
        "--qos=q",
        "--constraint=[a|b]&c",
        "--reservation=r",
    ]


def test_what_is_not_asked_for_is_left_to_the_cluster():
    names = {option.partition("=")[0] for option in given_options()}
    assert names == {
        "--job-name",
        "--chdir",
        "--output",
        "--error",
        "--open-mode",
        "--no-requeue",
        "--signal",
        "--nodes",
        "--ntasks-per-node",
    }
    assert not any(option.startswith("--signal") for option in given_options(batch=replace(BATCH, warn_before=0)))
    assert "--requeue" in given_options(requeue=True)


def test_gpus_are_asked_for_in_the_way_of_the_site():
    request = ResourceRequest(gpus=4, nodes=2)
    assert "--gpus-per-node=4" in given_options(request)
    assert "--gres=gpu:h100:4" in given_options(request, gpus_by=GpusBy.GRES, gpu_type="h100")
    assert "--gpus=h100:8" in given_options(request, gpus_by=GpusBy.GPUS, gpu_type="h100")


def test_no_gpu_is_not_the_clusters_default_of_one():
    default = ResourceRequest(gpus=1, partition="gpu", time=60)
    assert merged(ResourceRequest(gpus=0, time=120), default) == ResourceRequest(gpus=0, partition="gpu", time=120)
    assert merged(NOTHING, default) == default
    assert not any("gpu" in option for option in given_options(ResourceRequest(gpus=0, partition="cpu"), default))


def test_a_job_is_known_by_its_name():
    assert session_of(job_name("abcdefghij")) == "abcdefghij"
    assert [session_of(name) for name in ("wrap", "jrg-", "x-jrg-a")] == [None] * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("partition", "-p"),
        ("partition", "a b"),
        ("account", "a\nb"),
        ("account", "a,b"),
        ("qos", "$(id)"),
        ("constraint", "-x"),
        ("constraint", "a b"),
        ("reservation", "a;b"),
        ("gpu_model", "--wrap"),
        ("gpu_model", "h100:4"),
        ("time", -5),
        ("time", 10**9),
        ("nodes", 10**6),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused(field, value):
    with pytest.raises(UsageProblem) as caught:
        check_request(ResourceRequest(**{field: value}))
    assert caught.value.details["field"] == field


@pytest.mark.parametrize("value", ["def-smith_gpu", "rrg-x.y", "a@b", "32gpu_qos"])
def test_words_that_sites_have_are_taken(value):
    check_request(ResourceRequest(partition=f"{value},b", account=value, qos=value, reservation=value, constraint=f"[{value}|b]*4&!c"))


@pytest.mark.parametrize(
    "option",
    [
        "--mail-type=END",
        "--mail-user=a@b.org",
        "--comment=a b|c",
        "--nice=100",
        "--licenses=m:1@x",
        "--contiguous",
        "--switches=1@5:00",
        "--exclude=n[1-3]",
    ],
)
def test_options_that_only_place_a_job_are_allowed(option):
    check_extra([option])
    assert given_options(extra=[option])[-1] == option


@pytest.mark.parametrize(
    "option",
    [
        "--wrap=id",
        "--wra=id",
        "--array=1-9",
        "--output=/x",
        "--input=/x",
        "--chdir=/",
        "--export=NONE",
        "--export-file=/x",
        "--get-user-env",
        "--parsable",
        "--test-only",
        "--wait",
        "--requeue",
        "--clusters=other",
        "--uid=0",
        "--hold",
        "--container=/x",
        "--bb=x",
        "--bbf=/x",
        "--nodefile=/x",
        "--gres=gpu:8",
        "--partition=other",
        "--constraint=x",
        "-p",
        "-pgpu",
        "p=x",
        "--",
        "id",
        "",
        "--comment x",
        "--Comment=x",
        "--comment=a\nb",
        "--comment=a\x1bb",
        "--comment=",
        "--comment=-x",
    ],
)
def test_any_other_option_is_refused_by_name(option):
    with pytest.raises(UsageProblem) as caught:
        check_extra(["--nice=1", option])
    assert caught.value.details["option"] == option


def test_a_refusal_lists_what_is_allowed_and_what_was_meant():
    with pytest.raises(UsageProblem) as caught:
        check_extra(["--licences=x"])
    assert str(caught.value).startswith(
        "The sbatch option --licences is not allowed. Did you mean --licenses? Allowed are --begin, --comment,"
    )
    with pytest.raises(UsageProblem, match="--time cannot be set: ask for it as `time`"):
        check_extra(["--time=5"])


def test_a_path_that_slurm_would_read_otherwise_is_refused():
    for path in ("relative", "/a%j", "/a\nb", "/a\\b"):
        with pytest.raises(UsageProblem, match="cannot be a session's path"):
            given_options(batch=replace(BATCH, log=path))


requests = st.builds(
    ResourceRequest,
    gpus=st.none() | st.integers(-1, 100),
    gpu_model=st.text(max_size=12),
    cpus=st.integers(0, 300),
    memory_mb=st.integers(0, 10**7),
    time=st.integers(0, 400 * 86400),
    nodes=st.integers(0, 100),
    exclusive=st.booleans(),
    partition=st.text(max_size=12),
    account=st.text(max_size=12),
    qos=st.text(max_size=12),
    constraint=st.text(max_size=12),
    reservation=st.text(max_size=12),
)
extras = st.lists(
    st.builds("--{}={}".format, st.sampled_from((*ALLOWED, "wrap", "array")), st.text(max_size=12)) | st.text(max_size=12), max_size=3
)


@given(requests, requests, extras, st.sampled_from(GpusBy))
def test_whatever_is_asked_for_becomes_clean_options_or_a_refusal(request, defaults, extra, gpus_by):
    try:
        found = given_options(request, defaults, extra=extra, gpus_by=gpus_by)
    except UsageProblem:
        return
    wanted = merged(request, defaults)
    for option in found:
        name, _, value = option.partition("=")
        assert name.startswith("--")
        assert not value.startswith("-")
        assert (
            option.isprintable() or name == "--comment" or all(ord(character) > 0x9F for character in option if not character.isprintable())
        )
        assert shlex.split(shlex.quote(option)) == [option]
    values = dict(option.partition("=")[::2] for option in found)
    assert {"--wrap", "--array", "--export"}.isdisjoint(values)
    if wanted.time:
        assert wanted.time <= (parse_time(values["--time"]) or 0) < wanted.time + 60
    if wanted.memory_mb:
        assert parse_memory(values["--mem"]) == wanted.memory_mb


@given(requests, requests)
def test_a_merged_request_has_what_was_asked_for_and_else_the_default(request, defaults):
    found = merged(request, defaults)
    for each in fields(ResourceRequest):
        asked, default = getattr(request, each.name), getattr(defaults, each.name)
        left_open = asked is None or (each.name != "gpus" and not asked)
        assert getattr(found, each.name) == (default if left_open else asked)
