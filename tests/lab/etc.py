"""What the machines' /etc has beside the host's: the lab's users and the names of its machines.

The host's own files are not touched. A machine lays the lab's folder `etc` over /etc (see ``machine.c``).
"""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from tests.lab.plan import Plan

__all__ = ["make_homes", "write_etc", "write_without_slurm"]

_SLURM = ("sacct", "sacctmgr", "salloc", "sattach", "sbatch", "sbcast", "scancel", "scontrol", "sdiag", "sinfo", "sprio", "squeue")
_MORE = ("sreport", "srun", "sshare", "sstat", "strigger", "sh5util", "slurmctld", "slurmd")


def write_etc(plan: Plan, machines: Iterable[str]) -> None:
    """Write passwd, group, shadow and hosts. All users have the lab's password; nobody else has one there."""
    etc = plan.folder / "etc"
    etc.mkdir(mode=0o755)
    users = plan.users
    passwd, group = (_others(Path("/etc") / name, [user.name for user in users]) for name in ("passwd", "group"))
    secret = {line.partition(":")[0]: "*" for line in passwd} | dict.fromkeys((user.name for user in users), _hash(plan.password))
    homes = [f"{user.name}:x:{user.uid}:{user.gid}:{user.name}:{user.home}:/bin/bash" for user in users]
    _write(etc / "passwd", [*passwd, *homes], 0o644)
    _write(etc / "group", [*group, *(f"{user.name}:x:{user.gid}:" for user in users)], 0o644)
    _write(etc / "shadow", [f"{name}:{hashed}:19000:0:99999:7:::" for name, hashed in secret.items()], 0o640)
    _write(etc / "hosts", ["127.0.0.1 localhost", *(f"127.0.0.1 {name}" for name in machines)], 0o644)


def make_homes(plan: Plan) -> None:
    """A private home for each user, with what a new user has in it."""
    (plan.folder / "home").mkdir(mode=0o755)
    for user in plan.users:
        user.home.mkdir(mode=0o700)
        for file in Path("/etc/skel").glob(".*"):
            (user.home / file.name).write_bytes(file.read_bytes())
        for path in (user.home, *user.home.iterdir()):
            os.chown(path, user.uid, user.gid)


def write_without_slurm(plan: Plan) -> None:
    """What hides Slurm's commands on a machine that has none: overlayfs takes a device 0:0 for a removed file."""
    folder = plan.folder / "without-slurm"
    folder.mkdir(mode=0o755)
    for name in (*_SLURM, *_MORE):
        os.mknod(folder / name, 0o020000, os.makedev(0, 0))


def _others(file: Path, names: Iterable[str]) -> list[str]:
    """The lines of a file of users without those of `names`: the machines have their own."""
    return [line for line in file.read_text().splitlines() if line and line.partition(":")[0] not in names]


def _hash(password: str) -> str:
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), f"$6${secrets.token_hex(8)}$".encode()).decode()


def _write(path: Path, lines: list[str], mode: int) -> None:
    path.touch(mode=0o600)
    path.write_text("\n".join([*lines, ""]))
    path.chmod(mode)
