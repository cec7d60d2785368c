"""States, pending reasons, refusals and ends, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_remote_gpu.clusters.slurm_ends import duration, ending_of
from jupyter_remote_gpu.clusters.slurm_reasons import reason_of
from jupyter_remote_gpu.clusters.slurm_refusals import no_controller, refusal_of
from jupyter_remote_gpu.clusters.slurm_text import parse_accounting, parse_jobs
from jupyter_remote_gpu.clusters.slurm_values import SlurmJob
from jupyter_remote_gpu.clusters.slurm_words import ENDED, JobState, allocation_state, state_of
from jupyter_remote_gpu.models import AllocationState
from remote_gpu.errors import LinkProblem, StartFailed, UsageProblem

OUTPUTS = Path(__file__).parent / "slurm_outputs"
CODES = (OUTPUTS / "reasons.txt").read_text().split()


@pytest.mark.parametrize(
    ("words", "state", "flags"),
    [
        ("RUNNING", JobState.RUNNING, set()),
        ("CANCELLED by 1001", JobState.CANCELLED, set()),
        ("COMPLETING", JobState.COMPLETING, set()),
        (["CANCELLED", "COMPLETING"], JobState.CANCELLED, {JobState.COMPLETING}),
        (["COMPLETING", "CANCELLED"], JobState.CANCELLED, {JobState.COMPLETING}),
        (["PENDING", "REQUEUE_HOLD"], JobState.PENDING, {JobState.REQUEUE_HOLD}),
        ("running", JobState.RUNNING, set()),
        ("SOMETHING_NEW", JobState.UNKNOWN, set()),
        ("", JobState.UNKNOWN, set()),
        ([], JobState.UNKNOWN, set()),
    ],
)
def test_a_state_is_read_from_one_word_or_several(words, state, flags):
    assert state_of(words) == (state, flags)


def test_each_state_is_one_of_an_allocation_and_an_unknown_one_is_not_guessed():
    known = {state: allocation_state(state) for state in JobState}
    assert known.pop(JobState.UNKNOWN) is None
    assert None not in known.values()
    assert {state for state, found in known.items() if found.over} == ENDED


def test_a_job_that_never_had_nodes_did_not_end_but_failed():
    assert allocation_state(JobState.CANCELLED, ran=False) is AllocationState.FAILED
    assert allocation_state(JobState.CANCELLED, ran=True) is AllocationState.ENDED
    assert allocation_state(JobState.BOOT_FAIL, ran=True) is AllocationState.FAILED


def test_a_job_whose_processes_still_live_has_not_ended():
    assert allocation_state(JobState.CANCELLED, [JobState.COMPLETING]) is AllocationState.RUNNING
    assert allocation_state(JobState.RUNNING, [JobState.CONFIGURING]) is AllocationState.PENDING


@pytest.mark.parametrize("code", CODES)
def test_every_reason_of_slurm_has_a_sentence(code):
    reason = reason_of(code)
    assert reason.code == code
    assert reason.sentence[0].isupper()
    assert reason.sentence.endswith(".")
    assert "Slurm says" not in reason.sentence
    assert reason == reason_of(f"({code})")


@pytest.mark.parametrize(
    ("text", "sentence", "hopeless"),
    [
        ("AssocGrpGRES", "Your account's GPU limit is reached: other jobs of the account have to end first.", False),
        (
            "QOSMaxGRESPerUser",
            "You have as many GPUs in use as its quality of service (QoS) lets one user have: your other jobs have to end first.",
            False,
        ),
        ("AssocGrpGRESMinutes", "The budget of GPU minutes of your account is not enough for it.", True),
        (
            "AssocGrpCPURunMinutesLimit",
            "The running jobs of your account have as many CPU minutes left as they may: this one has to wait.",
            False,
        ),
        ("QOSMinGRES", "It asks for fewer GPUs than its quality of service (QoS) wants.", True),
        ("QOSMaxMemoryPerJob", "It asks for more memory than its quality of service (QoS) lets one job have.", True),
        ("PartitionTimeLimit", "Its time limit is longer than its partition allows.", True),
        ("ReqNodeNotAvail, UnavailableNodes:hx[1-2]", "Nodes that it needs are down or drained: hx[1-2].", False),
        ("ReqNodeNotAvail,_UnavailableNodes:hx_1", "Nodes that it needs are down or drained: hx_1.", False),
        ("ReqNodeNotAvail, Reserved for maintenance", "Nodes that it needs are kept for maintenance.", False),
        (
            "Job's account not permitted to use this partition (vip allows vip not dri)",
            "Its account may not use its partition (vip allows vip not dri).",
            True,
        ),
        ("launch failed requeued held", "It could not be started, or was requeued, and is held now.", True),
        ("None", "It was submitted just now, and Slurm has not looked at it yet.", False),
        ("", "It was submitted just now, and Slurm has not looked at it yet.", False),
        ("SomethingNew", "Slurm says: SomethingNew.", False),
        ("Some words of a site", "Slurm says: Some words of a site.", False),
    ],
)
def test_a_reason_says_what_is_the_matter_and_whether_waiting_helps(text, sentence, hopeless):
    reason = reason_of(text)
    assert (reason.sentence, reason.hopeless) == (sentence, hopeless)
    assert reason.hint or not hopeless


def test_scontrol_writes_a_sentence_with_underscores():
    text = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    assert reason_of(text) == reason_of(text.replace(" ", "_"))
    assert not reason_of(text).hopeless


@given(st.text())
def test_no_reason_at_all_is_an_error(text):
    assert reason_of(text).sentence


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "allocation failure: Unable to contact slurm controller (connect failure)",
        "squeue: error: fetch_config: DNS SRV lookup failed\nsqueue: fatal: Could not establish a configuration source",
    ],
)
def test_a_controller_that_does_not_answer_refuses_nothing(said):
    assert no_controller(said)
    problem = refusal_of(said, "fir")
    assert isinstance(problem, LinkProblem)
    assert str(problem).startswith("The Slurm controller of fir does not answer: ")


def test_a_refusal_quotes_slurm_and_says_what_to_try():
    said = (
        "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified\n"
    )
    problem = refusal_of(said, "fir")
    assert isinstance(problem, UsageProblem)
    assert problem.message == "Slurm on fir did not take the job: invalid partition specified: nope\nInvalid partition name specified."
    assert problem.hint == "Choose a partition that the cluster has. `sinfo -s` on the cluster lists them."


def test_a_limit_that_slurm_names_in_a_refusal_is_explained():
    said = """sbatch: error: AssocMaxSubmitJobLimit
sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"""
    assert "You have as many jobs in the queue as your account lets one user have" in refusal_of(said, "fir").hint


def test_what_nobody_foresaw_is_quoted_without_a_guess():
    problem = refusal_of("sbatch: error: The moon is full\n", "fir", status=1)
    assert type(problem) is StartFailed
    assert problem.message == "Slurm on fir did not take the job: The moon is full."
    assert str(refusal_of("", "fir", status=7)) == "sbatch ended with status 7 on fir, without a word."


def test_a_refusal_of_a_sites_own_plugin_is_quoted():
    said = (
        "sbatch: error: You must request at least one GPU on this partition\nsbatch: error: Batch job submission failed: Unspecified error"
    )
    problem = refusal_of(said, "tamia")
    assert "You must request at least one GPU on this partition\nUnspecified error" in problem.message


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (SlurmJob("1", JobState.TIMEOUT, nodes="n1", time_limit=7200), "Its job was ended: its time limit of 2 h was reached."),
        (SlurmJob("1", JobState.NODE_FAIL, nodes="n1"), "Its node failed on n1."),
        (SlurmJob("1", JobState.OUT_OF_MEMORY, nodes="n1"), "Its job was ended because it used more memory than it had asked for on n1."),
        (SlurmJob("1", JobState.PREEMPTED, nodes="n1"), "Its job had to make room for one of a higher priority on n1."),
        (SlurmJob("1", JobState.CANCELLED, nodes="n1"), "Its job was cancelled on n1."),
        (SlurmJob("1", JobState.CANCELLED), "Its job was cancelled while it waited."),
        (SlurmJob("1", JobState.CANCELLED, nodes="n1", cancelled_by=1001), "Its job was cancelled by alice on n1."),
        (SlurmJob("1", JobState.CANCELLED, nodes="n1", cancelled_by=77), "Its job was cancelled by the user 77 on n1."),
        (SlurmJob("1", JobState.CANCELLED, nodes="n1", cancelled_by=0), "Its job was cancelled by root on n1."),
        (SlurmJob("1", JobState.FAILED, nodes="n1", exit_code=97), "Its job ended with exit code 97 on n1."),
        (SlurmJob("1", JobState.FAILED, nodes="n1", signal=9), "Its job was ended by SIGKILL (signal 9) on n1."),
        (
            SlurmJob("1", JobState.FAILED, nodes="n1", exit_code=15, signal=53),
            "Its job could not be started on n1: its log could not be written there.",
        ),
        (SlurmJob("1", JobState.FAILED, nodes="n1", signal=99), "Its job was ended by signal 99 on n1."),
        (
            SlurmJob("1", JobState.FAILED, nodes="n1", reason="JobLaunchFailure"),
            "Its job failed on n1. It could not be started on its node.",
        ),
        (SlurmJob("1", JobState.FAILED, reason="BadConstraints"), "Its job never ran. No node has what it asks for."),
        (SlurmJob("1", JobState.BOOT_FAIL), "Its node did not start."),
        (SlurmJob("1", JobState.DEADLINE), "Its job could not end before its deadline any more."),
        (SlurmJob("1", JobState.COMPLETED, nodes="n1"), "Its job ended by itself."),
        (SlurmJob("1", JobState.REVOKED), "Its job runs on another cluster of the federation."),
        (SlurmJob("1", JobState.UNKNOWN), "Its job is gone."),
    ],
)
def test_an_end_says_what_happened(job, sentence):
    assert ending_of(job, names={1001: "alice"}).sentence == sentence


def test_the_log_tells_of_memory_when_slurm_does_not():
    killed = SlurmJob("1", JobState.FAILED, nodes="n1", signal=9)
    log = "slurmstepd-n1: error: StepId=71.batch exceeded memory limit (151654400 > 52428800), being killed"
    assert ending_of(killed, log=log).sentence == "Its job was ended because it used more memory than it had asked for on n1."
    assert "more memory" in ending_of(killed, log=log).hint


def test_memory_that_a_control_group_watches_is_slurms_own_word():
    queue, job, accounting, log = ((OUTPUTS / "22.05-cgroup" / f"{name}.out").read_text() for name in ("queue", "job", "accounting", "log"))
    found = [*parse_jobs(queue), *parse_jobs(job), *parse_accounting(accounting)]
    assert len(found) == 5
    assert {(each.state, each.exit_code, each.signal) for each in found} == {(JobState.OUT_OF_MEMORY, 0, 125)}
    sentences = {ending_of(each, log=text).sentence for each in found for text in ("", log)}
    assert sentences == {"Its job was ended because it used more memory than it had asked for on om1."}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (90, "90 s"),
        (120, "2 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (7200, "2 h"),
        (129600, "1 d 12 h"),
        (86400, "1 d"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_length_of_time_is_said_as_people_do(seconds, text):
    assert duration(seconds) == text
