"""The machines of the lab: one per login, compute node, controller and GPU box, all of them on this host.

As root, a machine has PID, mount and UTS namespaces of its own (see ``machine.c``): a host name, a private /tmp and
/dev/shm, the lab's users in /etc, its own process numbers. Its process 1 is the only one that must be remembered: with it
ends all that runs there. The network is the host's, unless the machine is put into another namespace.

Without root there are no namespaces: commands run directly, and what they leave is known by a mark in its environment.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.processes import alive, all_pids, below, command_line, end, start_time
from tests.lab.programs import program

__all__ = ["CLEAN", "LabError", "Machine", "boot", "namespace", "tail"]

CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
"""The whole environment of the lab's daemons: nothing of the environment that a test has."""


class LabError(RuntimeError):
    """The lab cannot do what it was asked for; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine; this is only its description, `boot` brings it up."""

    name: str
    lab: Path
    isolated: bool
    network: int = 0
    """A process in the network namespace that the machine is to be in; 0: the host's."""
    slurm: bool = True
    """Whether Slurm's commands are found there."""

    @property
    def folder(self) -> Path:
        """What the lab keeps about it; its /tmp is the folder `tmp` in it."""
        return self.lab / "machines" / self.name

    @property
    def temporary(self) -> Path:
        """Its /tmp, as seen from outside."""
        return self.folder / "tmp" if self.isolated else Path("/tmp")

    @property
    def init(self) -> int:
        """The number of its process 1 on the host; 0 when it is off."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (self.folder / "init").read_text().split()
            if alive(int(fields[0]), int(fields[21])):
                return int(fields[0])
        return 0

    @property
    def mark(self) -> str:
        """What the environment of its daemons has where there are no namespaces."""
        return f"JUPYTER_REMOTE_GPU_LAB_MACHINE={self.lab}/{self.name}"

    @property
    def namespace(self) -> int:
        """The number of its PID namespace; 0 when it is off."""
        return namespace(self.init) if self.init else 0

    def boot(self) -> None:
        """Bring it up, with nothing running; one that is up is left as it is."""
        boot([self])

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it must be run here to run there."""
        if not self.isolated:
            return list(argv)
        if not (init := self.init):
            raise LabError(f"The lab's machine {self.name} is off.")
        return ["nsenter", "--target", str(init), "--mount", "--uts", "--pid", *(["--net"] if self.network else []), "--wd=/", "--", *argv]

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] = {}, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root and with a clean environment; a daemon leaves it by itself."""
        more.setdefault("timeout", 60)
        if "input" not in more:
            more["stdin"] = subprocess.DEVNULL
        done = subprocess.run(self.command(argv), env=self._environment(env), capture_output=True, text=True, check=False, cwd="/", **more)
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{' '.join(argv[:4])} on {self.name} failed with status {done.returncode}: {said}")
        return done

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] = {}) -> None:
        """Run a daemon there, in the background; what it says goes into the machine's log."""
        with (self.folder / "log").open("ab") as out:
            argv = ["setsid", "--fork", *self.command(argv)]
            subprocess.run(argv, env=self._environment(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, cwd="/")

    def accepts(self, port: int) -> bool:
        """Whether something there accepts connections on a port of the loopback."""
        if self.network:
            return self.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"], check=False).returncode == 0
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def pids(self) -> list[int]:
        """The processes that run there (less its process 1), by their numbers on the host."""
        if not self.isolated:
            return _marked(self.mark)
        init, space = self.init, self.namespace
        return [pid for pid in all_pids() if pid != init and namespace(pid) == space] if space else []

    def named(self, program: str, word: str = "") -> list[int]:
        """Those of `pids` that run `program`, with `word` in their command line."""
        found = [(pid, command_line(pid)) for pid in self.pids()]
        return [pid for pid, line in found if Path(line.partition("\0")[0]).name == program and word in line]

    def power_off(self) -> None:
        """End it and all that runs there, at once and without asking."""
        end([self.init] if self.isolated else self.pids())
        (self.folder / "init").unlink(missing_ok=True)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        mark, _, value = self.mark.partition("=")
        return {**CLEAN, **({} if self.isolated else {"HOME": str(Path.home()), mark: value}), **more}


def boot(machines: Iterable[Machine]) -> None:
    """Bring up those of one lab and one network that are off."""
    off = [machine for machine in machines if not machine.init]
    for machine in off:
        (machine.folder / "tmp" / machine.lab.name).mkdir(parents=True, exist_ok=True)
        (machine.folder / "tmp").chmod(0o1777)
        (machine.folder / "init").unlink(missing_ok=True)
    off = [machine for machine in off if machine.isolated]
    if not off:
        return
    outside = ["nsenter", f"--net=/proc/{off[0].network}/ns/net"] if off[0].network else []
    argv = [*outside, str(program("machine")), str(off[0].lab), *(f"{'' if machine.slurm else '-'}{machine.name}" for machine in off)]
    done = subprocess.run(argv, env=CLEAN, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        broken = next((machine for machine in off if not machine.init), off[-1])
        raise LabError(f"The lab's machine {broken.name} did not start: {done.stderr}{tail(broken.folder / 'log')}")


def tail(file: Path) -> str:
    """The end of a log, for an error's text."""
    with contextlib.suppress(OSError):
        return file.read_text(errors="replace").strip()[-1500:] or "it said nothing"
    return "it left no log"


def namespace(pid: int) -> int:
    """The number of a process's PID namespace; 0 when it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0


def _marked(mark: str) -> list[int]:
    """Processes with the mark in their environment, and what is below them (sshd overwrites its environment with its title)."""
    needle, found = f"{mark}\0".encode(), set()
    for pid in all_pids():
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{pid}/environ").read_bytes() and start_time(pid):
                found |= {pid, *below(pid)}
    return sorted(found - {os.getpid()})
