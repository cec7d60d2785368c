"""Bristol's accounts: slurmdbd, and below it a MariaDB that has nothing but this.

MariaDB runs without checking privileges (``--skip-grant-tables``), so nothing but its system tables must be made (slurmdbd has
stored procedures); only root can use its socket, it listens on no port, and its data are in its machine's memory.

To make the tables and the accounts takes several seconds, so it is done once per host: a template of the data is kept beside the
lab's Pythons, and each lab begins with a copy of it.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree, which

from tests.lab.machines import CLEAN, LabError, Machine, tail
from tests.lab.processes import end, wait_until
from tests.lab.python import shared_folder

__all__ = ["Accounting"]

_LIMIT = 60.0
_DATA = "/dev/shm/mariadb"  # in memory: three times as fast to make
_TABLES = (Path("/usr/share/mysql/mysql_system_tables.sql"), Path("/usr/share/mariadb/mariadb_system_tables.sql"))  # Debian 12, 13
_MARIADB = (
    "--no-defaults",
    f"--datadir={_DATA}",
    "--pid-file=/dev/shm/mariadbd.pid",
    "--skip-grant-tables",
    "--skip-networking",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-lock-wait-timeout=900",
    "--innodb-data-file-path=ibdata1:2M:autoextend",
    "--innodb-temp-data-file-path=ibtmp1:2M:autoextend",
    "--innodb-autoextend-increment=1",
    "--innodb-file-per-table=0",
    "--aria-log-file-size=8M",
    "--skip-innodb-doublewrite",
    "--user=root",
)
_GPUS = "INSERT INTO slurm_acct.tres_table (creation_time, type, name) VALUES (1, 'gres', 'gpu');"
"""Else no limit could name it before the first slurmctld has told slurmdbd."""
_ACCOUNTS = """\
add cluster bristol
add account dri Cluster=bristol Description=research Organization=lab
add account small Cluster=bristol Description=small Organization=lab
modify account small set GrpTRES=gres/gpu=1
add account closed Cluster=bristol Description=closed Organization=lab GrpSubmitJobs=0
add user alice Cluster=bristol Account=dri,small,closed DefaultAccount=dri
add user bob Cluster=bristol Account=dri DefaultAccount=dri
add user root Cluster=bristol Account=dri
modify user root where Cluster=bristol set DefaultAccount=dri
quit
"""
"""`dri` works, `small` has one GPU at a time, `closed` takes no job; Carol has no account."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """The two daemons of a cluster, on its controller's machine; munged must be up there, and slurmctld comes after."""

    machine: Machine
    folder: Path
    """The cluster's."""
    port: int
    environment: Mapping[str, str]

    def up(self) -> None:
        """Start both, with the accounts."""
        template = shared_folder() / f"accounts-{_digest()}"
        if not template.exists():
            self._make(template)
        self.machine.run(["cp", "-r", f"{template}/.", _DATA])
        self._start_mariadb()
        self._start_slurmdbd()

    def _make(self, template: Path) -> None:
        self.machine.run(["mkdir", "-p", _DATA])
        self._start_mariadb()
        self._sql(f"CREATE DATABASE mysql; USE mysql;\n{_tables()}")
        self._start_slurmdbd()
        self._sql(_GPUS)
        done = self.machine.run(["sacctmgr", "-i"], env=self.environment, input=_ACCOUNTS, check=False)
        if done.returncode or done.stderr:
            raise LabError(f"sacctmgr did not make the lab's accounts: {done.stderr or done.stdout}")
        for program in ("slurmdbd", "mariadbd"):
            end(self.machine.named(program), seconds=_LIMIT)
        new = template.with_name(f"{template.name}.{os.getpid()}")
        self.machine.run(["mv", _DATA, str(new)])
        new.chmod(0o700)
        if template.exists():  # another lab was quicker
            rmtree(new)
        else:
            new.rename(template)

    def _start_mariadb(self) -> None:
        self.machine.start(["mariadbd", *_MARIADB, f"--socket={self._socket}"])
        if not wait_until(lambda: _accepts(self._socket), _LIMIT):
            raise LabError(f"The lab's MariaDB did not start: {tail(self.machine.folder / 'log')}")
        self._socket.chmod(0o600)

    def _start_slurmdbd(self) -> None:
        self.machine.run(["slurmdbd"], env={"MYSQL_UNIX_PORT": str(self._socket), "SLURM_CONF": str(self.folder / "slurmdbd.conf")})
        if not wait_until(lambda: _accepts(self.port), _LIMIT):
            raise LabError(f"The lab's slurmdbd did not start: {tail(self.folder / 'log' / 'slurmdbd.log')}")

    def _sql(self, script: str) -> None:
        self.machine.run(["mariadb", "--no-defaults", f"--socket={self._socket}"], input=script)

    @property
    def _socket(self) -> Path:
        return self.folder / "run" / "my.sock"


def _tables() -> str:
    """What makes MariaDB's own tables."""
    found = next((path for path in _TABLES if path.exists()), None)
    if found is None:
        raise LabError(f"MariaDB's system tables are not at {' or '.join(map(str, _TABLES))}.")
    return found.read_text()


def _digest() -> str:
    """Of all that decides about the template: this file and both programs."""
    found = [os.stat(which(program, path=CLEAN["PATH"]) or "/") for program in ("mariadbd", "slurmdbd")]
    programs = " ".join(f"{file.st_size} {file.st_mtime_ns}" for file in found)
    return hashlib.sha256(Path(__file__).read_bytes() + programs.encode()).hexdigest()[:12]


def _accepts(address: Path | int) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.connect(str(address) if isinstance(address, Path) else ("127.0.0.1", address))
        except OSError:
            return False
    return True
