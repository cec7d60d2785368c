"""The lab's own two small C programs, built when they are first needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.lab.python import shared_folder

__all__ = ["program"]

_HERE = Path(__file__).parent


def program(name: str) -> Path:
    """The path of `name` (``name.c`` beside this file), built; each version of the source has its own. RuntimeError if gcc refuses."""
    source = _HERE / f"{name}.c"
    path = shared_folder() / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not path.exists():
        new = path.with_name(f"{path.name}.{os.getpid()}")
        done = subprocess.run(["gcc", "-O2", str(source), "-o", str(new)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"gcc could not build {source.name}: {done.stderr}")
        new.rename(path)
    return path
