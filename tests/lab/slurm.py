"""One real Slurm cluster of the lab: brought up, asked, and hurt in the ways that clusters are."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.accounting import Accounting
from tests.lab.machines import LabError, Machine, tail
from tests.lab.processes import end, wait_until
from tests.lab.sites import Site

__all__ = ["Cluster"]

_UP = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's name, places and machines; what it is doing is asked of Slurm each time."""

    site: Site
    folder: Path
    controller: Machine
    machines: dict[str, Machine]
    """The compute nodes by name."""
    ports: dict[str, int]

    @property
    def name(self) -> str:
        """Slurm's ClusterName."""
        return self.site.name

    @property
    def conf(self) -> Path:
        """The value of SLURM_CONF; it alone says which cluster a command talks to."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What a Slurm command needs in its environment."""
        return {"SLURM_CONF": str(self.conf)}

    @property
    def partitions(self) -> tuple[str, ...]:
        """The names of its partitions; the first is the default."""
        return tuple(part.name for part in self.site.partitions)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes."""
        return tuple(self.machines)

    def up(self) -> None:
        """Start all daemons; returns when every node is idle. The configuration must have been written."""
        self._make_folders()
        self.controller.boot()
        self._start_munged()
        if self.site.accounting:
            Accounting(self.controller, self.folder, self.ports["slurmdbd"], self.environment).up()
        self._start_slurmctld()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._start_slurmd, self.machines))
        if not self._wait_until_idle(_UP):
            raise LabError(f"The nodes of {self.name} are not idle: {self.node_states()}. {tail(self.folder / 'log' / 'slurmctld.log')}")

    def slurm(self, *argv: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands as root on the controller's machine; `input`, `timeout` and `env` as for subprocess.run."""
        return self.controller.run(argv, env={**self.environment, **more.pop("env", {})}, check=check, **more)

    def jobs(self, *options: str) -> list[str]:
        """The ids of the jobs in the queue, arrays as tasks; `options` of squeue choose among them."""
        return self.slurm("squeue", "-h", "-r", "-o", "%A", *options).stdout.split()

    def job(self, job: str | int) -> dict[str, str]:
        """What ``scontrol show job`` says; empty when slurmctld has forgotten it (see `Site.remembers`)."""
        done = self.slurm("scontrol", "-o", "show", "job", str(job), check=False)
        return dict(word.split("=", 1) for word in done.stdout.split() if "=" in word) if not done.returncode else {}

    def wait_for_state(self, job: str | int, *states: str, seconds: float = 30) -> str:
        """Wait until the job is in one of `states` (RUNNING, PENDING, COMPLETED, …); returns it, or fails saying what it saw."""
        deadline = time.monotonic() + seconds
        while (seen := self.job(job)).get("JobState") not in states:
            if time.monotonic() > deadline:
                raise AssertionError(f"job {job} of {self.name} is {seen.get('JobState', 'unknown')} ({seen.get('Reason')}), not {states}")
            time.sleep(0.05)
        return seen["JobState"]

    def wait_for_reason(self, job: str | int, *reasons: str, seconds: float = 30) -> str:
        """Wait until the job waits for one of `reasons` (Resources, AssocGrpGRES, …); returns it, or fails saying what it saw."""
        if not wait_until(lambda: self.job(job).get("Reason") in reasons, seconds):
            seen = self.job(job)
            raise AssertionError(f"job {job} of {self.name} is {seen.get('JobState')} ({seen.get('Reason')}), not waiting for {reasons}")
        return self.job(job)["Reason"]

    def node_states(self) -> dict[str, str]:
        """Each node's state in sinfo's words: idle, mixed, allocated, drained, down*, …"""
        lines = self.slurm("sinfo", "-h", "-N", "-o", "%N %T", check=False).stdout.splitlines()
        return dict(line.split() for line in lines)

    def wait_for_node(self, name: str, *states: str, seconds: float = 60) -> str:
        """Wait until the node is in one of `states`; returns it, or fails saying what it saw."""
        if not wait_until(lambda: self.node_states().get(name) in states, seconds):
            raise AssertionError(f"node {name} of {self.name} is {self.node_states().get(name)}, not {states}")
        return self.node_states()[name]

    def stop_controller(self) -> None:
        """Stop slurmctld in order; jobs go on, and every Slurm command fails."""
        end(self._daemons("slurmctld"), seconds=10)

    def start_controller(self) -> None:
        """Start slurmctld; returns when it has heard of each node that is on. Nothing when it is there."""
        if not self._daemons("slurmctld"):
            self._start_slurmctld()
            running = [name for name, machine in self.machines.items() if machine.named("slurmd")]
            wait_until(lambda: not any(self.node_states().get(name, "*").endswith(("*", "unknown")) for name in running), _UP)

    def kill_node(self, name: str) -> None:
        """Pull the plug of a node: all that runs there ends at once, and Slurm has to notice (half a minute)."""
        self.machines[name].power_off()

    def start_node(self, name: str) -> None:
        """Switch a node on again, with its slurmd; not its sshd (see `Lab.sshd`)."""
        self._start_slurmd(name)

    def drain(self, name: str) -> None:
        """Let the node's jobs end and give it no more."""
        self._update(name, "drain")

    def down(self, name: str) -> None:
        """Take the node away from its jobs, as an administrator does; they are requeued."""
        self._update(name, "down")

    def resume(self, name: str) -> None:
        """Undo `drain` and `down`."""
        self.slurm("scontrol", "update", f"NodeName={name}", "State=RESUME")

    def requeue(self, job: str | int) -> None:
        """Send a running job back into the queue. It stays there for 2 minutes: see `release_begin`."""
        self.slurm("scontrol", "requeue", str(job))

    def start_soon(self, job: str | int) -> None:
        """Let a requeued job start in some seconds, without Slurm's wait of 2 minutes; a node that has just killed it refuses it."""
        self.slurm("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def clean(self) -> None:
        """Everything as after `up`: no job, each daemon there, each node idle."""
        self.start_controller()
        if jobs := self.jobs():
            self.slurm("scancel", *jobs, check=False)
        for name, machine in self.machines.items():
            if not machine.named("slurmd", name):
                self.start_node(name)
        if not wait_until(lambda: not self.jobs(), _UP):
            raise LabError(f"Jobs of {self.name} do not end: {self.slurm('squeue').stdout}")
        tired = [name for name, state in self.node_states().items() if state.startswith(("drain", "down")) and not state.endswith("*")]
        for name in tired:
            self.resume(name)
        if not self._wait_until_idle(_UP):
            raise LabError(f"The nodes of {self.name} do not become idle: {self.node_states()}")

    def _update(self, name: str, state: str) -> None:
        self.slurm("scontrol", "update", f"NodeName={name}", f"State={state}", "Reason=lab")

    def _wait_until_idle(self, seconds: float) -> bool:
        return wait_until(lambda: (states := self.node_states()) and set(states.values()) == {"idle"}, seconds)

    def _daemons(self, program: str) -> list[int]:
        return self.controller.named(program, str(self.conf))

    def _make_folders(self) -> None:
        for name in ("log", "run", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "state").chmod(0o700)

    def _start_munged(self) -> None:
        run, log = self.folder / "run", self.folder / "log"
        self.controller.run(
            [
                "munged",
                f"--key-file={self.folder}/munge.key",
                f"--socket={run}/munge.sock",
                f"--pid-file={run}/munged.pid",
                f"--log-file={log}/munged.log",
                f"--seed-file={run}/munge.seed",
                "--num-threads=2",
            ]
        )

    def _start_slurmctld(self) -> None:
        self.controller.run(["slurmctld", "-f", str(self.conf)], env=self.environment)
        if not wait_until(lambda: self.controller.accepts(self.ports["slurmctld"]), _UP):
            raise LabError(f"slurmctld of {self.name} did not start: {tail(self.folder / 'log' / 'slurmctld.log')}")

    def _start_slurmd(self, name: str) -> None:
        machine = self.machines[name]
        machine.boot()
        (self.folder / "run" / f"spool.{name}").mkdir(exist_ok=True)
        machine.run(["slurmd", "-N", name, "-f", str(self.conf)], env=self.environment)
