"""The journal keeps every record in order, over reopening, torn writes and its size bound."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_gpu.errors import JournalGap, NotWritable
from remote_gpu.frames import Lane
from remote_gpu.node.journal import Journal, Record

LANES = st.sampled_from([Lane.IOPUB, Lane.SHELL, Lane.CONTROL])
ENTRIES = st.lists(st.tuples(LANES, st.binary(max_size=700), st.text(max_size=8), st.text(max_size=12)), max_size=60)


def fill(journal: Journal, entries: list[tuple[Lane, bytes, str, str]]) -> list[Record]:
    return [
        Record(journal.append(lane, body, attachment=attachment, parent=parent), lane, attachment, parent, body)
        for lane, body, attachment, parent in entries
    ]


def everything(journal: Journal, after: int = 0, limit: int = 1000) -> list[Record]:
    found: list[Record] = []
    while portion := list(journal.read(after, limit)):
        found += portion
        after = portion[-1].number
    return found


@settings(deadline=None, max_examples=60)
@given(ENTRIES, st.integers(0, 60), st.integers(1, 3000), st.integers(0, 2000))
def test_what_was_appended_is_read_back_in_order_from_any_place(entries: list, after: int, limit: int, tail: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name) / "j", limit=1 << 20, tail=tail)
        written = fill(journal, entries)
        assert everything(journal, min(after, len(written)), limit) == written[min(after, len(written)) :]
        journal.close()


@settings(deadline=None, max_examples=60)
@given(ENTRIES, ENTRIES)
def test_a_reopened_journal_holds_the_same_and_goes_on(first: list, second: list) -> None:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), limit=1 << 20)
        written = fill(journal, first)
        journal.close()
        journal = Journal(Path(name), limit=1 << 20, tail=300)
        assert journal.head == len(first)
        written += fill(journal, second)
        assert everything(journal) == written
        journal.close()


@settings(deadline=None, max_examples=60)
@given(ENTRIES.filter(bool), st.integers(1, 900), st.binary(max_size=40))
def test_a_torn_write_costs_only_the_torn_end(entries: list, cut: int, rubbish: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), limit=1 << 24)
        written = fill(journal, entries)
        journal.close()
        newest = max(Path(name).glob("*.log"))
        whole = newest.read_bytes()
        newest.write_bytes(whole[: max(0, len(whole) - cut)] + rubbish)
        journal = Journal(Path(name), limit=1 << 24)
        kept = everything(journal)
        assert kept == written[: len(kept)]
        assert len(kept) < len(written)
        assert journal.append(Lane.IOPUB, b"next") == len(kept) + 1
        assert everything(journal)[-1].body == b"next"
        journal.close()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(50, 900), min_size=60, max_size=120), st.integers(8192, 20000))
def test_the_oldest_go_first_and_asking_for_them_names_the_gap(sizes: list[int], limit: int) -> None:
    bodies = [b"%03d" % number * (size // 3) for number, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), limit=limit, tail=500)
        for body in bodies:
            journal.append(Lane.IOPUB, body)
            journal.flush()
        assert sum(path.stat().st_size for path in Path(name).iterdir()) <= limit
        assert [record.body for record in everything(journal, journal.floor - 1)] == bodies[journal.floor - 1 :]
        if journal.floor > 1:
            with pytest.raises(JournalGap) as gap:
                list(journal.read(0))
            assert gap.value.details == {"first": 1, "last": journal.floor - 1}
        journal.close()


def test_a_damaged_record_is_reported_as_a_gap_and_never_returned(tmp_path: Path) -> None:
    journal = Journal(tmp_path, tail=0)
    fill(journal, [(Lane.IOPUB, bytes([number]) * 100, "", "") for number in range(10)])
    journal.flush()
    file = next(tmp_path.glob("*.log"))
    damaged = bytearray(file.read_bytes())
    damaged[5 * 123 + 60] ^= 0xFF
    file.write_bytes(damaged)
    found = []
    with pytest.raises(JournalGap) as gap:
        found.extend(journal.read(0))
    assert gap.value.details["first"] == 6
    journal.close()


def test_a_disk_that_refuses_leaves_the_newest_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append(Lane.IOPUB, b"one")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        journal.flush()
    assert not journal.on_disk
    journal.append(Lane.IOPUB, b"two")
    journal.flush()
    assert [record.body for record in journal.read(0)] == [b"one", b"two"]
    assert not list(tmp_path.iterdir())
    journal.close()


def test_files_are_private_and_go_with_the_session(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(Lane.IOPUB, b"x")
    journal.flush()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "j").iterdir()] == [0o600]
    journal.close(delete=True)
    assert not (tmp_path / "j").exists()


def test_a_folder_that_cannot_be_made_is_a_clear_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="journal"):
        Journal(tmp_path / "file" / "j")
