"""The lab's sshd servers, and cutting them.

Keys: sshd_config(5). MaxSessions is left at its default of 10, as on most logins, so that what opens too many is seen here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.machines import LabError, Machine, tail
from tests.lab.processes import alive, below, end, inner_pid, start_time, wait_until

__all__ = ["Sshd"]

_PROGRAM = "/usr/sbin/sshd"


@dataclass(frozen=True, slots=True)
class Sshd:
    """One server, with a port and a configuration of its own, on one of the lab's machines."""

    name: str
    machine: Machine
    port: int
    keys: Path
    """The folder with the lab's keys."""
    users: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    """Further lines of its configuration, which come first and so win."""
    host_key: str = ""
    """The name of its host key; empty: its own."""
    address: str = "127.0.0.1"

    @property
    def folder(self) -> Path:
        """Its configuration, log and process number."""
        return self.machine.lab / "sshd" / self.name

    @property
    def pid(self) -> int:
        """The number of the listening process on the host; 0 when it is stopped."""
        with contextlib.suppress(OSError, ValueError):
            pid, started = map(int, (self.folder / "listener").read_text().split())
            return pid if alive(pid, started) else 0
        return 0

    def write(self) -> None:
        """Write its configuration; the keys must be there."""
        self.folder.mkdir(parents=True)
        (self.folder / "config").write_text("\n".join([*self._lines(), ""]))

    def start(self) -> None:
        """Start it on its machine (which is booted when it is off); returns when it accepts connections."""
        if self.pid:
            return
        self.machine.boot()
        ready = self.folder / "pid"
        ready.unlink(missing_ok=True)
        self.machine.run([_PROGRAM, "-f", str(self.folder / "config"), "-E", str(self.folder / "log")])
        if not wait_until(lambda: ready.exists() and ready.read_text().strip(), 15):
            raise LabError(f"The lab's sshd {self.name} did not start: {tail(self.folder / 'log')}")
        pid = self._on_host(int(ready.read_text()))
        (self.folder / "listener").write_text(f"{pid} {start_time(pid)}")

    def _on_host(self, inner: int) -> int:
        """The host's number for a process number of the machine."""
        if not self.machine.isolated:
            return inner
        return next(pid for pid in self.machine.pids() if inner_pid(pid) == inner)

    def connections(self) -> list[int]:
        """The sshd processes that serve connections: two for each that has logged in."""
        return [pid for pid in below(self.pid) if _is_sshd(pid)] if self.pid else []

    def cut(self) -> int:
        """Kill what serves established connections, as a network that breaks does; new ones are accepted. Returns how many processes."""
        if not (listener := self.pid):
            return 0
        started = start_time(listener)
        os.kill(listener, signal.SIGSTOP)  # else a connection that comes just now would be missed
        try:
            found = self.connections()
            end(found)
        finally:
            if alive(listener, started):
                os.kill(listener, signal.SIGCONT)
        return len(found)

    def stop(self) -> None:
        """Cut all connections and accept no new ones, until `start`."""
        if not (listener := self.pid):
            return
        os.kill(listener, signal.SIGSTOP)
        end([*self.connections(), listener])

    def freeze(self) -> None:
        """Let all connections, and new ones, hang without a word, as a network does that loses everything; until `thaw`."""
        for pid in self._all():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        for pid in self._all():
            os.kill(pid, signal.SIGCONT)

    def _all(self) -> list[int]:
        return [pid, *self.connections()] if (pid := self.pid) else []

    def log(self) -> str:
        """All that it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def _lines(self) -> Sequence[str]:
        key = self.host_key or self.name
        variables = [f"{name}={value}" for name, value in self.environment.items()] + ([] if self.machine.isolated else [self.machine.mark])
        return [
            *self.settings,
            f"Port {self.port}",
            f"ListenAddress {self.address}",
            f"HostKey {self.keys}/host-{key}",
            f"PidFile {self.folder}/pid",
            f"AllowUsers {' '.join(self.users)}",
            f"AuthorizedKeysFile {self.keys}/authorized_keys",
            "StrictModes no",
            "UsePAM no",
            *(["PerSourcePenalties no"] if _has_penalties() else []),  # all of the lab's users come from one address
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "PrintMotd no",
            "MaxStartups 100:30:200",
            "AcceptEnv LANG LC_*",
            "Subsystem sftp internal-sftp",
            *([f"SetEnv {' '.join(variables)}"] if variables else []),
        ]


@functools.cache
def _has_penalties() -> bool:
    """Whether this sshd turns addresses away after logins that failed (since OpenSSH 9.8)."""
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr)
    return found is not None and (int(found[1]), int(found[2])) >= (9, 8)


def _is_sshd(pid: int) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("sshd") and start_time(pid) > 0
    except OSError:
        return False
