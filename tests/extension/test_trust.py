"""The setting `trust` of a cluster: who sets it, and that nothing else does."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.models import Allocation, ResourceRequest, Session, SessionId
from jupyter_remote_gpu.registry import Registry
from jupyter_remote_gpu.settings import RemoteGpu
from remote_gpu.errors import UsageProblem
from remote_gpu.gateway import SessionInfo


def _settings(clusters):
    return RemoteGpu(config=Config({"RemoteGpu": {"clusters": clusters}})).freeze()


def _session(cluster):
    return Session(SessionId(f"s-{cluster}"), cluster, cluster, f"k-{cluster}", Allocation(cluster, SessionId(f"s-{cluster}")))


def test_no_cluster_is_trusted_unless_its_configuration_says_so():
    assert _settings({"local": {"kind": "local"}}).trusted == frozenset()
    assert _settings({"a": {"kind": "local", "trust": True}, "b": {"kind": "local", "trust": False}}).trusted == {"a"}


@pytest.mark.parametrize("value", ["yes", 1, None, "true"])
def test_trust_is_true_or_false_and_nothing_like_it(value):
    with pytest.raises(UsageProblem, match="neither true nor false"):
        _settings({"local": {"kind": "local", "trust": value}})


def test_a_cluster_of_any_kind_is_made_with_it():
    settings = _settings({"here": {"kind": "local", "trust": True}})
    assert Clusters(settings)["here"].name == "here"


def test_a_session_is_trusted_by_the_configuration_of_now_and_not_by_what_was_written_down(tmp_path):
    registry = Registry(tmp_path, trusted={"a"})
    for cluster in "ab":
        registry.add(_session(cluster), ResourceRequest(), gateway_start=1)
    assert {each.cluster: each.trust for each in registry.sessions()} == {"a": True, "b": False}
    registry.close()
    later = Registry(tmp_path)
    assert not any(each.trust for each in later.sessions())
    later.close()


def test_the_magic_reads_it_from_the_sessions_json():
    assert SessionInfo.of({**_session("a").json(), "trust": True}).trust is True
    assert SessionInfo.of(_session("a").json()).trust is False
    assert SessionInfo.of({"id": "x"}).trust is False
