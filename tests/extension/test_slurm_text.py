"""Our commands and their parsers, on what real Slurms printed (slurm_outputs/)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.extension.slurm_outputs.recordings import VERSIONS, ended_jobs, names, recorded

from jupyter_remote_gpu.clusters import slurm_site
from jupyter_remote_gpu.clusters.slurm_commands import asking, submitting
from jupyter_remote_gpu.clusters.slurm_ends import ending_of
from jupyter_remote_gpu.clusters.slurm_json import jobs_of_json
from jupyter_remote_gpu.clusters.slurm_nodes import nodes_command
from jupyter_remote_gpu.clusters.slurm_reasons import reason_of
from jupyter_remote_gpu.clusters.slurm_refusals import no_controller, refusal_of
from jupyter_remote_gpu.clusters.slurm_submit import parse_estimate, parse_submitted
from jupyter_remote_gpu.clusters.slurm_text import (
    accounting_command,
    ahead_command,
    job_command,
    jobs_ahead,
    parse_accounting,
    parse_jobs,
    queue_command,
)
from jupyter_remote_gpu.clusters.slurm_values import SlurmJob, exit_of
from jupyter_remote_gpu.clusters.slurm_words import JobState
from jupyter_remote_gpu.models import AllocationState
from remote_gpu.errors import LinkProblem, StartFailed, UsageProblem

pytestmark = pytest.mark.parametrize("version", VERSIONS)

ALICE = 1001


def jobs(version: str, name: str) -> dict[str, SlurmJob]:
    return {job.name if job.session else job.id: job for job in parse_jobs(recorded(version, name).out)}


def test_what_was_recorded_is_what_we_run(version):
    commands = {
        "moment-queue": queue_command(),
        "reasons-queue": queue_command(),
        "ends-queue": queue_command(),
        "unknown-queue": queue_command(["99999"]),
        "unknown-job": job_command("99999"),
        "reasons-ahead": ahead_command("hopper"),
        "unknown-accounting": accounting_command(["99999"]),
        "nodes-idle": nodes_command(),
        "config": slurm_site.config_command(),
        "partitions": slurm_site.partitions_command(),
        "accounts-alice": slurm_site.accounts_command("alice"),
        "qos": slurm_site.qos_command(),
    }
    assert {name: recorded(version, name).argv for name in commands} == commands


def test_a_running_job_is_read_whole(version):
    job = jobs(version, "moment-queue")["jrg-running000"]
    assert (job.session, job.state, job.reason, job.allocation_state) == ("running000", JobState.RUNNING, "", AllocationState.RUNNING)
    assert (job.nodes, job.batch_host, job.partition, job.account, job.qos, job.user) == (
        "hx[1-2]",
        "hx1",
        "hopper",
        "dri",
        "normal",
        "alice",
    )
    assert (job.time_limit, job.priority, job.restarts, job.comment) == (300, 1000, 0, "a|b c=d")
    assert (job.gpus, job.gpu_count) == ((("h100", 6),), 6)
    assert 0 < (job.time_left or 0) < 300
    assert job.submitted <= job.start < job.end == job.start + 300


def test_the_type_of_a_slice_is_known_though_the_accounting_does_not_count_it(version):
    slices = next(job for job in parse_jobs(recorded(version, "moment-queue").out) if job.name == "slice")
    assert slices.gpus == (("nvidia_h100_80gb_hbm3_1g.10gb", 2),)
    assert slices.stdout == "/home/alice/slice.log"
    assert slices.session is None


def test_waiting_and_failed_jobs_are_read(version):
    found = jobs(version, "moment-queue")
    waiting, failed = found["jrg-waiting000"], found["jrg-failed0000"]
    assert (waiting.state, waiting.reason, waiting.nodes, waiting.time_limit) == (JobState.PENDING, "PartitionTimeLimit", "", 93600)
    assert (waiting.gpus, waiting.batch_host, waiting.allocation_state) == ((("h100", 8),), "", AllocationState.PENDING)
    assert (failed.state, failed.exit_code, failed.signal, failed.time_limit) == (JobState.FAILED, 3, 0, None)
    assert failed.allocation_state is AllocationState.ENDED
    later = next(job for job in found.values() if job.name == "cpus")
    assert later.start - later.submitted == pytest.approx(3600, abs=5)


def test_text_and_json_of_one_moment_say_the_same(version):
    def comparable(found: list[SlurmJob]) -> dict[str, SlurmJob]:
        # 22.05 leaves the path out of its JSON, later ones do not expand the default path in the text
        return {job.id: replace(job, time_left=None, stdout="", flags=frozenset()) for job in found}

    text, form = (comparable(parse_jobs(recorded(version, name).out)) for name in ("moment-queue", "moment-queue-json"))
    no_estimate = {job for job, known in text.items() if not known.start}
    for job in no_estimate:  # JSON has the last scheduling attempt's idea of a start that text calls unknown
        form[job] = replace(form[job], start=0.0, end=0.0)
        text[job] = replace(text[job], start=0.0, end=0.0)
    assert text == form


def test_json_is_filtered_only_by_later_versions(version):
    found = jobs_of_json(recorded(version, "moment-queue-json-filtered").out)
    assert len(found) == (5 if version < "24.05" else 1)


def test_scontrol_and_squeue_say_the_same_of_a_job(version):
    one = jobs(version, "moment-queue")["jrg-running000"]
    (other,) = parse_jobs(recorded(version, "moment-job").out)
    assert other.time_left == pytest.approx(one.time_left, abs=15)
    assert replace(other, time_left=None, stdout="") == replace(one, time_left=None, stdout="")


def test_an_unknown_job_is_no_job(version):
    for name in ("unknown-job", "unknown-queue"):
        recording = recorded(version, name)
        assert (recording.status, parse_jobs(recording.out)) == (1, [])
        assert "Invalid job id specified" in recording.err
    recording = recorded(version, "unknown-accounting")
    assert (recording.status, parse_accounting(recording.out)) == (0, [])
    assert [job.name for job in parse_jobs(recorded(version, "moment-queue-ids").out)] == ["jrg-running000"]
    assert parse_jobs(recorded(version, "nothing-queue").out) == []


def test_what_a_login_shell_prints_is_passed_over(version):
    noise = "Welcome to fir!\n1|2|3\n\nCLUSTER: fir\n"
    recording = recorded(version, "moment-queue").out
    assert parse_jobs(noise + recording + noise) == parse_jobs(recording)


def test_every_reason_that_slurm_gave_is_explained(version):
    pending = [
        job
        for name in ("reasons-queue", "reasons-queue-bob")
        for job in parse_jobs(recorded(version, name).out)
        if job.state is JobState.PENDING
    ]
    assert len(pending) > 15
    found = {reason_of(job.reason).code or job.reason: reason_of(job.reason) for job in pending}
    assert {"Licenses", "Dependency", "BeginTime", "JobHeldUser", "Reservation", "Resources", "Priority", "PartitionDown"} <= set(found)
    assert {"AssocGrpGRES", "QOSGrpGRES", "QOSMaxGRESPerUser", "QOSMaxWallDurationPerJobLimit", "AssocMaxJobsLimit"} <= set(found)
    assert not [reason for reason in found.values() if reason.sentence.startswith("Slurm says")]
    assert {code for code, reason in found.items() if reason.hopeless} >= {"PartitionTimeLimit", "PartitionNodeLimit", "JobHeldUser"}
    assert not found["AssocGrpGRES"].hopeless


def test_scontrol_gives_the_same_reasons(version):
    texts = {job.id: job for job in parse_jobs(recorded(version, "reasons-queue").out)}
    others = {job.id: job for job in parse_jobs(recorded(version, "reasons-jobs").out)}
    both = [(texts[job], others[job]) for job in texts if job in others]
    assert len(both) > 20
    assert [reason_of(one.reason) for one, _ in both] == [reason_of(other.reason) for _, other in both]
    assert [one.gpus for one, _ in both] == [other.gpus for _, other in both]


def test_the_place_in_the_queue_counts_who_comes_before(version):
    output = recorded(version, "reasons-ahead").out
    places = [
        line.split("|")[0] for line in sorted(output.splitlines(), key=lambda line: (-int(line.split("|")[1]), int(line.split("|")[0])))
    ]
    assert len(places) > 4
    assert [jobs_ahead(output, job) for job in places] == list(range(len(places)))
    assert jobs_ahead(output, "99999") is None


def test_who_waits_for_something_else_is_not_before_anybody(version):
    del version
    output = "5|100|Priority|\n7|100|Resources|\n6|100|Priority|\n8|900|Dependency|\n9|900|JobHeldUser|\n4|50|Priority|\n10|900|Priority|\n"
    assert [jobs_ahead(output, job) for job in ("10", "5", "6", "7", "4")] == [0, 1, 2, 3, 4]
    assert jobs_ahead(output, "9") == 0
    assert jobs_ahead("", "9") is None


ENDS = {
    "completed": ("Its job ended by itself.", AllocationState.ENDED),
    "exit": ("Its job ended with exit code 3 on cn1.", AllocationState.ENDED),
    "signal": ("Its job was ended by SIGSEGV (signal 11) on NODE.", AllocationState.ENDED),
    "memory": ("Its job was ended because it used more memory than it had asked for on cn1.", AllocationState.ENDED),
    "timeout": ("Its job was ended: its time limit of 60 s was reached.", AllocationState.ENDED),
    "cancelled": ("Its job was cancelled by alice on cn1.", AllocationState.ENDED),
    "cancelled-waiting": ("Its job was cancelled by alice while it waited.", AllocationState.FAILED),
    "cancelled-by-root": ("Its job was cancelled by root on cn1.", AllocationState.ENDED),
    "node-fail": ("Its node failed on cn2.", AllocationState.ENDED),
    "preempted": ("Its job had to make room for one of a higher priority on hx[1-2].", AllocationState.ENDED),
}


@pytest.mark.parametrize("what", ENDS)
def test_an_end_is_told_in_words(version, what):
    number = ended_jobs(version)[what]
    log = recorded(version, f"log-{what}").out if what in ("memory", "timeout") else ""
    (told,) = parse_jobs(recorded(version, f"end-{what}").out)
    (queued,) = (job for job in parse_jobs(recorded(version, "ends-queue").out) if job.id == number)
    (counted,) = (job for job in parse_accounting(recorded(version, "ends-accounting").out) if job.id == number)
    sentence, state = ENDS[what]
    sentence = sentence.replace("NODE", counted.nodes)
    assert {told.allocation_state, queued.allocation_state, counted.allocation_state} == {state}
    assert ending_of(counted, names={ALICE: "alice"}, log=log).sentence == sentence
    without = sentence.replace(" by alice", "").replace(" by root", "")  # only the accounting knows by whom
    assert ending_of(told, log=log).sentence == ending_of(queued, log=log).sentence == without


@pytest.mark.parametrize("what", ["node-fail-requeued", "preempted-requeued"])
def test_a_requeued_job_waits_again(version, what):
    (told,) = parse_jobs(recorded(version, f"end-{what}").out)
    assert (told.state, told.reason, told.restarts, told.nodes) == (JobState.PENDING, "BeginTime", 1, "")
    assert told.allocation_state is AllocationState.PENDING


def test_a_job_that_is_being_ended_has_not_ended(version):
    states = {job.state for job in parse_jobs(recorded(version, "ends-queue-at-once").out)}
    assert states <= set(JobState) - {JobState.UNKNOWN}


def test_every_refusal_is_quoted_with_something_to_try(version):
    found = [recorded(version, name) for name in names(version, "refusal-")]
    refused = [recording for recording in found if recording.status]
    assert len(refused) > 14
    for recording in refused:
        problem = refusal_of(recording.err, "fir", status=recording.status)
        assert isinstance(problem, UsageProblem), recording.err
        assert recording.err.splitlines()[0].rsplit(": ", 1)[-1] in problem.message
        assert not problem.hint.startswith("What the site says")


def test_a_controller_that_is_away_is_told_from_a_refusal(version):
    for name in ("away-queue", "away-nodes", "away-submit", "away-estimate", "away-attach"):
        recording = recorded(version, name)
        assert recording.status == 1
        assert no_controller(recording.err)
        problem = refusal_of(recording.err, "fir")
        assert isinstance(problem, LinkProblem)
        assert re.search(
            r"^The Slurm controller of fir does not answer: .*Unable to contact slurm controller \(connect failure\)\.$", problem.message
        )


def test_an_estimate_is_read_and_an_impossible_job_has_none(version):
    now = parse_estimate(recorded(version, "estimate-now").err)
    assert now is not None
    assert (now.nodes, now.partition, now.preempts) == ("cn1", "cpu", ())
    assert now.start > 1_700_000_000
    displacing = parse_estimate(recorded(version, "estimate-preempts").err)
    assert displacing is not None
    assert len(displacing.preempts) == 1
    impossible = recorded(version, "estimate-impossible")
    assert parse_estimate(impossible.err) is None
    assert "No node has all that is asked for" in refusal_of(impossible.err, "fir").hint


def test_the_site_describes_itself(version):
    found = slurm_site.parse_config(recorded(version, "config").out)
    assert (found.cluster, found.version) == ("lab", tuple(int(part) for part in version.split(".")))
    assert slurm_site.parse_version(recorded(version, "version").out) == found.version
    assert (found.min_job_age, found.kill_wait, found.message_timeout) == (300, 3, 10)
    assert (found.accounting, found.gpus_apart, found.limits_enforced) == (True, True, False)


def test_partitions_say_who_may_use_them_and_how_long(version):
    found = {each.name: each for each in slurm_site.parse_partitions(recorded(version, "partitions").out)}
    assert (found["grace"].default, found["hopper"].default) == (True, False)
    assert (found["debug"].max_time, found["debug"].max_nodes, found["cpu"].max_time) == (1800, 1, None)
    assert (found["hopper"].gpus, found["hopper"].nodes, found["hopper"].default_time) == ((("h100", 8),), "hx[1-2]", 600)
    assert not found["closed"].up
    assert found["vip"].lets_in("vip")
    assert not found["vip"].lets_in("dri")
    assert found["hopper"].lets_in("dri")


def test_accounts_and_their_limits_are_read(version):
    alice = slurm_site.parse_accounts(recorded(version, "accounts-alice").out, "lab")
    assert {account.name: account.default for account in alice} == {"dri": True, "small": False, "mins": False}
    assert alice[0].qos == ("capped", "normal", "onegpu", "short")
    (bob,) = slurm_site.parse_accounts(recorded(version, "accounts-bob").out)
    assert (bob.running_jobs, bob.jobs, bob.time) == (1, 3, 3600)
    assert slurm_site.parse_accounts(recorded(version, "accounts-bob").out, "another") == ()
    assert slurm_site.parse_accounts(recorded(version, "accounts-carol").out) == ()
    qos = {each.name: each for each in slurm_site.parse_qos(recorded(version, "qos").out)}
    assert (qos["short"].time, qos["short"].priority, qos["onegpu"].gpus_per_user) == (1800, 10, 1)
    assert (qos["capped"].gpus, qos["capped"].running_jobs_per_user, qos["capped"].jobs_per_user) == (2, 2, 4)


def test_without_accounting_there_is_nothing_and_no_error_of_ours(version):
    assert parse_accounting(recorded(version, "no-accounting-sacct").out) == []
    assert slurm_site.parse_accounts(recorded(version, "no-accounting-sacctmgr").out) == ()
    assert recorded(version, "no-accounting-sacct").status == recorded(version, "no-accounting-sacctmgr").status == 1


def test_a_job_id_is_found_in_what_sbatch_prints(version):
    del version
    assert parse_submitted("42\n") == ("42", "")
    assert parse_submitted("Welcome to fir\nYou have 3 of 4 jobs\n42;fir\n") == ("42", "fir")
    with pytest.raises(StartFailed, match="without a job id and said:\nWelcome"):
        parse_submitted("Welcome")


def test_an_exit_status_has_two_spellings(version):
    del version
    assert exit_of("768") == exit_of("3:0") == (3, 0)
    assert exit_of("9") == exit_of("0:9") == (0, 9)
    assert exit_of("") == (0, 0)


def test_commands_run_without_the_users_own_settings(version):
    del version
    assert asking(["squeue"])[0] == "env"
    assert asking(["squeue"])[-2:] == ["SLURM_TIME_FORMAT=%s", "squeue"]
    submitted = submitting(["sbatch"])
    assert submitted[submitted.index("SLURM_TIME_FORMAT") - 1] == "-u"
    assert "SBATCH_ARRAY_INX" in submitted
    assert "SBATCH_ACCOUNT" not in submitted
