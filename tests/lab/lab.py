"""The lab as a whole: two Slurm clusters, their logins, a plain GPU box, and who may use them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.lab import layout
from tests.lab.client import Keys
from tests.lab.far import Far
from tests.lab.machines import Machine, boot, namespace
from tests.lab.needs import check, isolation
from tests.lab.plan import Owner, Plan, User, free_folder, labs, lock_file, locked
from tests.lab.processes import all_pids, below, end, owner
from tests.lab.python import bare_python, lab_python
from tests.lab.sshd import Sshd

__all__ = ["Lab", "sweep"]


class Lab:
    """A lab that is up. It holds no process and no file: any process may have one for the same folder."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder
        self.alice, self.bob, self.carol = plan.users
        self.password = plan.password
        self.keys = Keys(self.folder / "keys")
        self.machines: Mapping[str, Machine] = layout.machines(plan, layout.NEAR, ["box"])
        self.bristol, self.montreal = self.clusters = tuple(layout.cluster(site, plan, self.machines) for site in layout.NEAR)
        self.sshd: Mapping[str, Sshd] = layout.servers(plan, self.machines, self.clusters)

    @classmethod
    def start(cls, folder: Path | None = None, owned_by: Owner | None = None) -> Lab:
        """Bring a lab up in `folder` (a new one directly below /tmp); LabError says what is missing or what failed.

        One that does not come up is removed, unless JUPYTER_REMOTE_GPU_LAB_KEEP is set, for a look at its logs.
        """
        check()
        sweep()
        with locked("all"):
            plan = Plan.make(folder or free_folder(), owned_by or Owner(), isolated=isolation())
        lab = cls(plan)
        try:
            layout.build(plan, lab.keys, lab.sshd, lab.clusters)
            lab._up()
        except BaseException:
            if not os.environ.get("JUPYTER_REMOTE_GPU_LAB_KEEP"):
                lab.stop()
            raise
        (plan.folder / "up").touch()
        return lab

    @classmethod
    def open(cls, folder: Path) -> Lab:
        """The lab that is up in `folder`; OSError when there is none."""
        (folder / "up").stat()
        return cls(Plan.read(folder))

    @classmethod
    def remove(cls, folder: Path) -> None:
        """Take down the lab in `folder`, if there is one, up or half way."""
        with locked(folder.name):
            for plan in labs():
                if plan.folder == folder:
                    cls(plan).stop()
        lock_file(folder.name).unlink(missing_ok=True)  # also where there was none

    def stop(self) -> None:
        """End all that runs in it, and remove it."""
        Far(self).stop()
        if not self.plan.isolated:  # else they end with their machines
            end([*below(*self._listeners()), *self._listeners()])
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Machine.power_off, self.machines.values()))
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in (self.folder.name, f"{self.folder.name}.far"):
            lock_file(name).unlink(missing_ok=True)

    def _listeners(self) -> list[int]:
        return [pid for server in self.sshd.values() if (pid := server.pid)]

    def _up(self) -> None:
        boot(self.machines.values())
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(cluster.up) for cluster in self.clusters]
            work += [pool.submit(server.start) for server in self.sshd.values()]
            for one in work:
                one.result()

    @property
    def python(self) -> Path:
        """A Python with ipykernel that every user can run."""
        return lab_python()

    @property
    def bare_python(self) -> Path:
        """The same without ipykernel, or any package."""
        return bare_python()

    @property
    def ssh_config(self) -> Path:
        """The client's configuration, with all hosts."""
        return self.folder / "ssh" / "config"

    @property
    def nodes_config(self) -> Path:
        """One for root with the compute nodes: ``ssh -F THIS gh1``."""
        return self.folder / "ssh" / "nodes"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that `ssh_config` knows."""
        lines = self.ssh_config.read_text().splitlines()
        return tuple(line.split()[1] for line in lines if line.startswith("Host ") and "*" not in line)

    @property
    def bin(self) -> Path:
        """The folder with the `ssh` that uses `ssh_config`."""
        return self.folder / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to reach the lab's hosts."""
        return {"PATH": f"{self.bin}:{os.environ.get('PATH', os.defpath)}"}

    @cached_property
    def box(self) -> Machine:
        """The machine without Slurm; `box.pids()` tells what runs there."""
        return self.machines["box"]

    def ssh(self, host: str, *words: str, timeout: float = 30, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on a host as a user would, without a terminal and without prompts."""
        argv = [str(self.bin / "ssh"), "-o", "BatchMode=yes", host, *words]
        if "input" not in more:
            more["stdin"] = subprocess.DEVNULL
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, **more)

    @contextlib.contextmanager
    def far(self, one_way_ms: float = 45, loss_ppm: int = 1000, rate_mbit: float = 0) -> Iterator[Far]:
        """A third cluster and a box behind a long network path (see `Far`): hosts `far` and `far-box`. One at a time in a lab."""
        with locked(f"{self.folder.name}.far"):
            far = Far(self)
            try:
                far.start(one_way_ms, loss_ppm, rate_mbit)
                yield far
            finally:
                far.stop()

    def sign_certificate(self, valid_for_seconds: float) -> Path:
        """Give host `certified` a certificate that ends then (a negative number: has ended); returns its path."""
        return self.keys.sign(valid_for_seconds, self.alice.name)

    def forget_stranger(self) -> None:
        """Make host `stranger` unknown again, after a prompt was answered with yes."""
        (self.folder / "ssh" / "known_hosts.none").write_text("")

    def user_pids(self, user: User | None = None) -> list[int]:
        """The processes of the lab's users (of one) on all machines but the far ones, by their numbers on the host."""
        uids = {user.uid} if user else {user.uid for user in self.plan.users}
        spaces = {machine.namespace for machine in self.machines.values()} - {0}
        return [pid for pid in all_pids() if owner(pid) in uids and namespace(pid) in spaces]

    def clean(self) -> None:
        """As after `start`: no job, no user's process, all daemons there. Files stay."""
        boot(self.machines.values())
        with ThreadPoolExecutor(2) as pool:
            work = [pool.submit(cluster.clean) for cluster in self.clusters]
            for server in self.sshd.values():
                server.start()
            end(below(*self._listeners()))
            for pid in self._listeners():
                os.kill(pid, signal.SIGCONT)
            for one in work:
                one.result()
        if self.plan.isolated:
            end(self.user_pids())


def sweep() -> list[Path]:
    """Take down the labs whose owner has ended, as after a killed test run; returns their folders."""
    with locked("all"):
        left = [plan for plan in labs() if plan.owner.gone]
        for plan in left:
            Lab(plan).stop()
    return [plan.folder for plan in left]
