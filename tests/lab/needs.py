"""What the lab needs of the host, and saying what is missing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

from tests.lab.machines import CLEAN, LabError
from tests.lab.python import bare_python, lab_python

__all__ = ["check", "isolation"]

_PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "gcc": "gcc",
}
_ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
_HINT = "Run scripts/setup.sh clusters."


def check() -> None:
    """Raise `LabError` with all that is missing. As root the lab has several users and accounting; else neither."""
    if not sys.platform.startswith("linux"):
        raise LabError("The test lab runs on Linux only: Slurm does.")
    wanted = {**_PROGRAMS, **(_ACCOUNTING if os.getuid() == 0 else {})}
    missing = [f"{program} (package {package})" for program, package in wanted.items() if not shutil.which(program, path=CLEAN["PATH"])]
    missing += [str(python) for python in (lab_python(), bare_python()) if not (python.parent.parent / "complete").exists()]
    if missing:
        raise LabError(f"The test lab needs {', '.join(missing)}. {_HINT}")
    if os.getuid() == 0 and not isolation():
        raise LabError(f"The test lab of root needs PID, mount and UTS namespaces and overlayfs, but: {_namespaces()}")


def isolation() -> bool:
    """Whether the lab's machines have namespaces of their own: for root, where the kernel lets it."""
    return os.getuid() == 0 and not _namespaces()


@functools.cache
def _namespaces() -> str:
    """Why there are none; empty when there are."""
    script = "mount -t proc proc /proc && mount -t overlay -o ro,lowerdir=/etc:/usr overlay /mnt"
    argv = ["unshare", "--fork", "--pid", "--mount", "--uts", "sh", "-c", script]
    done = subprocess.run(argv, env=CLEAN, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""
