"""Two translators back to back: whatever goes in on one side comes out on the other, in both directions at once."""

from __future__ import annotations

import os
import random
import socket
import threading
from pathlib import Path

import pytest

from remote_gpu.errors import BadFrame
from remote_gpu.node.pieces import AHEAD, INLINE, PIECE, Pieces
from remote_gpu.node.spool import LOGIN, NODE, Spool
from remote_gpu.transfer.frames import Op, Reader, head_of


class Ends:
    """Both ends of a relay, with a pair of sockets for the step; `left` and `right` are what a notebook and a data process hold."""

    def __init__(self, scratch: Path) -> None:
        login = Spool.make(scratch)
        node = Spool(login.path, NODE)
        self.spools = login, node
        self.folder = login.path
        link = socket.socketpair()
        self.left, mine = socket.socketpair()
        self.right, theirs = socket.socketpair()
        self.pieces = []
        for step, spool, side in zip(link, self.spools, (mine, theirs), strict=True):
            descriptor = step.detach()
            reads, writes = os.dup(side.fileno()), side.detach()
            self.pieces.append(Pieces(Reader(descriptor), descriptor, spool, reads, writes))
        self._links = [pieces._out for pieces in self.pieces]
        for pieces in self.pieces:
            pieces.start()

    def close(self) -> None:
        for side in (self.left, self.right):
            side.close()
        for pieces in self.pieces:
            for thread in (*pieces.sent, pieces.received[1]):
                thread.join(20)
                assert not thread.is_alive(), thread
        for link in self._links:
            with socket.socket(fileno=link) as step:
                step.shutdown(socket.SHUT_RDWR)
                for pieces in self.pieces:
                    if pieces._out == link:
                        pieces.received[0].join(20)
                        assert not pieces.received[0].is_alive()
        self.spools[0].remove()
        for spool in self.spools:
            spool.close()


@pytest.fixture
def ends(tmp_path):
    made = Ends(tmp_path)
    yield made
    made.close()


def write(side: socket.socket, data: bytes, chances: random.Random) -> None:
    """In portions of all sizes, with a pause now and then."""
    view = memoryview(data)
    while view:
        count = chances.choice((1, 100, 5000, INLINE, INLINE + 1, 1 << 20, 3 << 20))
        side.sendall(view[:count])
        view = view[count:]
        if chances.random() < 0.1:
            threading.Event().wait(0.005)
    side.shutdown(socket.SHUT_WR)


def read(side: socket.socket, into: bytearray) -> None:
    while data := side.recv(1 << 20):
        into += data


@pytest.mark.parametrize("seed", range(4))
def test_both_directions_carry_everything_in_order_at_once(ends, seed):
    chances = random.Random(seed)
    sent = [chances.randbytes(chances.choice((0, 1, INLINE, INLINE + 1, PIECE + 1, 25 << 20))) for _ in range(2)]
    came = [bytearray(), bytearray()]
    work = [
        threading.Thread(target=write, args=(side, data, random.Random(seed)))
        for side, data in zip((ends.left, ends.right), sent, strict=True)
    ]
    work += [threading.Thread(target=read, args=(side, into)) for side, into in zip((ends.right, ends.left), came, strict=True)]
    for one in work:
        one.start()
    for one in work:
        one.join(60)
        assert not one.is_alive()
    assert [bytes(into) for into in came] == sent
    assert [path.name for path in ends.folder.iterdir()] == ["l0"]
    assert [pieces.problem for pieces in ends.pieces] == ["", ""]


def test_what_is_asked_behind_a_large_answer_that_nobody_reads_yet_waits_and_stops_nothing(ends):
    """One direction is full; the other one, and what tells how far it is, go on."""
    size = (AHEAD + 3) * PIECE
    writer = threading.Thread(target=lambda: ends.right.sendall(bytes(size)))
    writer.start()
    for number in range(30):
        ends.left.sendall(bytes([number]) * 300_000)
        came = bytearray()
        while len(came) < 300_000:
            came += ends.right.recv(300_000 - len(came))
        assert came == bytes([number]) * 300_000
    left = size
    while left:
        left -= len(ends.left.recv(1 << 20))
    writer.join(10)
    assert not writer.is_alive()


def test_a_small_thing_is_not_held_back(ends):
    for _ in range(20):
        ends.left.sendall(b"ask")
        assert ends.right.recv(10) == b"ask"
        ends.right.sendall(b"answer")
        assert ends.left.recv(10) == b"answer"
    assert [path.name for path in ends.folder.iterdir()] == ["l0"]


def test_that_a_question_was_taken_is_told_with_the_answer(tmp_path):
    """`srun` would hold the answer back until a message before it has been acknowledged."""
    spool = Spool.make(tmp_path)
    (step, link), (notebook, mine) = socket.socketpair(), socket.socketpair()
    descriptor = link.detach()
    pieces = Pieces(Reader(descriptor), descriptor, spool, os.dup(mine.fileno()), mine.detach())
    pieces.start()
    try:
        for _ in range(3):
            step.sendall(head_of(Op.BYTES, {}, 8) + b"question")
            assert notebook.recv(8) == b"question"
            notebook.sendall(b"answer")
            assert step.recv(1000) == head_of(Op.TAKEN, {"count": 1}) + head_of(Op.BYTES, None, 6) + b"answer"
            step.sendall(head_of(Op.TAKEN, {"count": 1}))
        step.sendall(head_of(Op.BYTES, {}, 8) + b"question")
        assert step.recv(1000) == head_of(Op.TAKEN, {"count": 1}), "without an answer it is told all the same"
    finally:
        step.close()
        notebook.close()
        for thread in (*pieces.sent, *pieces.received):
            thread.join(20)
        os.close(descriptor)
        spool.remove()
        spool.close()
    assert not pieces.problem


def test_a_folder_is_looked_into_by_number_only(tmp_path):
    spool = Spool.make(tmp_path)
    other = Spool(spool.path, NODE)
    other.write(3, memoryview(b"abc"))
    with pytest.raises(FileExistsError):
        other.write(3, memoryview(b"again"))
    assert spool.read(3, 3) == b"abc"
    spool.used(3)
    assert not (spool.path / "n3").exists()
    (spool.path / "n4").symlink_to("/etc/hostname")
    with pytest.raises(BadFrame, match="not a plain file"):
        spool.open(4, 1)
    with pytest.raises(FileExistsError):
        Spool(spool.path, NODE).write(4, memoryview(b"x"))
    assert spool._writes == LOGIN
    spool.remove()
    assert not spool.path.exists()
    assert head_of(Op.TAKEN)[0] == 22
    for each in (spool, other):
        each.close()
