"""The far site: a cluster and a GPU box in a network namespace of their own, behind an emulated long path (``wan.c``).

Both ends are real kernels' TCP, so name the congestion control beside any figure (`Far.congestion`): under loss it is a factor of ten.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import layout
from tests.lab.machines import CLEAN, LabError, Machine, boot, tail
from tests.lab.needs import check
from tests.lab.processes import alive, end, wait_until
from tests.lab.programs import program
from tests.lab.sites import FAR
from tests.lab.slurm import Cluster
from tests.lab.sshd import Sshd

if TYPE_CHECKING:
    from tests.lab.lab import Lab

__all__ = ["Far"]


class Far:
    """The far site of a lab; it is up between `start` and `stop`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._folder = lab.folder / "wan"
        number = (lab.plan.first_port >> 6) & 0xFF
        self._near_device, self._far_device = f"jrg{number}near", f"jrg{number}far"
        self.near_address, self.address = f"10.213.{number}.1", f"10.213.{number}.2"

    @property
    def pid(self) -> int:
        """The emulator's process, which holds the far network; 0 when it is down."""
        try:
            pid, started = map(int, (self._folder / "pid").read_text().split())
        except (OSError, ValueError):
            return 0
        return pid if alive(pid, started) else 0

    @property
    def machines(self) -> dict[str, Machine]:
        """Its machines by name."""
        return layout.machines(self._lab.plan, [FAR], ["far-box"], self.pid)

    @property
    def cluster(self) -> Cluster:
        """Its Slurm cluster."""
        return layout.cluster(FAR, self._lab.plan, self.machines)

    @property
    def sshd(self) -> dict[str, Sshd]:
        """Its servers: `far`, `far-box` and one per node."""
        return layout.servers(self._lab.plan, self.machines, [self.cluster], layout.FAR_LOGINS, self.address)

    @property
    def congestion(self) -> str:
        """TCP's congestion control, without which no figure says much."""
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()

    def start(self, one_way_ms: float = 45, loss_ppm: int = 1000, rate_mbit: float = 0) -> None:
        """Bring path and site up: a delay and a chance of loss for each direction; with `rate_mbit` a capacity, too."""
        if not self._lab.plan.isolated:
            raise LabError("The far site needs network namespaces, so root.")
        check()
        self.stop()
        self._start_path(one_way_ms, loss_ppm, rate_mbit)
        machines, cluster, sshd = self.machines, self.cluster, self.sshd
        layout.build_far(self._lab.plan, self._lab.keys, sshd, cluster)
        boot(machines.values())
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(cluster.up), *(pool.submit(server.start) for server in sshd.values())]
            for one in work:
                one.result()

    def stop(self) -> None:
        """Take both down; nothing when they are."""
        for machine in self.machines.values():
            machine.power_off()
        end([self.pid])  # its devices and the namespace end with it
        folder = self._lab.folder
        for name in (FAR.name, "wan", *(f"sshd/{name}" for name in (*layout.FAR_LOGINS, *(node.name for node in FAR.nodes)))):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "ssh" / "far").unlink(missing_ok=True)

    def cut(self) -> None:
        """From now on lose every packet, in both directions; nobody is told."""
        self._tell(signal.SIGUSR1)

    def mend(self) -> None:
        """Lose no more than was asked for."""
        self._tell(signal.SIGUSR2)

    def _tell(self, number: signal.Signals) -> None:
        if not (pid := self.pid):
            raise LabError("The lab's far site is not up.")
        os.kill(pid, number)

    def _start_path(self, one_way_ms: float, loss_ppm: int, rate_mbit: float) -> None:
        self._folder.mkdir()
        log, numbers = self._folder / "log", (one_way_ms * 1000, loss_ppm, rate_mbit * 125_000)
        argv = [str(program("wan")), self._near_device, self._far_device, *(str(round(number)) for number in numbers)]
        script = 'echo "$$ $(cut -d" " -f22 /proc/$$/stat)" > "$0"; exec "$@"'
        with log.open("wb") as out:
            argv = ["setsid", "--fork", "sh", "-c", script, str(self._folder / "pid"), *argv]
            subprocess.run(argv, env=CLEAN, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, cwd="/")
        if not wait_until(lambda: log.read_bytes() == b"ready\n", 10):
            raise LabError(f"The lab's long path did not start: {tail(log)}")
        _device([], self._near_device, self.near_address, self.address)
        _device(["nsenter", f"--net=/proc/{self.pid}/ns/net"], self._far_device, self.address, self.near_address)


def _device(where: list[str], name: str, address: str, peer: str) -> None:
    """Configure one end, with a queue so long that only the emulator loses packets."""
    for words in (
        ["addr", "add", address, "peer", f"{peer}/32", "dev", name],
        ["link", "set", name, "mtu", "1500", "txqueuelen", "20000", "up"],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run([*where, "ip", *words], env=CLEAN, stdin=subprocess.DEVNULL, check=True)
