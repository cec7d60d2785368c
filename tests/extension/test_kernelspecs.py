from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from jupyter_remote_gpu.kernelspecs import cluster_of, describe, kernel_name, kernels_folder, write_kernelspecs
from remote_gpu.errors import NotWritable

ROOT = Path(__file__).resolve().parents[2]


def test_the_kernelspec_in_the_wheel_is_the_one_that_the_code_describes():
    file = ROOT / "extension" / "kernelspecs" / kernel_name("local") / "kernel.json"
    assert json.loads(file.read_text()) == describe("local")


def test_each_cluster_gets_a_kernelspec_that_jupyter_finds():
    assert write_kernelspecs(["lab", "Bristol"]) == ["remote-gpu-bristol", "remote-gpu-lab"]
    spec = KernelSpecManager().get_kernel_spec("remote-gpu-lab")
    assert (spec.interrupt_mode, spec.language) == ("message", "python")
    assert spec.metadata["kernel_provisioner"]["config"] == {"cluster": "lab"}
    assert "supported_encryption" not in spec.metadata


def test_writing_again_changes_nothing():
    write_kernelspecs(["lab"])
    file = kernels_folder() / "remote-gpu-lab" / "kernel.json"
    before = file.stat().st_mtime_ns
    assert write_kernelspecs(["lab"]) == []
    assert file.stat().st_mtime_ns == before


def test_a_cluster_that_is_gone_takes_its_kernelspec_with_it():
    write_kernelspecs(["lab", "other"])
    assert write_kernelspecs(["other"]) == ["remote-gpu-lab"]
    assert not (kernels_folder() / "remote-gpu-lab").exists()


def test_a_kernelspec_of_somebody_else_is_left_alone():
    mine = kernels_folder() / "remote-gpu-mine"
    mine.mkdir(parents=True)
    (mine / "kernel.json").write_text('{"argv": ["x"], "display_name": "Mine", "language": "python"}')
    write_kernelspecs([])
    assert (mine / "kernel.json").exists()


def test_a_folder_that_refuses_is_told_in_words(places):
    (places.base / "data").write_text("a file where the folder should be")
    with pytest.raises(NotWritable, match="Cannot write the kernelspec"):
        write_kernelspecs(["lab"])


@pytest.mark.parametrize("content", [{}, {"metadata": {"kernel_provisioner": {"provisioner_name": "local-provisioner"}}}])
def test_other_kernelspecs_have_no_cluster(content):
    assert cluster_of(content) is None


def test_ours_names_its_cluster():
    assert cluster_of(describe("lab")) == "lab"
