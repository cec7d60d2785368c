"""Which GPUs this machine has: by NVML, else by nvidia-smi, else by the amdgpu driver's files, else none."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Gpu", "all_gpus", "architecture", "find_gpus", "gpu_report", "visible_gpus"]

_MIB = 1024**2
_AMD_VENDOR = "0x1002"


@dataclass(frozen=True)
class Gpu:
    """One GPU: memory in MiB; `used_mb` and `busy_percent` are None where the driver does not tell."""

    name: str
    memory_mb: int
    accelerator: str
    uuid: str = ""
    used_mb: int | None = None
    busy_percent: int | None = None


def architecture() -> str:
    """The machine's CPU architecture, by its Linux name: x86_64 or aarch64, mostly."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def find_gpus(environment: dict[str, str] | None = None) -> list[Gpu]:
    """The GPUs that a kernel with `environment` would see (CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES are heeded)."""
    return visible_gpus(all_gpus(), dict(os.environ) if environment is None else environment)


def all_gpus() -> list[Gpu]:
    """All GPUs of this machine, whatever is visible."""
    nvidia = _by_nvml()
    return [*(_by_nvidia_smi() if nvidia is None else nvidia), *_by_amdgpu()]


def visible_gpus(gpus: list[Gpu], env: dict[str, str]) -> list[Gpu]:
    """Those of `gpus` that a kernel with the environment `env` would see: NVIDIA's, else AMD's."""
    found = _visible([gpu for gpu in gpus if gpu.accelerator == "cuda"], env.get("CUDA_VISIBLE_DEVICES"))
    return found or _visible([gpu for gpu in gpus if gpu.accelerator == "rocm"], env.get("ROCR_VISIBLE_DEVICES"))


def gpu_report(environment: dict[str, str] | None = None, known: list[Gpu] | None = None) -> dict[str, Any]:
    """What `start` and `gpus` tell of this machine: {"arch", "accelerator", "gpus": […]}; `known`: what `all_gpus` found before."""
    env = dict(os.environ) if environment is None else environment
    gpus = find_gpus(env) if known is None else visible_gpus(known, env)
    accelerator = gpus[0].accelerator if gpus else "cpu"
    return {"arch": architecture(), "accelerator": accelerator, "gpus": [asdict(gpu) for gpu in gpus]}


def _visible(gpus: list[Gpu], wanted: str | None) -> list[Gpu]:
    if wanted is None:
        return gpus
    chosen = []
    for name in wanted.split(","):
        entry = name.strip()
        if entry.isdigit() and int(entry) < len(gpus):
            chosen.append(gpus[int(entry)])
        else:
            match = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
            if not match:  # CUDA stops at the first entry that it does not know
                break
            chosen.append(match[0])
    return chosen


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _by_nvml() -> list[Gpu] | None:
    """None when NVML cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return [_nvml_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, used = memory.total // _MIB, memory.used // _MIB
    except nvml.NVMLError:  # unified memory (Grace, Jetson) has no memory of its own
        total, used = 0, None
    try:
        busy = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:  # MIG devices do not tell
        busy = None
    name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
    return Gpu(name, total, "cuda", uuid, used, busy)


def _by_nvidia_smi() -> list[Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    import subprocess  # most machines answer without it

    query = "--query-gpu=name,memory.total,uuid,memory.used,utilization.gpu"
    try:
        done = subprocess.run([program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for line in done.stdout.splitlines() if (gpu := _smi_gpu(line)) is not None]


def _smi_gpu(line: str) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 5:  # noqa: PLR2004  the five that were asked for
        return None
    numbers = [int(field) if field.isdigit() else None for field in (fields[1], fields[3], fields[4])]
    return Gpu(fields[0], numbers[0] or 0, "cuda", fields[2], numbers[1], numbers[2])


def _by_amdgpu(root: Path = Path("/sys/class/drm")) -> list[Gpu]:
    found = []
    for device in sorted(root.glob("card[0-9]*/device")):
        if _read(device / "vendor") == _AMD_VENDOR and _read(device / "mem_info_vram_total").isdigit():
            memory = int(_read(device / "mem_info_vram_total")) // _MIB
            used, busy = _read(device / "mem_info_vram_used"), _read(device / "gpu_busy_percent")
            name = _read(device / "product_name") or "AMD GPU"
            unique = "GPU-" + _read(device / "unique_id")
            found.append(
                Gpu(name, memory, "rocm", unique, int(used) // _MIB if used.isdigit() else None, int(busy) if busy.isdigit() else None)
            )
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
