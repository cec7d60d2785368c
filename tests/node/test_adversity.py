"""What a session does when its disk is full, its folder is cleaned up, or a gateway is only half there."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from tests.node.client import Client, node, wait_for
from tests.node.conftest import Sessions

from remote_gpu.frames import Frame, Kind
from remote_gpu.node.connection import GIVE_UP_AFTER, PING_AFTER, Connection
from remote_gpu.node.journal import Journal
from remote_gpu.node.pump import pump

PRLIMIT = getattr(resource, "prlimit", None)


@pytest.mark.skipif(PRLIMIT is None, reason="only Linux can take a file size away from another process")
def test_a_disk_that_is_full_is_told_in_the_cell_and_the_session_goes_on(client: Client, session: dict[str, Any]) -> None:
    assert PRLIMIT is not None
    client.run("1")  # the kernel has started: it is this cell that meets the full disk
    PRLIMIT(session["pid"], resource.RLIMIT_FSIZE, (2000, 2000))
    cell = client.execute("for n in range(20_000): print(n)\nimport time; time.sleep(0.5)")
    assert client.finish(cell)["status"] == "ok"
    assert client.text(cell).split() == [str(n) for n in range(20_000)]
    told = client.text(cell, "stderr")
    assert told.count("cannot be written") == 1
    assert session["folder"] in told
    assert not client.stream.call("status")["journal"]["on_disk"]
    assert not list((Path(session["folder"]) / "journal").iterdir())
    assert client.run("1")["status"] == "ok"


def test_a_session_whose_folder_was_cleaned_up_is_found_again_and_loses_nothing(
    sessions: Sessions, session: dict[str, Any], folder: Path
) -> None:
    client = sessions.client(session)
    client.run("kept = 7; print('x' * 5_000_000)")
    shutil.rmtree(session["folder"])
    wait_for((Path(session["folder"]) / "state.json").exists)
    assert session["session"] in [each["session"] for each in node(folder, "list")["sessions"]]
    other = sessions.client(session, "client02", after=None)
    cell = other.execute("print(kept)")
    other.finish(cell)
    assert other.text(cell) == "7\n"
    late = sessions.client(session, "client03", after=0)
    assert late.stream.frame(Kind.GAP)["first"] == 1
    client.stream.call("restart")
    assert client.run("1")["status"] == "ok"


def test_a_journal_whose_files_vanish_names_the_gap_and_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", tail=1000)
    from remote_gpu.frames import Lane

    for n in range(100):
        journal.append(Lane.IOPUB, b"%d" % n * 50)
    journal.flush()
    shutil.rmtree(tmp_path / "j")
    assert journal.get(1) is None
    assert not journal.on_disk
    assert journal.get(journal.append(Lane.IOPUB, b"new")) is not None
    journal.close(delete=True)


def test_a_gateway_that_says_nothing_is_pinged_and_then_given_up() -> None:
    here, there = socket.socketpair()
    with here, there:
        connection = Connection(here)
        now = time.monotonic()
        assert connection.keep_alive(now + PING_AFTER + 1)
        assert connection.write()
        assert connection.keep_alive(now + GIVE_UP_AFTER - 1)
        assert not connection.keep_alive(now + GIVE_UP_AFTER + 1)


def test_a_gateway_that_speaks_but_takes_nothing_is_given_up() -> None:
    here, there = socket.socketpair()
    with here, there:
        connection = Connection(here)
        for number in range(10_000):
            connection.send(Frame(Kind.PONG, number=number))
        assert not connection.keep_alive(time.monotonic())


def test_the_attach_command_ends_when_its_gateway_is_silent() -> None:
    here, there = socket.socketpair()
    reading, writing = os.pipe()
    with here, there, open(writing, "wb"), open(reading, "rb"):
        out = os.open(os.devnull, os.O_WRONLY)
        pump(here.fileno(), reading, out, silence=0.05)
        os.close(out)
