from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from jupyter_remote_gpu.models import Allocation, AllocationState, ResourceRequest, Session, SessionId
from jupyter_remote_gpu.registry import NotebookRow, Registry, ServerKernelRow
from remote_gpu.errors import NameTaken, NotWritable


def a_session(identity: str = "a", name: str = "digits", **values) -> Session:
    allocation = Allocation("local", SessionId(identity))
    values = {"kernel_id": f"k-{identity}", "created": 1.0, "notebook": "", **values}
    return Session(SessionId(identity), name, "local", allocation=allocation, **values)


@pytest.fixture
def registry(tmp_path):
    opened = Registry(tmp_path / "data")
    yield opened
    opened.close()


def add(registry: Registry, *sessions: Session) -> None:
    for session in sessions:
        registry.add(session, ResourceRequest(), 1)


def test_a_session_comes_back_as_it_was_written(registry):
    session = a_session(owner="ada", notebook="a.ipynb", default=True, why="because", gateway=7)
    add(registry, session)
    for key in ("a", "digits", "k-a"):
        assert registry.session(key) == session


def test_the_file_and_its_folder_are_private(registry):
    assert registry.path.stat().st_mode & 0o777 == 0o600
    assert registry.path.parent.stat().st_mode & 0o777 == 0o700


def test_two_live_sessions_cannot_have_one_name(registry):
    add(registry, a_session())
    with pytest.raises(NameTaken, match="digits"):
        add(registry, a_session("b"))


def test_the_name_of_an_ended_session_is_free_again(registry):
    add(registry, a_session())
    ended = replace(registry.session("a").allocation, state=AllocationState.ENDED, detail="over")
    assert registry.record(ended, now=5.0)
    add(registry, a_session("b"))
    assert registry.session("digits").id == "b"
    assert registry.session("a").detail == "over"


def test_two_gateways_cannot_both_make_the_default_session_of_a_notebook(registry, tmp_path):
    other = Registry(tmp_path / "data")
    add(registry, a_session(default=True, notebook="x.ipynb"))
    with pytest.raises(NameTaken):
        add(other, a_session("b", "digits-2", default=True, notebook="x.ipynb"))
    assert other.default_session("x.ipynb").id == "a"
    other.close()


def test_a_session_that_is_over_stays_over_whatever_comes_late(registry):
    add(registry, a_session())
    allocation = registry.session("a").allocation
    registry.record(replace(allocation, state=AllocationState.ENDED), now=2.0)
    assert not registry.record(replace(allocation, state=AllocationState.RUNNING, pid=3), now=3.0)
    assert registry.session("a").state is AllocationState.ENDED
    assert registry.session("a").ended == 2.0


def test_it_says_when_a_session_first_ran(registry):
    add(registry, a_session())
    running = replace(registry.session("a").allocation, state=AllocationState.RUNNING)
    registry.record(running, now=2.0)
    registry.record(running, now=9.0)
    assert registry.session("a").started == 2.0


def test_sessions_that_ended_long_ago_are_not_listed(registry):
    add(registry, a_session(), a_session("b", "other"))
    registry.record(replace(registry.session("a").allocation, state=AllocationState.ENDED), now=100.0)
    assert [session.id for session in registry.sessions()] == ["b"]
    assert [session.id for session in registry.sessions(since=50.0)] == ["a", "b"]
    assert [session.id for session in registry.sessions(since=150.0)] == ["b"]


def test_a_choice_is_kept_until_it_is_taken_back(registry):
    registry.choose("a.ipynb", "local", 1.0)
    registry.choose("a.ipynb", "other", 2.0)
    assert registry.choice("a.ipynb") == "other"
    registry.choose("a.ipynb", "auto", 3.0)
    assert registry.choice("a.ipynb") == "auto"


def test_kernels_and_notebooks_of_a_server_survive_it(registry, tmp_path):
    row = ServerKernelRow("k-a", "a", "remote-gpu-local", "/home", 1, 2, {"front": "x"})
    notebook = NotebookRow("n", "k-a", "a.ipynb", "a", "notebook")
    registry.save_server_kernel(row)
    registry.save_notebook(notebook)
    later = Registry(tmp_path / "data")
    assert later.server_kernels() == [row]
    assert later.notebooks() == [notebook]
    later.forget_server_kernel("k-a")
    assert (later.server_kernels(), later.notebooks()) == ([], [])
    later.close()


def test_a_folder_that_is_not_private_is_refused(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(NotWritable, match="not private"):
        Registry(tmp_path / "open")


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        Registry(tmp_path / "file")


def test_a_registry_of_a_newer_version_is_left_alone(tmp_path):
    opened = Registry(tmp_path / "data")
    opened.close()
    base = sqlite3.connect(opened.path)
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(NotWritable, match="newer"):
        Registry(tmp_path / "data")


def test_a_registry_that_another_program_holds_is_said_to_be_held(registry):
    holder = sqlite3.connect(registry.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    registry._base.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(NotWritable, match="locked"):
        registry.choose("a", "b", 1.0)
    holder.execute("ROLLBACK")
    holder.close()
    registry.choose("a", "b", 1.0)


def test_a_damaged_registry_is_said_to_be_damaged_and_left_as_it_is(tmp_path):
    opened = Registry(tmp_path / "data")
    opened.close()
    opened.path.write_bytes(b"no database" * 1000)
    with pytest.raises(NotWritable, match=r"not a database.*damaged and was left"):
        Registry(tmp_path / "data")
    assert opened.path.read_bytes() == b"no database" * 1000


def test_a_registry_whose_tables_are_damaged_is_said_to_be_damaged(registry, tmp_path):
    registry.choose("a", "b", 1.0)
    size = registry.path.stat().st_size
    with registry.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * (size - 4096))
    later = Registry(tmp_path / "data")
    with pytest.raises(NotWritable, match="damaged"):
        later.sessions()
    with pytest.raises(NotWritable, match="damaged"):
        later.choose("c", "d", 2.0)
    later.close()
