"""What sbatch would be told for a session that asks for nothing: to check a configuration without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jupyter_remote_gpu.clusters.options import RemoteOptions, read_options
from jupyter_remote_gpu.clusters.slurm_script import Batch, GpusBy, merged, options, script
from jupyter_remote_gpu.models import ClusterKind, ResourceRequest, SessionId
from jupyter_remote_gpu.settings import OF_ALL_KINDS
from remote_gpu.errors import UsageProblem

__all__ = ["check", "told"]

_SESSION = SessionId("trial")


def told(configured: RemoteOptions, *, folder: str = "/", gpu_type: str = "") -> list[str]:
    """What it is told. `folder` is one of the cluster's; `gpu_type` as the cluster spells it, "" = none is named. Raises `UsageProblem`."""
    named = {name: getattr(configured, name) for name in ("account", "partition", "qos") if getattr(configured, name)}
    wanted = merged(replace(configured.request, **named), ResourceRequest(gpus=1))
    batch = Batch(_SESSION, folder=folder, log=f"{folder.rstrip('/')}/trial.log", command=("true",), prologue=configured.prologue)
    script(batch)
    if configured.gpus_by not in set(GpusBy):
        raise UsageProblem(f"`gpus_by` cannot be {configured.gpus_by!r}.", hint=f"It may be {', '.join(GpusBy)}.")
    return options(wanted, ResourceRequest(), batch=batch, gpus_by=GpusBy(configured.gpus_by), gpu_type=gpu_type, extra=configured.options)


def check(name: str, config: Mapping[str, Any]) -> None:
    """Raise `UsageProblem` for what sbatch could not be told for any session of the cluster `name`."""
    told(read_options(name, ClusterKind.SLURM, {key: value for key, value in config.items() if key not in OF_ALL_KINDS}))
