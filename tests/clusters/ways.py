"""The ways to a session that are tested for real: this machine, a machine by ssh, and Slurm here, over ssh, and over a jump host."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.lab.lab import Lab

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import Cluster
from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.settings import Settings

__all__ = ["REMOTE", "WAYS", "configuration", "forget", "opened", "use_lab"]

REMOTE = ("ssh", "slurm here", "slurm over ssh", "slurm over ssh and a jump host")
WAYS = ("local", *REMOTE)


def configuration(way: str, lab: Lab | None) -> dict[str, Any]:
    """A cluster's configuration. Sessions of the lab ask for little and end by themselves, should a test forget them."""
    if way == "local" or lab is None:
        return {"kind": "local", "python": sys.executable}
    shared = {"python": str(lab.python), "request": {"time": 600, "memory_mb": 1000}}
    return {
        "ssh": {"kind": "ssh", "host": "box", "python": str(lab.python)},
        "slurm here": {**shared, "kind": "slurm", "account": "dri", "partition": "hopper"},
        "slurm over ssh": {**shared, "kind": "slurm", "host": "bristol", "account": "dri"},
        "slurm over ssh and a jump host": {**shared, "kind": "slurm", "host": "montreal-jump", "gpus_by": "gres", "stream": "ssh"},
    }[way]


def use_lab(lab: Lab, patch: pytest.MonkeyPatch) -> Path:
    """Let this process (and its children) reach the lab's hosts, and be a login node of bristol itself; returns its cache folder there."""
    patch.setenv("PATH", lab.environment["PATH"])
    patch.setenv("SLURM_CONF", str(lab.bristol.conf))
    cache = lab.folder / f"cache-{os.getpid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    patch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def opened(way: str, lab: Lab | None, **settings: Any) -> tuple[Cluster, Clusters, Logins]:
    """(a cluster, what it was made by, its logins); the last two are to be closed."""
    logins = Logins()
    options: Mapping[str, Any] = configuration(way, lab)
    clusters = Clusters(Settings(clusters={"tested": options}, local_python=sys.executable, **settings), logins=logins)
    return clusters["tested"], clusters, logins


def forget(cache: Path) -> None:
    """Remove what `use_lab` made."""
    shutil.rmtree(cache, ignore_errors=True)
