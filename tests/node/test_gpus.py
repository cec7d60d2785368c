"""What a node tells of its GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remote_gpu.node import gpus


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose only source is an nvidia-smi that knows two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA H200, 143771, GPU-aaaa, 512, 7'\necho 'NVIDIA GH200 480GB, 97871, GPU-bbbb, [N/A], [N/A]'\necho 'noise'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpus, "_by_nvml", lambda: None)


def test_nvidia_smi_is_asked_where_nvml_cannot_be(two_gpus: None) -> None:
    first, second = gpus.find_gpus({})
    assert (first.name, first.memory_mb, first.accelerator, first.used_mb, first.busy_percent) == ("NVIDIA H200", 143771, "cuda", 512, 7)
    assert (second.memory_mb, second.used_mb, second.busy_percent) == (97871, None, None)
    assert gpus.gpu_report({})["accelerator"] == "cuda"


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [("", []), ("1", ["GPU-bbbb"]), ("1,0", ["GPU-bbbb", "GPU-aaaa"]), ("GPU-aa", ["GPU-aaaa"]), ("0,7,1", ["GPU-aaaa"])],
)
def test_only_the_visible_gpus_count(two_gpus: None, visible: str, uuids: list[str]) -> None:
    assert [gpu.uuid for gpu in gpus.find_gpus({"CUDA_VISIBLE_DEVICES": visible})] == uuids


def test_an_amd_gpu_is_found_by_its_drivers_files(tmp_path: Path) -> None:
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    for name, text in (("vendor", "0x1002"), ("mem_info_vram_total", str(64 * 2**30)), ("product_name", "Instinct MI250X")):
        (device / name).write_text(text + "\n")
    (found,) = gpus._by_amdgpu(tmp_path)
    assert (found.name, found.memory_mb, found.accelerator) == ("Instinct MI250X", 65536, "rocm")
