"""Nodes and the GPUs that they make up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extension.slurm_outputs.recordings import VERSIONS, recorded

from jupyter_remote_gpu.clusters.slurm_nodes import expand, known_types, nodes_command, once, parse_nodes, pools, usage
from jupyter_remote_gpu.clusters.slurm_values import NodeGroup
from jupyter_remote_gpu.offers import ClusterSnapshot, Pool

MIG = "nvidia_h100_80gb_hbm3_1g.10gb"


def counts(groups) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {(use.partition, use.gpu_type): (use.total, use.free, use.down) for use in usage(groups)}


def a_pool(*told, nodes: int, cpus: int, memory: int) -> Pool:
    return Pool(*told, "cuda", nodes=nodes, cpus_per_node=cpus, memory_mb_per_node=memory)


def a_group(state="idle", flags=(), count=1, used=0, **rest) -> NodeGroup:
    values = {"partition": "p", "gres": "gpu:h100:4", "gres_used": f"gpu:h100:{used}(IDX:N/A)", **rest}
    return NodeGroup(state=state, flags=frozenset(flags), count=count, **values)


@pytest.mark.parametrize("version", VERSIONS)
def test_idle_nodes_are_all_free(version):
    found = counts(parse_nodes(recorded(version, "nodes-idle").out))
    assert found["grace", "gh200"] == (2, 2, 0)
    assert found["hopper", "h100"] == (8, 8, 0)
    assert found["mig", MIG] == (7, 7, 0)
    assert found["mig", "nvidia_h100_80gb_hbm3"] == (1, 1, 0)
    assert found["cpu", ""] == (0, 0, 0)
    assert found["closed", "h100"] == (4, 0, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_gpus_in_use_drained_and_under_maintenance_are_told_apart(version):
    groups = parse_nodes(recorded(version, "reasons-nodes").out)
    found = counts(groups)
    assert found["grace", "gh200"] == (2, 1, 1)
    assert found["hopper", "h100"] == (8, 0, 0)
    (drained,) = (group for group in groups if group.nodes == "cn2")
    assert (drained.flags, drained.reason, drained.partition) == (frozenset({"drain"}), "bad fan | ticket 12", "cpu")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_that_does_not_answer_is_out_of_order(version):
    (dead,) = (group for group in parse_nodes(recorded(version, "ends-nodes").out) if group.nodes == "cn2")
    assert dead.state == "down" or "not_responding" in dead.flags


@pytest.mark.parametrize("version", VERSIONS)
def test_pools_are_what_a_user_sees(version):
    found = {pool.name: pool for pool in pools(parse_nodes(recorded(version, "moment-nodes").out))}
    assert found["grace"] == a_pool("grace", "gh200", 96 * 1024, 2, 2, 1, "aarch64", nodes=2, cpus=8, memory=16000)
    assert found["hopper"] == a_pool("hopper", "h100", 80 * 1024, 8, 2, 4, "x86_64", nodes=2, cpus=16, memory=32000)
    part = a_pool(f"mig:{MIG}", MIG, 10 * 1024, 7, 5, 7, "x86_64", nodes=1, cpus=16, memory=32000)
    assert found[f"mig:{MIG}"] == replace(part, fraction=True)
    assert (found["mig:nvidia_h100_80gb_hbm3"].gpus_free, found["mig:nvidia_h100_80gb_hbm3"].fraction) == (1, False)
    assert found["cpu"] == Pool("cpu", cpu_arch="x86_64", nodes=2, cpus_per_node=4, memory_mb_per_node=8000)
    assert found["spare:gh200"].gpus_total == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pool_says_how_many_of_its_gpus_are_out_of_order(version):
    found = {pool.name: pool for pool in pools(parse_nodes(recorded(version, "reasons-nodes").out))}
    assert (found["grace"].gpus_total, found["grace"].gpus_down, found["hopper"].gpus_down) == (2, 1, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_text_and_json_of_one_moment_count_the_same(version):
    text, form = (parse_nodes(recorded(version, name).out) for name in ("moment-nodes", "moment-nodes-json"))
    shown = {use.partition for use in usage(text)} - {"closed"}  # JSON of 22.05 has hidden partitions, too, and not whether one is up
    assert {key: value for key, value in counts(form).items() if key[0] in shown} == {
        key: value for key, value in counts(text).items() if key[0] in shown
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_of_several_partitions_is_counted_once(version):
    groups = parse_nodes(recorded(version, "moment-nodes").out)
    apart = usage(once(groups))
    assert sum(use.total for use in usage(groups)) > sum(use.total for use in apart)
    assert (sum(use.total for use in apart), sum(use.free for use in apart)) == (2 + 8 + 8, 2 + 2 + 6)
    seen = ClusterSnapshot("bristol", "slurm", pools=pools(groups), distinct=pools(once(groups))).json()
    assert (seen["gpus_total"], seen["gpus_free"], len(seen["pools"])) == (18, 10, len(pools(groups)))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_types_of_a_site_come_with_the_freest_first(version):
    groups = parse_nodes(recorded(version, "moment-nodes").out)
    assert set(known_types(groups)) == {"gh200", "h100", MIG, "nvidia_h100_80gb_hbm3"}
    free = {name: sum(use.free for use in usage(groups) if use.gpu_type == name) for name in known_types(groups)}
    assert list(free.values()) == sorted(free.values(), reverse=True)


@pytest.mark.parametrize(
    ("group", "free", "down"),
    [
        (a_group(), 4, 0),
        (a_group("mixed", used=3), 1, 0),
        (a_group("allocated", used=1), 0, 0),
        (a_group(flags=("planned",)), 0, 0),
        (a_group(flags=("reserved",)), 0, 0),
        (a_group(flags=("powered_down", "cloud")), 4, 0),
        (a_group(flags=("powering_down",)), 0, 0),
        (a_group("mixed", flags=("completing",), used=2), 2, 0),
        (a_group("mixed", flags=("drain",), used=1), 0, 4),
        (a_group(flags=("drain",)), 0, 4),
        (a_group(flags=("not_responding",)), 0, 4),
        (a_group(flags=("maintenance", "reserved")), 0, 4),
        (a_group(flags=("reboot_requested",)), 0, 4),
        (a_group(flags=("invalid_reg",)), 0, 4),
        (a_group("down"), 0, 4),
        (a_group("unknown"), 0, 4),
        (a_group("future"), 0, 4),
        (a_group(available=False), 0, 0),
        (a_group(count=1000, used=1), 3000, 0),
        (a_group(used=9), 0, 0),
    ],
)
def test_each_state_of_a_node_says_whether_its_gpus_can_be_had(group, free, down):
    (use,) = usage([group])
    assert (use.total, use.free, use.down) == (4 * group.count, free, down * group.count)


def test_lines_that_are_not_sinfos_are_passed_over():
    line = "p*|mixed|2|n[1-2]|gpu:h100:4|gpu:h100:1(IDX:0)|2/30/0/32|32000+|up|x86_64,h100|a | b|"
    (group,) = parse_nodes(f"Welcome!\n{line}\n\na|b\n")
    assert (group.partition, group.default, group.memory_mb, group.cpus_free, group.reason) == ("p", True, 32000, 30, "a | b")
    assert parse_nodes("") == ()


def test_some_partitions_can_be_asked_for():
    assert nodes_command(["a", "b"])[:2] == ["sinfo", "--partition=a,b"]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("gh[1-2],hx[01-03,7],x", ["gh1", "gh2", "hx01", "hx02", "hx03", "hx7", "x"]),
        ("r[1-2]n[8-10]", ["r1n8", "r1n9", "r1n10", "r2n8", "r2n9", "r2n10"]),
        ("n[098-101]-ib", ["n098-ib", "n099-ib", "n100-ib", "n101-ib"]),
    ],
)
def test_a_node_list_is_spelled_out(text, nodes):
    assert expand(text) == nodes


@given(st.lists(st.integers(0, 400), unique=True, min_size=1, max_size=30))
def test_a_node_list_gives_each_node_once(numbers):
    assert expand("n[" + ",".join(map(str, numbers)) + "]") == [f"n{number}" for number in numbers]
