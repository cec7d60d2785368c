"""What counts as a difference, and what two local runs of a cell excuse."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from fidelity.explained import EXPLAINED, explanation
from fidelity.kernels import RECORD_MIME, Ran
from fidelity.records import lines, records
from fidelity.rules import RULES, compare


def _shown(text):
    return [{"type": "stream", "name": "stdout", "text": text}]


@pytest.mark.parametrize(
    ("one", "two", "remote", "rule"),
    [
        ("<a at 0x7f01a2b3c4d5>", "<a at 0x7f01a2b3c4d6>", "<a at 0x55d1a2b3c4d5>", "address"),
        ("&lt;sklearn.tree...x7f3ecefce6b0&gt;", "&lt;sklearn.tree...x7f3f41e85840&gt;", "&lt;sklearn.tree...x7f29c81d57d0&gt;", "address"),
        ("/tmp/ipykernel_12/9.py:1: W", "/tmp/ipykernel_34/9.py:1: W", "/tmp/ipykernel_567/9.py:1: W", "process"),
        ("Wall time: 3.1 ms", "Wall time: 12 µs", "Wall time: 1 s", "duration"),
        ("Time: 10:20:30", "Time: 10:20:31", "Time: 10:21:00", "moment"),
        ("\r 10%\r 50%\r100%", "\r 20%\r100%", "\r100%", "progress"),
        ('id="T_0a1b2"', 'id="T_1a1b2"', 'id="T_fffff"', "style"),
    ],
)
def test_what_differs_between_local_runs_is_normalised(one, two, remote, rule):
    verdict = compare([_shown(one), _shown(two)], _shown(remote))
    assert (verdict.result, rule in verdict.rules) == ("same", True)


def test_no_rule_is_used_where_local_runs_agree():
    verdict = compare([_shown("at 0x7f01a2b3c4d5 in 3 ms")] * 2, _shown("at 0x7f01a2b3c4d6 in 3 ms"))
    assert (verdict.result, verdict.rules) == ("different", ())


def test_a_rule_hides_nothing_else():
    verdict = compare([_shown("1 in 3 ms"), _shown("1 in 4 ms")], _shown("2 in 4 ms"))
    assert verdict.result == "different"


def test_a_cell_whose_local_runs_differ_is_not_comparable_unless_the_remote_one_is_like_one_of_them():
    assert compare([_shown("heads"), _shown("tails")], _shown("edge")).result == "not comparable"
    assert compare([_shown("heads"), _shown("tails")], _shown("tails")).result == "same"


def _display(kind, name):
    return kind, {"data": {"text/plain": "x"}, "metadata": {}, "transient": {"display_id": name}}


def test_ids_are_told_apart_by_their_first_appearance_and_run_records_taken_out():
    record = ("display_data", {"data": {RECORD_MIME: {}, "text/plain": "local"}, "metadata": {}, "transient": {"display_id": "r"}})
    local = [Ran([_display("display_data", "aa"), _display("display_data", "bb")]), Ran([_display("update_display_data", "bb")])]
    same = [
        Ran([record, _display("display_data", "s-2"), _display("display_data", "s-1"), record]),
        Ran([_display("update_display_data", "s-1")]),
    ]
    crossed = [*same[:1], Ran([_display("update_display_data", "s-2")])]
    assert records(local) == records(same)
    assert records(local) != records(crossed)


def test_neighbouring_texts_of_one_stream_are_one():
    ran = Ran([("stream", {"name": "stdout", "text": "a"}), ("stream", {"name": "stdout", "text": "b"})], {"status": "ok"})
    assert records([ran]) == [[{"type": "stream", "name": "stdout", "text": "ab"}, {"type": "reply", "status": "ok"}]]


def test_a_picture_is_shown_by_its_digest():
    (title, mime, digest) = lines([{"type": "display_data", "data": {"image/png": "x" * 5000}}])
    assert (title, mime.strip()) == ("[display_data]", "image/png:")
    assert re.fullmatch(r" +5000 characters, sha256 [0-9a-f]{16}", digest)


def test_every_rule_and_every_explanation_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "fidelity.md").read_text(encoding="utf-8")
    assert [rule.name for rule in RULES if f"| {rule.name} |" not in page] == []
    assert [each.title for each in EXPLAINED if f"**{each.title}.**" not in page] == []


def test_only_the_order_of_the_two_streams_is_explained_by_it():
    out, error = _shown("a")[0], {"type": "stream", "name": "stderr", "text": "e"}
    local = [{**out, "text": "ab"}, error]
    kept = compare([local, local], [out, error, {**out, "text": "b"}])
    lost = compare([local, local], [out, error])
    assert explanation("x/y", "", kept) == "The two streams keep their order"
    assert explanation("x/y", "", lost) == ""


def test_messages_to_widgets_are_a_sequence_of_their_own():
    said = [
        ("comm_open", {"comm_id": "c", "data": {}}),
        ("stream", {"name": "stdout", "text": "a"}),
        ("comm_msg", {"comm_id": "c", "data": {"n": 1}}),
    ]
    assert records([Ran(said)]) == records([Ran([said[1], said[0], said[2]])])
    assert records([Ran(said)]) != records([Ran([said[2], said[1], said[0]])])


def test_a_picture_of_a_million_characters_takes_no_time():
    picture = [{"type": "display_data", "data": {"image/png": "ab12" * 250_000}}]
    start = time.perf_counter()
    assert compare([picture, picture], picture).result == "same"
    assert time.perf_counter() - start < 10
