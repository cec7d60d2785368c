"""When a supervisor's acknowledgements leave: with what it says next, or alone after a moment."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.client import Client, wait_for

from remote_gpu.frames import Frame, FrameReader, Kind, Lane, Message, pack_message
from remote_gpu.node.attachments import Attachment
from remote_gpu.node.connection import Connection
from remote_gpu.node.journal import Journal

OUTPUT = pack_message(Message([], [b"{}"] * 4))


class Ends:
    """A connection with one attachment, and the gateway's end of it."""

    def __init__(self, folder: Path) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.reader = FrameReader()
        self.connection = Connection(ours)
        self.journal = Journal(folder / "j")
        self.attachment = Attachment("client", self.journal)
        self.attachment.open(self.connection, 1, {"epoch": 1, "role": "owner", "after": 0})

    def kinds(self) -> list[Kind]:
        """What the connection writes now."""
        assert self.connection.write()
        try:
            return [frame.kind for frame in self.reader.feed(self.peer.recv(1 << 20))]
        except BlockingIOError:
            return []


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    assert made.kinds() == []
    yield made
    made.journal.close()
    made.connection.peer.close()
    made.peer.close()


def test_an_acknowledgement_travels_with_the_first_output_and_not_ahead_of_it(ends: Ends) -> None:
    assert ends.attachment.take(Lane.SHELL, 1)
    assert ends.kinds() == []
    ends.journal.append(Lane.IOPUB, OUTPUT)
    assert ends.kinds() == [Kind.DATA, Kind.ACK]
    assert ends.connection.due == math.inf


def test_an_acknowledgement_that_nothing_comes_along_with_leaves_alone_when_it_is_due(ends: Ends) -> None:
    ends.attachment.take(Lane.SHELL, 1)
    assert ends.kinds() == []
    assert ends.connection.due < time.monotonic() + 1
    assert not ends.connection.waiting
    assert wait_for(ends.kinds) == [Kind.ACK]
    assert ends.kinds() == []


def test_a_session_that_is_idle_answers_the_last_acknowledgement_and_one_that_is_busy_none(client: Client) -> None:
    client.run("print(1)")
    client.stream.until(lambda: Frame(Kind.PONG) in client.stream.frames)
    busy = client.execute("print(2, flush=True)\ninput()")
    client.stream.until(lambda: client.text(busy) == "2\n" and any(got.lane is Lane.STDIN for got in client.got))
    client.stream.frames.clear()
    client.stream.send(
        Frame(Kind.ACK, Lane.IOPUB, 1, max(got.number for got in client.got if got.lane is Lane.IOPUB)), Frame(Kind.PING, number=7)
    )
    client.stream.until(lambda: Frame(Kind.PONG, number=7) in client.stream.frames)
    assert Frame(Kind.PONG) not in client.stream.frames
