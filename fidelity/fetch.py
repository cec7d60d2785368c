"""Source distributions and the environment that runs their documentation: got once through pip, kept in a folder that git ignores."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["CACHE", "ROOT", "FetchFailed", "environment", "pins", "source"]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".fidelity"
_HERE = Path(__file__).resolve().parent
_REQUIREMENTS = _HERE / "requirements.txt"
_BACKENDS = ("mesonpy.py", "setuptools/build_meta.py", "hatchling/build.py", "flit_core/buildapi.py")


class FetchFailed(Exception):
    """pip could not get or install something; the text holds pip's own words."""


def pins() -> dict[str, str]:
    """Project → version, as in requirements.txt."""
    lines = (line.split("#")[0].strip() for line in _REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return {name: version for name, _, version in (line.partition("==") for line in lines if line)}


def _pip(python: Path, *words: str, **variables: str) -> None:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise FetchFailed(f"{' '.join(words)}\n{done.stderr.strip()}")


def environment() -> Path:
    """The Python of a virtual environment that has the pinned libraries and this checkout; made at the first call.

    Raises `FetchFailed` when pip fails.
    """
    venv = CACHE / "venv"
    python = venv / "bin" / "python"
    project = (ROOT / "pyproject.toml").read_bytes().split(b"[tool.")[0]
    stamp = venv / f"stamp-{hashlib.sha256(_REQUIREMENTS.read_bytes() + project + bytes(ROOT)).hexdigest()[:16]}"
    if stamp.exists():
        return python
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    _pip(python, "install", "-r", str(_REQUIREMENTS), "-e", str(ROOT), HATCH_JUPYTER_BUILDER_SKIP_NPM="1")
    stamp.touch()
    return python


def source(project: str) -> Path:
    """The unpacked source distribution of `project`, pinned; downloaded at the first call. Raises `FetchFailed` when pip fails."""
    version = pins()[project]
    folder = CACHE / "sources" / f"{project}-{version}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = _downloaded(f"{project}=={version}", Path(scratch))
        with tarfile.open(archive) as file:
            file.extractall(Path(scratch) / "all", filter="data")
        (only,) = (Path(scratch) / "all").iterdir()
        only.rename(folder)
    return folder


def _downloaded(requirement: str, scratch: Path) -> Path:
    backends = scratch / "backends"
    for name in _BACKENDS:
        file = backends / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.parent != backends:
            (file.parent / "__init__.py").touch()
        file.write_text("from standin import *\nfrom standin import __legacy__\n", encoding="utf-8")
    shutil.copy(_HERE / "standin.py", backends)
    words = ("download", "--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", str(scratch / "got"))
    variables = {"PYTHONPATH": str(backends), "PIP_USE_PEP517": "1"}  # a pip that knows nothing else ignores the latter
    _pip(Path(sys.executable), *words, requirement, **variables)
    (archive,) = (scratch / "got").iterdir()
    return archive
