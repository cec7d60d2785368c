"""Proposals, from facts: which job Slurm is asked about, and which warnings there are. And what becomes of a Python that is to be made. Pure."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.extension.slurm_outputs.recordings import recorded

from jupyter_remote_gpu.clusters.slurm_site import Account, Installation, Partition, parse_partitions
from jupyter_remote_gpu.clusters.slurm_units import render_time
from jupyter_remote_gpu.clusters.slurm_values import NodeGroup
from jupyter_remote_gpu.looking.environment import check_packages, plan, problem_of
from jupyter_remote_gpu.looking.facts import Facts, Folder, Python, SlurmFacts
from jupyter_remote_gpu.looking.programs import Part
from jupyter_remote_gpu.looking.proposal import propose
from jupyter_remote_gpu.looking.slurm_choice import candidates, trial_options
from remote_gpu.errors import LinkProblem, NotWritable, StartFailed, UsageProblem

GOOD = Python("/usr/bin/python3", "3.12.4", "7.0.0", venv=True)
OLD = Python("/usr/bin/python3", "3.6.8")
BARE = Python("/usr/bin/python3.11", "3.11.2", venv=True)


def group(partition: str, gres: str, features: tuple[str, ...] = ("x86_64",), **more) -> NodeGroup:
    return NodeGroup(partition, "idle", frozenset(), 2, f"{partition}[1-2]", gres, "", 16, 16, 1000, features, "", **more)


def slurm(*partitions: Partition, nodes=(), accounts=(), **more) -> SlurmFacts:
    return SlurmFacts(Installation("c", (24, 5)), partitions, tuple(nodes), tuple(accounts), **more)


def facts(**more) -> Facts:
    return Facts("h", "h1", "Linux", "x86_64", "me", "/home/me", "/bin/bash", 10_000, (GOOD,), **more)


MAIN = Partition("main", default=True, max_time=86400, default_time=600)
SIMPLE = slurm(MAIN, nodes=[group("main", "gpu:h100:4", default=True)])


# what Slurm is asked about


def test_the_smallest_job_comes_first_and_asks_for_time_to_work_in():
    first, *others = candidates(SIMPLE, {})
    assert first == {"request": {"time": 14400}}
    assert {"request": {"time": 14400}, "gpus_by": "gres"} in others
    assert {"request": {"time": 14400, "gpu_model": "h100"}} in others


@pytest.mark.parametrize(
    ("default_time", "max_time", "account_time", "expected"),
    [
        (600, 86400, None, 14400),
        (3600, 86400, None, None),
        (None, 7 * 86400, None, 14400),
        (None, None, None, 14400),
        (600, 7200, None, 7200),
        (600, 86400, 5400, 5400),
    ],
)
def test_the_time_keeps_within_the_limits_of_partition_and_account(default_time, max_time, account_time, expected):
    partition = replace(MAIN, default_time=default_time, max_time=max_time)
    found = candidates(replace(SIMPLE, partitions=(partition,), accounts=(Account("a", default=True, time=account_time),)), {})[0]
    assert found.get("request", {}).get("time") == expected


def test_a_default_partition_without_gpus_is_not_asked_for_one():
    nodes = [group("main", ""), group("gpu", "gpu:a100:4"), group("whole", "gpu:h100:4"), group("quick", "gpu:a100:2")]
    partitions = (
        MAIN,
        Partition("whole", max_time=86400, whole_nodes=True),
        Partition("quick", max_time=600),
        Partition("gpu", max_time=86400),
        Partition("down", up=False),
    )
    names = [each.get("partition") for each in candidates(slurm(*partitions, nodes=nodes), {})]
    assert list(dict.fromkeys(names)) == ["gpu", "whole", "quick"]


def test_a_partition_that_lets_the_user_not_in_is_left_out():
    partitions = (MAIN, replace(MAIN, name="theirs", default=False, accounts=("theirs",)))
    nodes = [group("main", "gpu:a100:4"), group("theirs", "gpu:h100:4")]
    found = candidates(slurm(*partitions, nodes=nodes, accounts=[Account("mine", default=True)]), {})
    assert not any("partition" in each for each in found)


def test_whole_nodes_are_known_by_the_words_of_slurm_before_26_05_and_since():
    said = "PartitionName=a OverSubscribe=EXCLUSIVE\nPartitionName=b Exclusive=NODE OverSubscribe=NO\nPartitionName=c Exclusive=NO OverSubscribe=NO"
    assert [each.whole_nodes for each in parse_partitions(said)] == [True, True, False]


def test_where_only_whole_nodes_are_given_all_of_one_is_asked_for():
    found = candidates(slurm(replace(MAIN, whole_nodes=True), nodes=[group("main", "gpu:h100:4")]), {})[0]
    assert found["request"]["gpus"] == 4


def test_where_a_part_of_a_gpu_might_be_given_a_whole_one_is_named():
    found = candidates(slurm(MAIN, nodes=[group("main", "gpu:a100_1g.5gb:14,gpu:a100:2")]), {})[0]
    assert found["request"]["gpu_model"] == "a100"


def test_without_any_gpu_none_is_asked_for_and_without_an_answer_nothing_is_concluded():
    assert candidates(slurm(MAIN, nodes=[group("main", "")]), {})[0]["request"]["gpus"] == 0
    assert "gpus" not in candidates(slurm(MAIN), {})[0]["request"]


def test_what_is_wanted_stands_in_each_candidate():
    wanted = {"account": "a", "partition": "main", "qos": "q", "options": ["--nice=1"], "request": {"gpus": 2, "time": 60}}
    for found in candidates(SIMPLE, wanted):
        assert {name: found[name] for name in ("account", "partition", "qos", "options")} == {
            name: wanted[name] for name in ("account", "partition", "qos", "options")
        }
        assert (found["request"]["gpus"], found["request"]["time"]) == (2, 60)
    told = trial_options(found, SIMPLE, where="h", home="/home/me")
    assert {"--account=a", "--partition=main", "--qos=q", "--nice=1", f"--time={render_time(60)}"} <= set(told)


def test_accounts_are_tried_after_the_default_one_and_not_too_many():
    accounts = [Account("b", default=True), *(Account(f"a{n}") for n in range(20))]
    found = [each.get("account", "") for each in candidates(replace(SIMPLE, accounts=tuple(accounts)), {})]
    assert list(dict.fromkeys(found)) == ["", "a0", "a1", "a10"]


# proposals


def test_a_proposal_is_small_and_says_why():
    found = propose(facts(slurm=SIMPLE), {}, slurm=candidates(SIMPLE, {})[0], here="x86_64")
    assert found.config == {"kind": "slurm", "host": "h", "request": {"time": 14400}}
    assert found.blockers == found.warnings == ()
    assert {choice.setting: choice.why for choice in found.choices}[
        "request.time"
    ] == "A job that names no time ends after 10 min; a session asks for 4 h."


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (facts(certificate_ends=time.time() + 600), "Your SSH certificate for h ends at"),
        (facts(cut_off="modules"), "cut off at its part 'modules'"),
        (facts(modules_slow=True), "--prologue"),
        (replace(facts(), home_free_mb=20), "20 MB left"),
        (replace(facts(), arch="aarch64"), "must be built for aarch64"),
    ],
)
def test_what_the_user_should_know_is_a_warning(seen, words):
    assert any(words in warning for warning in propose(seen, {}, here="x86_64").warnings)


def test_nodes_of_another_architecture_than_the_login_node_are_told():
    other = slurm(MAIN, nodes=[group("main", "gpu:gh200:1", ("aarch64",))])
    (warning,) = propose(facts(slurm=other), {}, slurm={}, here="x86_64").warnings
    assert warning.startswith("The nodes are aarch64 and the login node is x86_64")


def test_gpus_that_are_not_programmed_with_cuda_are_told():
    amd = slurm(MAIN, nodes=[group("main", "gpu:mi300a:4")])
    (warning,) = propose(facts(slurm=amd), {}, slurm={}, here="x86_64").warnings
    assert "ROCm" in warning
    assert amd.json()["partitions"][0]["accelerator"] == "rocm"


def test_a_partition_whose_jobs_may_be_displaced_is_told():
    found = propose(facts(slurm=replace(SIMPLE, displaced=frozenset({"main"}))), {}, slurm={}, here="x86_64")
    assert any("may be displaced" in warning for warning in found.warnings)


def test_an_old_slurm_is_reached_by_ssh_to_the_node():
    old = replace(SIMPLE, installation=Installation("c", (19, 5)))
    assert propose(facts(slurm=old), {}, slurm={}).config["stream"] == "ssh"
    assert "stream" not in propose(facts(slurm=replace(SIMPLE, installation=Installation())), {}, slurm={}).config


def test_a_scratch_folder_is_taken_where_its_file_system_is_a_shared_one():
    folders = (Folder("/local/me", "xfs", shared=False), Folder("/scratch/me", "lustre", shared=True))
    assert propose(facts(slurm=SIMPLE, scratch=folders), {}, slurm={}).config["scratch"] == "/scratch/me"
    assert "scratch" not in propose(facts(slurm=SIMPLE, scratch=folders[:1]), {}, slurm={}).config
    assert propose(facts(slurm=SIMPLE, scratch=folders), {"scratch": "/mine"}, slurm={}).config["scratch"] == "/mine"


def test_two_things_in_the_way_are_no_case_for_making_a_python_alone():
    found = propose(replace(facts(slurm=SIMPLE), pythons=(OLD,)), {}, refused="Slurm says no.")
    assert (len(found.blockers), found.bootstrap) == (2, False)
    assert propose(replace(facts(slurm=SIMPLE), pythons=(OLD,)), {}, slurm={}).bootstrap


# a Python that is to be made


def test_a_python_of_the_gateways_version_is_taken_and_modules_last():
    pythons = (
        OLD,
        BARE,
        Python("/opt/python3.12", "3.12.1", venv=True),
        Python("/m/python3.12", "3.12.9", venv=True, prologue=("module load m",)),
    )
    seen = replace(facts(), pythons=pythons)
    assert plan(seen, here=(3, 12)).program == "/opt/python3.12"
    assert plan(seen, here=(3, 14)).program == "/usr/bin/python3.11"
    assert plan(seen, "3.11", here=(3, 12)).program == "/usr/bin/python3.11"
    only = plan(replace(seen, pythons=(OLD, pythons[-1])), here=(3, 11))
    assert (only.program, only.prologue) == ("/m/python3.12", ("module load m",))


def test_uv_is_taken_before_any_python_and_brings_the_gateways_version():
    found = plan(replace(facts(), uv="/home/me/.local/bin/uv", pythons=(OLD,)), here=(3, 13))
    assert (found.tool, found.program, found.version) == ("uv", "/home/me/.local/bin/uv", "3.13")


@pytest.mark.parametrize(
    ("seen", "version", "error", "words"),
    [
        (
            replace(facts(), pythons=(OLD,)),
            "",
            StartFailed,
            "No Python 3.10 or newer that can make environments was found on h; found was /usr/bin/python3 (3.6.8)",
        ),
        (replace(facts(), pythons=(replace(BARE, venv=False),)), "", StartFailed, "Install uv there"),
        (replace(facts(), pythons=(BARE,)), "3.13", StartFailed, "No Python 3.13"),
        (replace(facts(), home_free_mb=50), "", NotWritable, "50 MB left"),
    ],
)
def test_a_host_on_which_none_can_be_made_is_told_with_what_to_try(seen, version, error, words):
    with pytest.raises(error) as caught:
        plan(seen, version)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("part", "error", "words"),
    [
        (
            Part("Collecting x\nERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", 1),
            NotWritable,
            "is full",
        ),
        (Part("OSError: [Errno 122] Disk quota exceeded: '/home/me/x'", 1), NotWritable, "quota"),
        (
            Part("ERROR: Could not find a version that satisfies the requirement ipykernel<8,>=7 (from versions: none)", 1),
            StartFailed,
            "does not reach",
        ),
        (Part("error: Failed to fetch: `https://x`\n  Caused by: dns error: failed to lookup", 2), StartFailed, "does not reach"),
        (
            Part("cause: Failed to download `https://x/python-build-standalone/releases/x`\n  cause: dns error", 2),
            StartFailed,
            "Leave --python out",
        ),
        (Part("Error: Command '[...]' returned non-zero exit status 1.", 1), StartFailed, "returned non-zero"),
        (Part("Collecting x", None), LinkProblem, "Run it again"),
    ],
)
def test_why_one_could_not_be_made_is_told_by_the_words_of_pip_or_uv(part, error, words):
    problem = problem_of(part, "h")
    assert type(problem) is error
    assert words in str(problem)


@pytest.mark.parametrize(
    ("version", "packages"),
    [("3.9", []), ("2.7", []), ("three", []), ("", ["--index-url=x"]), ("", ["a b"]), ("", ["x; y"]), ("", ["git+https://x"])],
)
def test_words_that_are_no_version_or_package_are_refused(version, packages):
    with pytest.raises(UsageProblem):
        check_packages(version, packages)


def test_packages_are_those_that_pip_knows():
    check_packages("3.12", ["torch", "jax[cuda12]>=0.4,<1", "numpy==2.1.*", "scikit-learn~=1.5"])


def test_the_recorded_partitions_tell_which_jobs_may_be_displaced():
    from jupyter_remote_gpu.looking.reading import _displaced

    assert "spare" in _displaced(recorded("22.05", "partitions").out)
    assert "grace" not in _displaced(recorded("22.05", "partitions").out)
