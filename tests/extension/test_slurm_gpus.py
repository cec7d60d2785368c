"""GPUs in Slurm's words, and which type a request means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_remote_gpu.clusters.slurm_gpus import accelerator_of, architecture_of, choose_type, gpus_of, is_slice, memory_of
from jupyter_remote_gpu.clusters.slurm_values import job_gpus
from jupyter_remote_gpu.models import ResourceRequest
from remote_gpu.errors import UsageProblem

SITE = ["h100", "nvidia_h100_80gb_hbm3_1g.10gb", "nvidia_h100_80gb_hbm3_3g.40gb", "gh200", "a100", "a100_1g.5gb", "l40s", "mi300a"]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("gpu:h100:4(S:0-1)", {"h100": 4}),
        ("gpu:h100:2(IDX:0,2),tmpfs:100", {"h100": 2}),
        ("gpu:h100:0(IDX:N/A)", {}),
        (
            "gpu:nvidia_h100_80gb_hbm3:1,gpu:nvidia_h100_80gb_hbm3_1g.10gb:7",
            {"nvidia_h100_80gb_hbm3": 1, "nvidia_h100_80gb_hbm3_1g.10gb": 7},
        ),
        ("gpu:3090:4", {"3090": 4}),
        ("gpu:h100:no_consume:4", {"h100": 4}),
        ("gpu:2", {"": 2}),
        ("gpu", {"": 1}),
        ("gpu:a100", {"a100": 1}),
        ("gres:gpu:h100:2", {"h100": 2}),
        ("gres/gpu:h100:2", {"h100": 2}),
        ("cpu=1,mem=100M,node=1,billing=1,gres/gpu=2,gres/gpu:h100=2", {"h100": 2}),
        ("cpu=1,gres/gpu=4", {"": 4}),
        ("gres/gpu=4,gres/gpu:h100=2", {"h100": 2, "": 2}),
        ("gres/gpumem=80G,gres/gpuutil=100", {}),
        ("(null)", {}),
        ("N/A", {}),
        ("", {}),
    ],
)
def test_gpus_are_counted_by_type_in_each_spelling(text, counts):
    assert gpus_of(text) == counts


@given(st.dictionaries(st.sampled_from(SITE), st.integers(1, 16), min_size=1))
def test_the_total_of_a_tres_text_is_not_counted_twice(counts):
    text = f"cpu=1,gres/gpu={sum(counts.values())}," + ",".join(f"gres/gpu:{name}={number}" for name, number in counts.items())
    assert gpus_of(text) == counts


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("h100", 80),
        ("a100", 40),
        ("a100_80gb", 80),
        ("nvidia_a100-sxm4-40gb", 40),
        ("nvidia_h100_80gb_hbm3_1g.10gb", 10),
        ("a100_3g.20gb", 20),
        ("NVIDIA_H200", 141),
        ("rtx4090", 24),
        ("mi300a", 128),
        ("something", 0),
        ("", 0),
    ],
)
def test_memory_is_what_the_name_says_or_the_least_that_its_model_has(name, gigabytes):
    assert memory_of(name) == gigabytes * 1024


def test_a_type_tells_its_interface_and_sometimes_the_processor_beside_it():
    assert [accelerator_of(name) for name in ("h100", "mi300a", "amd_instinct_mi250x", "pvc")] == ["cuda", "rocm", "rocm", "xpu"]
    assert architecture_of("gh200") == architecture_of("h100", ["rack1", "ARM64"]) == "aarch64"
    assert architecture_of("h100", ["x86_64"]) == "x86_64"
    assert architecture_of("h100", ["rack1"]) == ""
    assert is_slice("a100_1g.5gb")
    assert not is_slice("a100")


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("H100", "h100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("h100-80gb", "h100"),
        ("1g.10gb", "nvidia_h100_80gb_hbm3_1g.10gb"),
        ("H100 3g.40gb", "nvidia_h100_80gb_hbm3_3g.40gb"),
        ("A100_1G.5GB", "a100_1g.5gb"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("A100-SXM4-40GB", "a100"),
        ("MI300A", "mi300a"),
    ],
)
def test_a_model_as_people_say_it_finds_the_clusters_own_spelling(asked, chosen):
    assert choose_type(ResourceRequest(gpus=1, gpu_model=asked), SITE) == chosen


def test_a_slice_is_not_given_to_who_asks_for_a_gpu():
    assert (
        choose_type(ResourceRequest(gpus=1, gpu_model="h100"), ["nvidia_h100_80gb_hbm3_1g.10gb", "nvidia_h100_80gb_hbm3"])
        == "nvidia_h100_80gb_hbm3"
    )
    with pytest.raises(UsageProblem, match="has no h100"):
        choose_type(ResourceRequest(gpus=1, gpu_model="h100"), ["nvidia_h100_80gb_hbm3_1g.10gb"])


def test_memory_takes_the_smallest_gpu_that_has_enough():
    def chosen(mib: int) -> str:
        return choose_type(ResourceRequest(gpus=1, gpu_memory_mb=mib), SITE)

    assert [chosen(10_000), chosen(41_000), chosen(50_000), chosen(90_000), chosen(100_000)] == ["a100", "l40s", "h100", "gh200", "mi300a"]


def test_nothing_is_named_when_nothing_is_asked_for():
    assert choose_type(ResourceRequest(gpus=2), SITE) == ""
    assert choose_type(ResourceRequest(gpus=0, gpu_model="h100"), SITE) == ""


@pytest.mark.parametrize("asked", ["L40", "h1000", "A100 80GB", "1g.20gb", "B200"])
def test_another_model_is_not_taken_for_it(asked):
    with pytest.raises(UsageProblem, match=r"^Fir has no ") as caught:
        choose_type(ResourceRequest(gpus=1, gpu_model=asked), SITE, "Fir")
    assert "h100 (80 GB)" in caught.value.hint
    assert caught.value.details["known"] == SITE


def test_too_much_memory_is_refused_with_what_there_is():
    with pytest.raises(UsageProblem) as caught:
        choose_type(ResourceRequest(gpus=1, gpu_model="h100", gpu_memory_mb=90_000), ["h100", "odd"])
    assert str(caught.value) == "This cluster has no h100 with 90000 MiB. It has h100 (80 GB), odd (? GB)."


def test_a_cluster_whose_gpus_have_no_type_says_so():
    with pytest.raises(UsageProblem, match="does not say which GPUs it has"):
        choose_type(ResourceRequest(gpus=1, gpu_model="h100"), [""])


@pytest.mark.parametrize(
    ("tres", "asked", "gpus"),
    [
        ("cpu=1,node=1,gres/gpu=2,gres/gpu:h100=2", ("gres:gpu:h100:2", ""), (("h100", 2),)),
        ("cpu=1,node=1,gres/gpu=2", ("gres:gpu:h100:2", ""), (("h100", 2),)),
        ("cpu=1,mem=500M,node=2,billing=1", ("gres:gpu:a100:4", "N/A"), (("a100", 8),)),
        ("cpu=1,mem=500M,node=1,billing=1", ("gres:gpu:1", "N/A"), (("", 1),)),
        ("cpu=4,node=2,billing=4", ("N/A", "gres:gpu:3"), (("", 3),)),
        ("cpu=1,node=1,billing=1", ("N/A", "N/A"), ()),
        ("", (), ()),
    ],
)
def test_a_jobs_gpus_are_those_that_are_counted_and_else_those_that_were_asked_for(tres, asked, gpus):
    assert job_gpus(tres, *asked) == gpus
