"""Records what a real Slurm prints, into a folder beside this file: ``record.py FOLDER RUN``, on the cluster of README.md.

``RUN USER COMMAND…`` runs a command within the cluster, as root or one of its users. The commands that are parsed are the
package's own. Takes about five minutes, most of them for Slurm to notice a time limit and a dead node.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "extension"), str(ROOT / "magics")]

from jupyter_remote_gpu.clusters import slurm_nodes, slurm_pending, slurm_site, slurm_submit, slurm_text  # noqa: E402
from jupyter_remote_gpu.clusters.slurm_commands import asking  # noqa: E402

FOLDER, RUN = Path(__file__).with_name(sys.argv[1]), sys.argv[2]
LIVES, SLEEPS = "#!/bin/bash\nexec sleep 300\n", "#!/bin/bash\nexec sleep 20\n"
SCRUB = (
    (r'("operating_system": )"[^"]*"', r'\1"Linux 6.1.0"'),
    (r"OS=Linux \S+ .*? (?=RealMemory=)", "OS=Linux 6.1.0 "),
    (r"(PluginDir += ).*", r"\1/usr/lib/slurm"),
)
index: dict[str, dict[str, object]] = {}


def scrubbed(text: str) -> str:
    for pattern, neutral in SCRUB:
        text = re.sub(pattern, neutral, text)
    return text


def run(user: str, argv: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, user, *argv], input=stdin, capture_output=True, text=True, timeout=120, check=False)


def record(name: str, argv: Sequence[str], *, user: str = "alice", stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = run(user, asking(argv), stdin)
    index[name] = {"argv": list(argv), "status": done.returncode}
    for end, text in (("out", done.stdout), ("err", done.stderr)):
        if text:
            (FOLDER / f"{name}.{end}").write_text(scrubbed(text))
    print(name, done.returncode, done.stderr.strip()[:100])
    return done


def submit(*options: str, script: str = LIVES, user: str = "alice") -> str:
    options = ("--partition=cpu", "--time=5", "--ntasks-per-node=1", "--no-requeue", *options)
    done = run(user, slurm_submit.submit_command(options), script)
    if done.returncode:
        sys.exit(f"{options}: {done.stderr}")
    return slurm_submit.parse_submitted(done.stdout)[0]


def refused(name: str, *options: str, user: str = "alice") -> None:
    done = record(f"refusal-{name}", slurm_submit.submit_command(["--time=5", *options]), user=user, stdin=LIVES)
    if not done.returncode:
        run("root", ["scancel", done.stdout.strip()])


def as_root(*argv: str) -> None:
    done = run("root", argv)
    if done.returncode:
        print("   ", argv, done.stderr.strip())


def queue(name: str) -> None:
    record(name, slurm_text.queue_command())


def wait(state: str, job: str, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if run("alice", ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]).stdout.strip() == state:
            return
        time.sleep(0.5)
    print(f"    job {job} did not become {state}")


def site() -> None:
    record("version", ["scontrol", "--version"])
    record("config", slurm_site.config_command())
    record("partitions", slurm_site.partitions_command())
    for user in ("alice", "bob", "carol"):
        record(f"accounts-{user}", slurm_site.accounts_command(user))
    record("qos", slurm_site.qos_command())
    without = "sed s/^Accounting.*// /lab/etc/slurm.conf > /lab/etc/without.conf"
    as_root("bash", "-c", without)
    record("no-accounting-sacct", ["env", "SLURM_CONF=/lab/etc/without.conf", *slurm_text.accounting_command(["1"])])
    record("no-accounting-sacctmgr", ["env", "SLURM_CONF=/lab/etc/without.conf", *slurm_site.accounts_command("alice")])
    record("nodes-idle", slurm_nodes.nodes_command())


def moment() -> None:
    """The same few jobs and nodes in each form."""
    run("alice", slurm_submit.submit_command(["--partition=cpu", "--job-name=jrg-failed0000"]), "#!/bin/bash\nexit 3\n")
    job = submit("--partition=hopper", "--job-name=jrg-running000", "--nodes=2", "--gpus-per-node=h100:3", "--comment=a|b c=d")
    submit("--partition=mig", "--job-name=slice", "--gpus-per-node=nvidia_h100_80gb_hbm3_1g.10gb:2", "--output=/home/alice/slice.log")
    submit("--partition=hopper", "--job-name=jrg-waiting000", "--gpus=h100:8", "--nodes=2", "--time=1-2", "--output=/home/alice/w.log")
    submit("--partition=grace,spare", "--job-name=cpus", "--cpus-per-task=2", "--mem=512M", "--begin=now+1hour")
    wait("RUNNING", job)
    time.sleep(5)
    queue("moment-queue")
    record("moment-queue-ids", slurm_text.queue_command([job, "99999"]))
    record("moment-queue-json", ["squeue", "--me", "--states=all", "--json"])
    record("moment-queue-json-filtered", ["squeue", f"--jobs={job}", "--json"])
    record("moment-job", slurm_text.job_command(job))
    record("moment-nodes", slurm_nodes.nodes_command())
    record("moment-nodes-json", ["sinfo", "--json"])
    record("unknown-job", slurm_text.job_command("99999"))
    record("unknown-queue", slurm_text.queue_command(["99999"]))
    record("unknown-accounting", slurm_text.accounting_command(["99999"]))
    record("nothing-queue", slurm_text.queue_command(), user="carol")
    run("root", ["scancel", "--user=alice"])


def refusals() -> None:
    for name, options in {
        "account": ["--account=nope"],
        "partition": ["--partition=nope"],
        "qos": ["--qos=nope"],
        "group": ["--partition=staff"],
        "gpus": ["--partition=hopper", "--gpus-per-node=5"],
        "model": ["--partition=hopper", "--gpus-per-node=a100:1"],
        "spelling": ["--partition=hopper", "--gpus-per-node=H100:1"],
        "gres": ["--gres=foo:1"],
        "cpus": ["--partition=hopper", "--cpus-per-task=99"],
        "memory": ["--partition=hopper", "--mem=999G"],
        "feature": ["--constraint=nope"],
        "reservation": ["--reservation=nope"],
        "license": ["--licenses=nope"],
        "node": ["--nodelist=nope"],
        "nodes": ["--partition=hopper", "--nodes=5"],
        "dependency": ["--dependency=afterok:99999"],
        "deadline": ["--deadline=now+1minute"],
        "time": ["--time=abc"],
        "option": ["--bogus"],
    }.items():
        refused(name, *options)
    jobs = [submit("--partition=cpu", user="bob") for _ in range(3)]
    refused("submit-limit", "--partition=cpu", user="bob")
    refused("no-account", "--partition=cpu", user="carol")
    run("root", ["scancel", *jobs])
    for name, options in {"now": ["--partition=cpu"], "impossible": ["--partition=hopper", "--gpus=99"]}.items():
        record(f"estimate-{name}", slurm_submit.submit_command(options, test_only=True), stdin=LIVES)


def reasons() -> None:
    as_root("scontrol", "create", "reservation", "reservationname=soon", "starttime=now+1hour", "duration=60", "nodes=gh2", "users=alice")
    as_root(
        "scontrol", "create", "reservation", "reservationname=m", "starttime=now", "duration=60", "nodes=gh1", "flags=maint", "users=root"
    )
    as_root("scontrol", "update", "nodename=cn2", "state=drain", "reason=bad fan | ticket 12")
    first = submit("--licenses=matlab:1", "--nodelist=cn1")
    submit("--licenses=matlab:1", "--nodelist=cn1")
    filling = submit("--partition=spare", "--nodes=2", "--gpus-per-node=h100:4")
    wait("RUNNING", filling)
    record("estimate-preempts", slurm_submit.submit_command(["--partition=hopper", "--gpus-per-node=h100:4"], test_only=True), stdin=LIVES)
    run("root", ["scancel", filling])
    submit("--partition=hopper", "--nodes=2", "--gpus-per-node=h100:4", "--time=10")
    for options in (
        ["--partition=debug", "--time=2:00:00"],
        ["--partition=debug", "--nodes=2"],
        ["--partition=closed"],
        ["--partition=vip"],
        ["--qos=short", "--time=1:00:00"],
        ["--qos=onegpu", "--gpus=2", "--partition=hopper"],
        ["--account=small", "--gpus=2", "--partition=hopper"],
        ["--qos=capped", "--gpus=3", "--partition=hopper"],
        ["--begin=now+1hour"],
        ["--hold"],
        [f"--dependency=afternotok:{first}"],
        ["--partition=grace", "--reservation=soon"],
        ["--partition=grace", "--nodelist=gh1"],
        ["--nodelist=cn2"],
        ["--partition=hopper", "--gpus-per-node=h100:2"],
        ["--partition=hopper", "--gpus-per-node=h100:1"],
        ["--partition=hopper", "--gpus-per-node=h100:4", "--nodes=2"],
    ):
        submit(*options)
    submit("--partition=cpu", user="bob", script=LIVES)
    submit("--partition=cpu", user="bob", script=LIVES)
    time.sleep(6)
    queue("reasons-queue")
    record("reasons-queue-bob", slurm_text.queue_command(), user="bob")
    record("reasons-ahead", slurm_text.ahead_command("hopper"))
    record("reasons-pending", slurm_pending.pending_command())
    record("reasons-jobs", ["scontrol", "--oneliner", "show", "job"])
    record("reasons-nodes", slurm_nodes.nodes_command())
    for user in ("alice", "bob"):
        run("root", ["scancel", f"--user={user}"])
    time.sleep(5)
    for name in ("soon", "m"):
        as_root("scontrol", "delete", f"reservationname={name}")
    as_root("scontrol", "update", "nodename=cn2", "state=resume")
    time.sleep(5)


def ends() -> None:
    eats = "#!/bin/bash\nexec python3 -c 'x = bytearray(b\"1\") * (300 << 20)\nimport time; time.sleep(60)'\n"
    jobs = {
        "completed": submit(script="#!/bin/bash\ntrue\n"),
        "exit": submit(script="#!/bin/bash\nexit 3\n"),
        "signal": submit(script="#!/bin/bash\nkill -SEGV $$\n"),
        "memory": submit("--mem=50", "--nodelist=cn1", "--output=/home/alice/memory.log", script=eats),
        "timeout": submit("--time=1", "--nodelist=cn1", "--output=/home/alice/timeout.log"),
        "cancelled": submit("--nodelist=cn1"),
        "cancelled-waiting": submit("--begin=now+1hour"),
        "cancelled-by-root": submit("--nodelist=cn1"),
        "node-fail": submit("--nodelist=cn2", "--no-requeue"),
        "node-fail-requeued": submit("--nodelist=cn2", "--requeue"),
        "preempted": submit("--partition=graceful", "--nodes=2", "--gpus-per-node=h100:4"),
    }
    for name in ("cancelled", "node-fail", "preempted"):
        wait("RUNNING", jobs[name])
    over = submit("--partition=hopper", "--nodes=2", "--gpus-per-node=h100:4", script=SLEEPS)
    run("alice", slurm_submit.cancel_command(jobs["cancelled"]))
    run("alice", slurm_submit.cancel_command(jobs["cancelled-waiting"]))
    run("root", slurm_submit.cancel_command(jobs["cancelled-by-root"]))
    as_root("bash", "-c", "kill -9 $(cat /lab/run/slurmd.cn2.pid)")
    queue("ends-queue-at-once")
    wait("PREEMPTED", jobs["preempted"])
    wait("COMPLETED", over)
    displaced = submit("--partition=spare", "--nodes=2", "--gpus-per-node=h100:4", "--requeue")
    wait("RUNNING", displaced)
    submit("--partition=hopper", "--nodes=2", "--gpus-per-node=h100:4", script=SLEEPS)
    wait("NODE_FAIL", jobs["node-fail"])
    record("ends-nodes", slurm_nodes.nodes_command())
    wait("TIMEOUT", jobs["timeout"])
    time.sleep(3)
    queue("ends-queue")
    known = {**jobs, "preempted-requeued": displaced}
    for name, job in known.items():
        record(f"end-{name}", slurm_text.job_command(job))
    record("ends-accounting", slurm_text.accounting_command(list(known.values())))
    for name in ("memory", "timeout"):
        record(f"log-{name}", ["cat", f"/home/alice/{name}.log"])
    (FOLDER / "ends.json").write_text(json.dumps(known, indent=1) + "\n")
    waiting = submit("--begin=now+1hour")
    for name, job in {"waiting": waiting, "ended": jobs["exit"], "unknown": "99999"}.items():
        record(f"attach-{name}", ["srun", "--overlap", f"--jobid={job}", "--nodes=1", "--ntasks=1", "hostname"])
    as_root("slurmd", "-N", "cn2", "-f", "/lab/etc/slurm.conf")


def away() -> None:
    as_root("bash", "-c", "kill $(cat /lab/run/slurmctld.pid)")
    time.sleep(4)
    record("away-queue", slurm_text.queue_command())
    record("away-nodes", slurm_nodes.nodes_command())
    record("away-submit", slurm_submit.submit_command(["--partition=cpu"]), stdin=LIVES)
    record("away-estimate", slurm_submit.submit_command(["--partition=cpu"], test_only=True), stdin=LIVES)
    record("away-attach", ["srun", "--overlap", "--jobid=1", "--nodes=1", "--ntasks=1", "hostname"])
    record("away-ping", ["scontrol", "ping"])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.iterdir():
        file.unlink()
    for part in (site, moment, refusals, reasons, ends, away):
        print(f"-- {part.__name__}")
        part()
    (FOLDER / "commands.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
