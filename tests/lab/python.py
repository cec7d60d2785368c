"""The Pythons of the compute nodes, which scripts/setup.sh makes: on the system's interpreter, for every user to run."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from pathlib import Path

__all__ = ["bare_python", "lab_python", "shared_folder"]

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def lab_python() -> Path:
    """One with ipykernel and the libraries that the suite of cells uses."""
    return shared_folder() / f"python-{_digest()}" / "bin" / "python"


def bare_python() -> Path:
    """One without any package."""
    return shared_folder() / f"bare-{_digest()}" / "bin" / "python"


def shared_folder() -> Path:
    """What is made once per host and user, and kept."""
    return Path(f"/var/tmp/jupyter-remote-gpu-lab-{os.getuid()}")


@functools.cache
def _digest() -> str:
    """As scripts/setup.sh has it: of the requirements and the interpreter's version."""
    version = subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, check=False).stdout
    return hashlib.sha256(_REQUIREMENTS.read_bytes() + version).hexdigest()[:12]
