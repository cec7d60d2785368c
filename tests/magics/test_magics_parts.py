"""Small parts of the magics: signatures, pace, cursors, errors, the record."""

from __future__ import annotations

import json
import os
import stat
from types import SimpleNamespace

import pytest
from jupyter_client.session import Session

from remote_gpu.cursors import Cursor, CursorFile, newest_cursor
from remote_gpu.errors import GatewayUnavailable
from remote_gpu.execution import Execution, Outcome, Result
from remote_gpu.failures import plain, remote_error
from remote_gpu.messages import Signer, UnsignedMessage
from remote_gpu.pump import Pace
from remote_gpu.record import RECORD_MIME, duration, record_bundle


def test_jupyters_own_session_reads_our_messages_and_we_read_its():
    session = Session(key=b"k", signature_scheme="hmac-sha256")
    signer = Signer(b"k")
    frames = signer.pack("execute_request", {"code": "é"}, metadata={"a": 1}, buffers=[b"\0"], subshell="s")
    read = session.deserialize(session.feed_identities(frames)[1])
    assert (read["content"], read["metadata"], bytes(read["buffers"][0])) == ({"code": "é"}, {"a": 1}, b"\0")
    assert read["header"]["subshell_id"] == "s"
    made = [b"iopub.17", *session.serialize(session.msg("stream", {"name": "stdout", "text": "t"}, parent=read["header"]))]
    message = signer.unpack("iopub", made)
    assert (message.seq, message.msg_type, message.parent_id, message.content["text"]) == (17, "stream", read["msg_id"], "t")


@pytest.mark.parametrize("spoil", [lambda frames: frames[:3], lambda frames: [*frames[:-1], b'{"code": "other"}'], lambda _: [b"x"]])
def test_a_message_that_was_tampered_with_is_refused(spoil):
    signer = Signer(b"k")
    with pytest.raises(UnsignedMessage):
        signer.unpack("shell", spoil(signer.pack("execute_request", {"code": "1"})))


def test_text_for_a_browser_is_paced_and_other_text_is_not():
    free, limited = Pace(limited=False), Pace(limited=True, bytes_per_second=100, messages_per_second=1000)
    now = limited._then
    for pace in (free, limited):
        pace.spend(350)
    assert free.ready_at(now) == now
    assert limited.ready_at(now) == pytest.approx(now + 2)
    assert limited.ready_at(now + 2) == pytest.approx(now + 2)


def test_a_later_kernel_finds_what_an_earlier_one_had_seen(places):
    one, other = CursorFile("abc"), CursorFile("abd")
    one.write(Cursor("abc", "m1", 4, 9))
    other.write(Cursor("abd", "m2", 1, 1))
    one.close()
    other.close()
    assert newest_cursor("abc") == Cursor("abc", "m1", 4, 9)
    assert newest_cursor("ab") is None
    files = list(places.runtime.glob("remote-gpu-seen-*"))
    assert len(files) == 2
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    files[0].write_text(json.dumps({"half": 1})[:-1])
    assert newest_cursor("abc") in (None, Cursor("abc", "m1", 4, 9))


def test_a_remote_error_bears_its_name_and_is_caught_by_it():
    error = remote_error(Outcome(Result.ERROR, "KeyError", "'k'", ("line one", "line two")))
    assert type(error).__name__ == "KeyError"
    assert isinstance(error, KeyError)
    assert str(error) == "'k'"
    assert error._render_traceback_() == ["line one", "line two"]


@pytest.mark.parametrize(
    "name",
    ["OSError", "UnicodeDecodeError", "SyntaxError", "SystemExit", "ExceptionGroup", "torch.OutOfMemoryError", "KeyboardInterrupt", ""],
)
def test_an_error_of_any_name_can_be_raised(name):
    error = remote_error(Outcome(Result.ERROR, name, "text"))
    assert type(error).__name__ == (name.rpartition(".")[2] or "Error")
    assert not isinstance(error, (SyntaxError, SystemExit))
    assert str(error) == "text"


def test_our_own_errors_are_one_sentence():
    shown = "\n".join(plain(GatewayUnavailable("It is away.", hint="Start it."))._render_traceback_())
    assert "GatewayUnavailable" in shown
    assert shown.endswith("It is away.\nStart it.")


@pytest.mark.parametrize(
    ("outcome", "detached", "state"),
    [
        (None, False, "running"),
        (None, True, "detached"),
        (Outcome(Result.OK), False, "done"),
        (Outcome(Result.ERROR, "KeyboardInterrupt"), False, "interrupted"),
        (Outcome(Result.ERROR, "ValueError"), False, "failed"),
        (Outcome(Result.DIED), False, "lost"),
    ],
)
def test_the_record_says_how_the_cell_stands(outcome, detached, state):
    facts = {"cluster": "c", "node": "n", "gpu": "1 × H200"}
    run = SimpleNamespace(
        facts=facts,
        started=0.0,
        ended=None if outcome is None else 3.5,
        outcome=outcome,
        began=True,
        detached=detached,
        execution=Execution("m"),
    )
    bundle = record_bundle(run)
    assert bundle[RECORD_MIME]["state"] == state
    assert bundle["text/plain"].startswith("c · n · 1 × H200 · ")
    json.dumps(bundle)


@pytest.mark.parametrize(
    ("outcome", "more", "text"),
    [
        (None, {}, "local · vm · CPU only · running"),
        (None, {"began": False}, "local · vm · CPU only · waiting for its turn"),
        (None, {"detached": True}, "local · vm · CPU only · 2 lines · left running"),
        (Outcome(Result.OK), {}, "local · vm · CPU only · 2 lines · 1.9 s"),
        (Outcome(Result.OK), {"waited": 65.0}, "local · vm · CPU only · 2 lines · 1.9 s after 1 min 5 s of waiting"),
        (Outcome(Result.OK), {"missed": 3}, "local · vm · CPU only · 2 lines, not complete · 1.9 s"),
        (Outcome(Result.ERROR, "ValueError"), {}, "local · vm · CPU only · 2 lines · failed after 1.9 s"),
        (Outcome(Result.ERROR, "KeyboardInterrupt"), {}, "local · vm · CPU only · 2 lines · interrupted after 1.9 s"),
        (Outcome(Result.DIED), {}, "local · vm · CPU only · 2 lines, not complete · lost after 1.9 s"),
    ],
)
def test_the_records_text_is_a_line_that_people_read(outcome, more, text):
    facts = {"cluster": "local", "node": "vm", "gpu": "CPU only", "queued_s": more.get("waited")}
    execution = Execution("m", lines=2, missed=more.get("missed", 1 if "not complete" in text else 0))
    ended = None if outcome is None else 101.9
    run = SimpleNamespace(
        facts=facts,
        started=100.0,
        ended=ended,
        outcome=outcome,
        began=more.get("began", True),
        detached=more.get("detached", False),
        execution=execution,
    )
    assert record_bundle(run)["text/plain"] == text


@pytest.mark.parametrize(("seconds", "text"), [(0.24, "0.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_a_kernel_that_is_gone_is_noticed():
    from remote_gpu.sessions import process_lives

    assert process_lives(os.getpid())
    assert not process_lives(2**22 - 3)
