"""What a node tells of its GPUs, and the blobs that it keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remote_gpu.errors import UsageProblem
from remote_gpu.node import gpus
from remote_gpu.node.blobs import BlobStore, digest_of


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


def test_a_blob_is_kept_once_under_its_digest_and_private(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"some bytes")
    assert digest == digest_of(b"some bytes") == store.put(memoryview(b"some bytes"))
    assert store.path(digest).read_bytes() == b"some bytes"
    assert store.path(digest).stat().st_mode & 0o777 == 0o600
    assert (store.has(digest), store.has("0" * 64)) == (True, False)


def test_the_blobs_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    old, new = store.put(b"o" * 100), store.put(b"n" * 100)
    os.utime(store.path(old), (1, 1))
    store.drop_to(150)
    assert (store.has(old), store.has(new)) == (False, True)


def test_what_is_no_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        BlobStore(tmp_path).path("../../etc/passwd")
