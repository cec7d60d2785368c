"""The batch job of a session: sbatch's options, and the script that becomes the session's supervisor.

The script ends in ``exec``, so that the supervisor has the process id of the batch shell: only that one gets the signal
of ``--signal=B:…``, and a shell would die of it. What a session's environment is to be, the command reads from a file
that only its user can read: a job's script is kept by Slurm, and often in its database.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from jupyter_remote_gpu.clusters.prologue import with_prologue
from jupyter_remote_gpu.clusters.slurm_checks import check_extra, check_request
from jupyter_remote_gpu.clusters.slurm_units import render_memory, render_time
from jupyter_remote_gpu.models import ResourceRequest, SessionId
from remote_gpu.errors import UsageProblem

__all__ = ["JOB_PREFIX", "Batch", "GpusBy", "job_name", "merged", "options", "script", "session_of"]

JOB_PREFIX = "jrg-"
"""What the name of a session's job begins with; the session's id follows."""

_LEFT_BEHIND = (
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_ID",
    "DBUS_SESSION_BUS_ADDRESS",
)
"""Variables of the login that mean nothing, or a folder that is not there, on a compute node."""


class GpusBy(StrEnum):
    """Which option a cluster wants GPUs asked for with. Sites differ; the first is what most recommend."""

    GPUS_PER_NODE = "gpus-per-node"
    GRES = "gres"
    GPUS = "gpus"


@dataclass(frozen=True, slots=True)
class Batch:
    """What a session's job runs. `folder` and `log` are absolute paths of the cluster; `prologue` are shell lines, run before.

    `command` is the argument vector that becomes the job. The job gets SIGUSR1 `warn_before` seconds before its time limit
    (0 = never); Slurm looks about every half minute, so it may come that much early.
    """

    session: SessionId
    folder: str
    log: str
    command: tuple[str, ...]
    prologue: tuple[str, ...] = ()
    warn_before: int = 120


def script(batch: Batch) -> str:
    """The batch script, for sbatch's stdin.

    The job inherits the environment that sbatch runs in, which is the cluster's own. ``--export=NONE`` would not do: it
    reaches every ``srun`` of the session, too, and has Slurm load the user's login environment with a time limit of its own.
    """
    lines = "\n".join(batch.prologue)
    if "\0" in lines or "\r" in lines or any("\n" in line for line in batch.prologue):
        raise UsageProblem("A line of the cluster's prologue has a line break or a NUL within.", hint="Give each line on its own.")
    return "\n".join(
        (
            "#!/bin/bash",
            f"# {JOB_PREFIX}{batch.session}: a session of jupyter-remote-gpu. Its options were given on sbatch's command line.",
            f"unset {' '.join(_LEFT_BEHIND)}",
            f"exec {shlex.join(with_prologue(batch.prologue, batch.command))}",
            "",
        )
    )


def job_name(session: str) -> str:
    """The name of the job of `session`."""
    return f"{JOB_PREFIX}{session}"


def session_of(name: str) -> SessionId | None:
    """The session whose job has this name; None for a job that is not ours."""
    return SessionId(name.removeprefix(JOB_PREFIX)) if name.startswith(JOB_PREFIX) and len(name) > len(JOB_PREFIX) else None


def merged(request: ResourceRequest, defaults: ResourceRequest) -> ResourceRequest:
    """`request`, with what it leaves open taken from the cluster's `defaults`. Zero GPUs are not left open: they mean none."""
    open_values = (None, "", 0, False)
    chosen = {}
    for each in fields(ResourceRequest):
        value = getattr(request, each.name)
        left_open = value is None if each.name == "gpus" else value in open_values
        chosen[each.name] = getattr(defaults, each.name) if left_open else value
    return ResourceRequest(**chosen)


def options(
    request: ResourceRequest,
    defaults: ResourceRequest,
    *,
    batch: Batch,
    gpus_by: GpusBy = GpusBy.GPUS_PER_NODE,
    gpu_type: str = "",
    extra: Sequence[str] = (),
    requeue: bool = False,
) -> list[str]:
    """What sbatch is told, without its name and script. `gpu_type` is the cluster's own word for the model; see `choose_type`.

    `extra` are further options, checked against an allow-list. A session's state is lost when its job starts anew
    elsewhere, so a job is not requeued unless `requeue`. Raises `UsageProblem` for a word that cannot be meant.
    """
    wanted = merged(request, defaults)
    check_request(wanted)
    check_request(ResourceRequest(gpu_model=gpu_type))
    check_extra(extra)
    for path in (batch.folder, batch.log):
        if not path.startswith("/") or not path.isprintable() or "%" in path or "\\" in path:
            raise UsageProblem(f"{path!r} cannot be a session's path on the cluster.", hint="It must be absolute, without % and backslash.")
    return [*_frame(batch, requeue), *_size(wanted), *_gpus(wanted, gpus_by, gpu_type), *_queue(wanted), *extra]


def _frame(batch: Batch, requeue: bool) -> list[str]:
    found = [
        f"--job-name={job_name(batch.session)}",
        f"--chdir={batch.folder}",
        f"--output={batch.log}",
        f"--error={batch.log}",
        "--open-mode=append",
        "--requeue" if requeue else "--no-requeue",
    ]
    return [*found, f"--signal=B:USR1@{min(batch.warn_before, 65535)}"] if batch.warn_before > 0 else found


def _size(wanted: ResourceRequest) -> list[str]:
    found = [f"--nodes={wanted.nodes or 1}", "--ntasks-per-node=1"]
    if wanted.cpus:
        found.append(f"--cpus-per-task={wanted.cpus}")
    if wanted.memory_mb:
        found.append(f"--mem={render_memory(wanted.memory_mb)}")
    if wanted.time:
        found.append(f"--time={render_time(wanted.time)}")
    return [*found, "--exclusive"] if wanted.exclusive else found


def _gpus(wanted: ResourceRequest, by: GpusBy, gpu_type: str) -> list[str]:
    if not wanted.gpus:
        return []
    count = wanted.gpus * (wanted.nodes or 1) if by is GpusBy.GPUS else wanted.gpus
    words = [*(("gpu",) if by is GpusBy.GRES else ()), *((gpu_type,) if gpu_type else ()), str(count)]
    return [f"--{by}={':'.join(words)}"]


def _queue(wanted: ResourceRequest) -> list[str]:
    names = ("partition", "account", "qos", "constraint", "reservation")
    return [f"--{name}={value}" for name in names if (value := getattr(wanted, name))]
