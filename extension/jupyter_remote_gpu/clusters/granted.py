"""What the node's half says of a machine and of a session, as the gateway's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jupyter_remote_gpu.models import Allocation, AllocationState, Gpu
from jupyter_remote_gpu.offers import Pool

__all__ = ["described", "granted", "pools_of"]

_IDLE_SHARE = 0.1  # of its memory: a GPU of which less is in use counts as free
_SMALL_GPU_MB = 4096  # what the driver and a desktop take is not a share of the memory


def granted(wanted: Allocation, answer: Mapping[str, Any]) -> Allocation:
    """`wanted`, which runs now, with what the node's ``start`` answered."""
    return replace(
        described(wanted, answer), state=AllocationState.RUNNING, pid=int(answer["pid"]), warm=bool(answer.get("warm")), detail=""
    )


def described(known: Allocation, about: Mapping[str, Any]) -> Allocation:
    """`known` with what a supervisor says of where it runs; a scheduler's word stands for the node's name, and for GPUs that the node does not show."""
    gpus = tuple(Gpu(str(gpu.get("name", "")), int(gpu.get("memory_mb", 0))) for gpu in about.get("gpus") or ())
    return replace(
        known,
        node=known.node or str(about.get("node") or ""),
        pid=int(about.get("pid") or known.pid),
        start_time=int(about.get("start_time") or known.start_time),
        folder=str(about.get("folder") or known.folder),
        gpus=gpus or known.gpus,
        python=str(about.get("python") or known.python),
        arch=str(about.get("arch") or known.arch),
    )


def pools_of(gpus: Sequence[Mapping[str, Any]], machine: str) -> tuple[Pool, ...]:
    """One machine's GPUs by model and memory; `machine` is its CPU architecture. Without any: one pool of none."""
    models = list(dict.fromkeys((str(gpu.get("name", "GPU")), int(gpu.get("memory_mb", 0))) for gpu in gpus))
    return tuple(_pool(model, memory, [gpu for gpu in gpus if gpu.get("name") == model], machine) for model, memory in models) or (
        Pool("cpu", cpu_arch=machine),
    )


def _pool(model: str, memory: int, gpus: Sequence[Mapping[str, Any]], machine: str) -> Pool:
    count = len(gpus)
    free = sum(1 for gpu in gpus if int(gpu.get("used_mb") or 0) < _IDLE_SHARE * max(memory, _SMALL_GPU_MB))
    accelerator = str(gpus[0].get("accelerator", "cuda")) if gpus else ""
    return Pool(model, model, memory, count, free, count, machine, accelerator)
