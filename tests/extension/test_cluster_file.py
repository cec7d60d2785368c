"""The user's own clusters: their file, and that gateways see what changes in it."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from jupyter_remote_gpu.cluster_file import ClusterFile, parse
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.settings import Settings
from remote_gpu.errors import NameTaken, NotAllowed, NotWritable, UnknownCluster, UsageProblem

BOX = {"kind": "ssh", "host": "box"}


class Clock:
    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        self.now += 10  # nothing that was seen is believed the next time
        return self.now


@pytest.fixture
def path(places):
    return places.base / "config" / "remote-gpu-clusters.json"


@pytest.fixture
def file(path):
    return ClusterFile(path, clock=Clock())


def clusters(path, **settings) -> Clusters:
    made = Clusters(Settings(clusters={"local": {"kind": "local"}}, clusters_file=path, **settings))
    if made.configurations._file is not None:
        made.configurations._file._clock = Clock()
    return made


# the file


def test_no_file_is_no_clusters(file):
    assert file.clusters == {}
    assert file.problem is None


def test_what_is_written_is_read_and_only_its_user_can_read_it(file, path):
    file.change("box", BOX)
    file.change("other", {"kind": "slurm", "host": "o"})
    assert ClusterFile(path).clusters == {"box": BOX, "other": {"kind": "slurm", "host": "o"}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]
    file.change("box", None)
    assert list(json.loads(path.read_text())) == ["other"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('{\n  "box": {"kind": "ssh",}\n}', 2, "column"),
        ("[]", 1, "no object"),
        ('{\n  "box": {"kind": "ssh"},\n  "other": {},\n  "box": {}\n}', 4, "twice"),
        ('{"a": {},\n "box": 7}', 2, "not a mapping"),
        ('{"a": {},\n\n "two words": {}}', 3, "named 'two words'"),
        ('{"a": {"trust": 1}}', 1, "neither true nor false"),
    ],
)
def test_a_damaged_file_is_told_with_its_line_and_never_written(path, file, text, line, what):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageProblem, match=what) as caught:
        parse(text, path)
    assert str(path) in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert (file.clusters, file.problem.message) == ({}, caught.value.message)
    with pytest.raises(UsageProblem, match=what):
        file.change("more", BOX)
    assert path.read_text() == text


def test_a_file_that_is_damaged_later_leaves_what_was_read_and_one_that_is_mended_counts(file, path):
    file.change("box", BOX)
    good = path.read_text()
    path.write_text("{")
    assert file.clusters == {"box": BOX}
    assert "damaged" in file.problem.message
    path.write_text(good.replace('"host": "box"', '"host": "fox"'))
    assert file.clusters["box"]["host"] == "fox"
    assert file.problem is None


def test_a_file_that_others_can_write_is_not_believed(file, path):
    file.change("box", BOX)
    path.chmod(0o606)
    fresh = ClusterFile(path)
    assert fresh.clusters == {}
    assert "chmod 600" in fresh.problem.hint
    path.chmod(0o600)


def test_a_link_stays_a_link(file, path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "dotfiles.json")
    file.change("box", BOX)
    assert path.is_symlink()
    assert json.loads((tmp_path / "dotfiles.json").read_text()) == {"box": BOX}


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        ClusterFile(tmp_path / "file" / "clusters.json").change("box", BOX)


def test_gateways_that_write_at_once_lose_nothing(path):
    threads = [threading.Thread(target=lambda n=n: ClusterFile(path).change(f"c{n}", BOX)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ClusterFile(path).clusters) == sorted(f"c{n}" for n in range(12))


# the clusters


async def test_a_cluster_that_is_added_is_there_at_once_and_for_the_other_gateway(path):
    mine, other = clusters(path), clusters(path)
    told = []
    other.changed = told.append
    mine.add("box", BOX)
    assert list(mine) == ["local", "box"]
    assert mine["box"].kind == "ssh"
    assert "box" in other
    assert other.kind("box") == "ssh"
    assert told == ["box"]
    other.remove("box")
    assert list(mine) == ["local"]
    with pytest.raises(UnknownCluster):
        mine["box"]


async def test_a_cluster_that_is_configured_otherwise_is_made_anew(path):
    mine = clusters(path)
    mine.add("box", BOX)
    first = mine["box"]
    mine.change("box", {"python": "/opt/python"})
    assert mine["box"] is not first
    assert mine.configured("box").config == {**BOX, "python": "/opt/python"}
    assert mine.configured("box").own
    await mine.aclose()


@pytest.mark.parametrize(
    ("name", "config", "error", "words"),
    [
        ("local", BOX, NameTaken, "configuration has a cluster 'local'"),
        ("BOX", BOX, NameTaken, "already"),
        ("auto", BOX, UsageProblem, "named 'auto'"),
        ("a/b", BOX, UsageProblem, "named 'a/b'"),
        ("new", {"kind": "ssh"}, UsageProblem, "has no host"),
        ("new", {"kind": "ssh", "host": "-oProxyCommand=x"}, UsageProblem, "not a host"),
        ("new", {**BOX, "pyton": "x"}, UsageProblem, "Did you mean 'python'"),
        ("new", {**BOX, "trust": True}, UsageProblem, "cannot be set from here"),
        ("new", {"kind": "slrum", "host": "x"}, UsageProblem, "no kind of cluster"),
        ("new", {"kind": "slurm", "host": "x", "gpus_by": "gpu"}, UsageProblem, "gpus_by"),
        ("new", {"kind": "slurm", "host": "x", "options": ["--wrap=true"]}, UsageProblem, "--wrap"),
        ("new", {"kind": "slurm", "host": "x", "account": "-x"}, UsageProblem, "account"),
    ],
)
async def test_what_cannot_be_added_is_refused_in_words_and_not_written(path, name, config, error, words):
    mine = clusters(path)
    mine.add("box", BOX)
    before = path.read_text()
    with pytest.raises(error) as caught:
        mine.add(name, config)
    assert words in str(caught.value)
    assert path.read_text() == before


async def test_an_administrator_can_forbid_it(path):
    clusters(path).add("box", BOX)
    bound = clusters(path, own_clusters=False)
    assert list(bound) == ["local"]
    for forbidden in (lambda: bound.add("new", BOX), lambda: bound.remove("box")):
        with pytest.raises(NotAllowed, match="forbids"):
            forbidden()


async def test_a_cluster_of_the_setting_cannot_be_removed(path):
    with pytest.raises(NotAllowed, match="server's configuration"):
        clusters(path).remove("local")


async def test_a_trial_is_there_by_name_and_nowhere_else(path):
    mine = clusters(path)
    async with mine.trial("box", BOX):
        assert "box" in mine
        assert mine["box"].kind == "ssh"
        assert list(mine) == ["local"]
    assert "box" not in mine
    assert not path.exists()


async def test_trust_in_the_file_counts_and_is_gone_with_the_cluster(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"box": {**BOX, "trust": True}}))
    mine = clusters(path)
    trusted = mine.configurations.trusted
    assert ("box" in trusted, "local" in trusted) == (True, False)
    mine.remove("box")
    mine.add("box", BOX)
    assert "box" not in trusted


async def test_a_damaged_file_is_in_the_words_about_a_cluster_that_is_not_there(path):
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(UnknownCluster, match="line 1"):
        clusters(path)["box"]
