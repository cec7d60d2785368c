"""Files and folders to a node and back, through the real data process."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest
from tests.fakes.data import DataNode, data_node

from remote_gpu.errors import BadFrame, NoRoom, NotWritable, UsageProblem
from remote_gpu.transfer.files import Files, _Count, _Get
from remote_gpu.transfer.trees import Entry, check_name, walk


@pytest.fixture
def node(places):
    with data_node(places.base) as made:
        yield made


@pytest.fixture
def files(node: DataNode) -> Files:
    return Files(node.transfers)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def make(folder: Path) -> Path:
    (folder / "sub" / "empty folder").mkdir(parents=True)
    (folder / "a b ü 'quoted'\n.txt").write_bytes(b"odd name")
    (folder / "empty").write_bytes(b"")
    (folder / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "sub" / "run.sh").chmod(0o750)
    (folder / "large").write_bytes(random.Random(1).randbytes(20 << 20))
    return folder


def test_a_folder_goes_there_and_back_with_names_modes_times_and_empty_parts(node, files, tmp_path):
    source = make(tmp_path / "data")
    moved = files.put(source)
    assert (moved.files, moved.unchanged, moved.left_out) == (4, 0, ())
    assert moved.place == f"{node.cwd}/data/"
    assert tree(node.cwd / "data") == tree(source)
    assert stat.S_IMODE((node.cwd / "data" / "sub" / "run.sh").stat().st_mode) == 0o750
    assert (node.cwd / "data" / "large").stat().st_mtime_ns == (source / "large").stat().st_mtime_ns
    back = files.get("data", tmp_path / "back")
    assert (back.files, back.size) == (4, sum(len(content or b"") for content in tree(source).values()))
    assert tree(tmp_path / "back") == tree(source)
    assert stat.S_IMODE((tmp_path / "back" / "sub" / "run.sh").stat().st_mode) == 0o750


def test_what_did_not_change_does_not_travel_again(files, tmp_path):
    source = make(tmp_path / "data")
    files.put(source)
    (source / "empty").write_bytes(b"now not")
    os.utime(source / "large", (1, 1))  # another time, the same content
    again = files.put(source)
    assert (again.files, again.size, again.unchanged) == (1, len(b"now not"), 3)
    (tmp_path / "back").mkdir()
    files.get("data", tmp_path / "back")
    back = files.get("data", tmp_path / "back")
    assert (back.files, back.unchanged, back.place) == (0, 4, str(tmp_path / "back" / "data"))
    (tmp_path / "back" / "data" / "empty").write_bytes(b"changed")  # the same length
    assert files.get("data", tmp_path / "back").files == 1
    assert (tmp_path / "back" / "data" / "empty").read_bytes() == b"now not"


def test_a_single_file_gets_the_place_that_its_user_says(node, files, tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("hello")
    assert files.put(file, "other.txt").place == str(node.cwd / "other.txt")
    assert files.put(file, "new/folder/").place == str(node.cwd / "new" / "folder" / "one.txt")
    assert files.put(file, "new").place == str(node.cwd / "new" / "one.txt")
    assert files.get("other.txt", f"{tmp_path}/deep/down/").place == str(tmp_path / "deep" / "down" / "other.txt")
    assert (tmp_path / "deep" / "down" / "other.txt").read_text() == "hello"


def test_progress_is_told_up_to_the_end(files, tmp_path):
    source = make(tmp_path / "data")
    for move in (lambda told: files.put(source, progress=told), lambda told: files.get("data", tmp_path / "back", progress=told)):
        seen: list[tuple[int, int]] = []
        move(lambda done, total, seen=seen: seen.append((done, total)))
        assert len(seen) > 3
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 20 << 20


@pytest.mark.parametrize("direction", ["put", "get"])
def test_a_cut_in_the_middle_goes_on_where_it_was(node, files, tmp_path, direction):
    content = random.Random(2).randbytes(80 << 20)
    first, second = (tmp_path / "large", node.cwd / "large") if direction == "put" else (node.cwd / "large", tmp_path / "large")
    first.write_bytes(content)
    cuts = [10 << 20, 30 << 20, 60 << 20]

    def told(done: int, _: int) -> None:
        if cuts and done > cuts[0]:
            cuts.pop(0)
            node.kill()

    moved = files.put(first, progress=told) if direction == "put" else files.get("large", tmp_path, progress=told)
    assert second.read_bytes() == content
    assert len(node.processes) == 4
    assert moved.files == 1
    assert moved.size < len(content) * 1.5
    assert [path.name for path in second.parent.glob(".jrg-*")] == []


def test_a_link_inside_is_followed_and_one_that_leads_out_is_left_out_and_named(node, files, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("no")
    source = tmp_path / "data"
    (source / "real").mkdir(parents=True)
    (source / "real" / "file").write_text("yes")
    (source / "inside").symlink_to("real")
    (source / "out").symlink_to(secret)
    (source / "round").symlink_to(".")
    os.mkfifo(source / "pipe")
    moved = files.put(source)
    assert set(tree(node.cwd / "data")) == {"real", "real/file", "inside", "inside/file"}
    assert [text.partition(" ")[0] for text in moved.left_out] == ["out", "pipe", "round"]
    assert "leads out of the folder" in moved.sentence()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "./a", "a\0b", "a/.."])
def test_a_node_that_names_a_file_outside_of_the_folder_is_refused(name):
    with pytest.raises(BadFrame, match="no name inside a folder"):
        check_name(name)
    with pytest.raises(BadFrame):
        Entry.of([name, 1, 1, 0o644, False])


def test_nothing_is_written_through_a_link_that_leads_out_of_the_chosen_folder(node, files, tmp_path):
    (node.cwd / "data" / "sub").mkdir(parents=True)
    (node.cwd / "data" / "sub" / "evil").write_text("evil")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "data").mkdir()
    (tmp_path / "back" / "data" / "sub").symlink_to(outside)
    with pytest.raises(NotWritable, match="leads out of"):
        files.get("data", tmp_path / "back")
    assert list(outside.iterdir()) == []


def test_set_uid_does_not_cross():
    assert Entry.of(["a", 1, 1, 0o4755, False]).mode == 0o755


def test_a_damaged_file_never_gets_its_name(node, tmp_path):
    (node.cwd / "file").write_bytes(b"x" * 100)
    channel = node.transfers.attempts(lambda channel: channel)
    receive = channel.receive

    def lying(*expected):
        message = receive(*expected)
        return message._replace(meta={**message.meta, "sha256": "0" * 64}) if "sha256" in message.meta else message

    channel.receive = lying
    with pytest.raises(BadFrame, match="damaged"):
        _Get(channel, "file", str(tmp_path / "file"), _Count(), lambda: None).receive([Entry("", 100, 1, 0o600)])
    assert list(tmp_path.glob(".jrg*")) == []
    assert not (tmp_path / "file").exists()


def test_what_is_not_there_or_does_not_fit_is_said_in_words(node, files, tmp_path, monkeypatch):
    with pytest.raises(UsageProblem, match=r"There is no .*/nothing"):
        files.get("nothing", tmp_path)
    with pytest.raises(UsageProblem, match="cannot be read"):
        files.put(tmp_path / "nothing")
    with pytest.raises(UsageProblem):
        files.get("/", tmp_path)
    (node.cwd / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr("remote_gpu.transfer.files.shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("", (), {"free": 7}))
    with pytest.raises(NoRoom, match="100 B are to come, and there is room for 7 B"):
        files.get("file", tmp_path / "copy")


def test_a_file_that_the_node_cannot_write_is_named_and_the_others_arrive(node, files, tmp_path):
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / "data" / name).write_text(name)
    (node.cwd / "data" / "b").mkdir(parents=True)
    with pytest.raises(NotWritable, match="/b is a folder"):
        files.put(tmp_path / "data")
    assert (node.cwd / "data" / "c").read_text() == "c"


def test_many_small_files_do_not_wait_for_each_other(node, files, tmp_path):
    source = tmp_path / "many"
    source.mkdir()
    for number in range(2000):
        (source / f"{number}.txt").write_text(str(number))
    asked = []
    channel = node.transfers.attempts(lambda channel: channel)
    ask = channel.ask
    channel.ask = lambda *words: asked.append(words[0]) or ask(*words)
    assert files.put(source).files == 2000
    assert len(asked) <= 4
    assert files.get("many", tmp_path / "back").files == 2000
    assert tree(tmp_path / "back") == tree(source)


def test_a_walk_tells_a_single_file_by_its_empty_name(tmp_path):
    (tmp_path / "f").write_text("abc")
    assert [(entry.name, entry.size) for entry in walk(str(tmp_path / "f")).entries] == [("", 3)]
