"""Data that travel compressed: when that pays, what arrives, and what a hostile node may not do with it."""

from __future__ import annotations

import os
import time
import zlib

import pytest
from tests.fakes.data import DataNode, blob_messages, content, data_node

from remote_gpu.errors import BadFrame
from remote_gpu.node import blobs
from remote_gpu.transfer.frames import Op, Reader
from remote_gpu.transfer.packed import fill_block
from remote_gpu.transfer.packing import Packing

MB = 1 << 20


@pytest.fixture
def node(places):
    with data_node(places.base) as made:
        yield made


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowChannel:
    """Takes all at once and brings `speed` bytes a second to the node; it notes what was packed."""

    pause = 0.0

    def __init__(self, clock: Clock, speed: float) -> None:
        self.clock, self.speed, self.sent, self.marks, self.there = clock, speed, [], [], 0.0

    def send(self, op, meta, body=b"", *, packed=False, told=None) -> None:
        self.there = max(self.there, self.clock.now) + len(body) / self.speed
        self.sent.append((len(body), packed))
        if told is not None:
            told(len(body), len(body))

    def mark(self, began, told) -> None:
        self.marks.append((self.there, began, told))

    def listen(self, *, wait=False) -> None:
        while self.marks and (wait or self.marks[0][0] <= self.clock.now):
            there, began, told = self.marks.pop(0)
            self.clock.now = max(self.clock.now, there)
            told(there - began)
            wait = False


@pytest.mark.parametrize(("speed", "shrinks", "packs"), [(1e6, True, True), (1e6, False, False), (3e9, True, False)])
def test_only_data_that_shrinks_is_packed_and_only_on_a_slow_stream(speed, shrinks, packs):
    clock = Clock()
    channel = SlowChannel(clock, speed)
    data = memoryview(bytes(40 * MB)) if shrinks else content(40 * MB)
    told: list[int] = []
    Packing(clock).send(channel, "d", data, 0, told.append)
    assert channel.sent[0][1] is False
    assert any(packed for _, packed in channel.sent) is packs
    assert told == sorted(told)
    assert told[-1] == 40 * MB
    assert (sum(size for size, _ in channel.sent) < 20 * MB) is packs


def test_a_slow_stream_is_known_as_one_although_all_that_is_sent_leaves_at_once():
    clock = Clock()
    channel, packing = SlowChannel(clock, 10e6), Packing(clock)
    packing.send(channel, "d", content(40 * MB), 0, lambda _: None)
    channel.listen(wait=True)
    assert packing.speed == pytest.approx(10e6, rel=0.01)


def test_a_round_trip_is_no_sign_of_slowness():
    packing = Packing()
    packing._learn(MB, 0.2, 0.1)
    assert packing.speed == pytest.approx(10 * MB)


def test_marks_are_answered_once_what_was_before_them_is_there(node):
    channel = node.transfers.attempts(lambda channel: channel)
    seconds: list[float] = []
    for _ in range(3):
        channel.mark(time.monotonic(), seconds.append)
    channel.listen(wait=True)
    assert seconds
    channel.ask(Op.SYNC, {}, Op.DONE)  # what is not listened to comes before the next answer
    assert len(seconds) == 3
    assert all(each >= 0 for each in seconds)
    assert channel.pause > 0


def test_packed_parts_arrive_as_they_were(node):
    data = memoryview(bytes(range(256)) * (20 * MB // 256))
    node.transfers._packing.speed = 1e6
    node.transfers._packing._learn = lambda *_: None
    sent = blob_messages(node)
    (digest,) = node.transfers.put_missing([data])
    assert bytes(blobs.mapped(digest, len(data))) == data
    assert sum(sent) < len(data) // 10


# what comes back


def receptions(node: DataNode) -> list[int]:
    """What came for each piece of an object from now on."""
    came: list[int] = []
    channel = node.transfers.attempts(lambda channel: channel)
    fill = channel.fill

    def noted(view, *, packed=False):
        came.append(fill(view, packed=packed))
        return came[-1]

    channel.fill = noted
    return came


@pytest.mark.parametrize(("speed", "shrinks", "packs"), [(1e6, True, True), (1e6, False, False), (3e9, True, False), (0.0, True, False)])
def test_an_object_comes_back_packed_where_that_pays(node, speed, shrinks, packs):
    data = memoryview(bytes(range(256)) * (5 * MB // 256 + 1))[: 5 * MB + 7] if shrinks else content(5 * MB + 7)
    node.serve(lambda wanted: ({}, b"head", [data, memoryview(b""), memoryview(b"tail")]))
    node.transfers._speed = speed
    came = receptions(node)
    fetched = node.transfers.fetch(1)
    assert [bytes(fetched.head), *(bytes(buffer) for buffer in fetched.buffers)] == [b"head", bytes(data), b"", b"tail"]
    assert (sum(came) < len(data) // 2) is packs


def test_a_packed_fetch_that_is_cut_goes_on(node):
    data = memoryview(bytes(range(256)) * (40 * MB // 256))
    node.serve(lambda wanted: ({}, b"head", [data]))
    node.transfers._speed = 1e6
    cuts = [10 * MB, 20 * MB]

    def told(done: int, _: int) -> None:
        if cuts and done > cuts[0]:
            cuts.pop(0)
            node.cut()

    assert node.transfers.fetch(1, told).buffers[0] == data
    assert not cuts


def block(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "body",
    [
        block(zlib.compress(bytes(1000))),
        block(zlib.compress(bytes(998))),
        block(zlib.compress(bytes(1 << 24))),
        block(zlib.compress(bytes(999)) + b"more"),
        block(b"no zlib"),
        block(b""),
        (1 << 31).to_bytes(4, "big"),
    ],
    ids=["longer", "shorter", "bomb", "more behind it", "damaged", "nothing", "huge"],
)
def test_a_block_that_is_not_what_it_should_be_is_refused(body):
    ours, theirs = os.pipe()
    os.write(theirs, body)
    os.close(theirs)
    try:
        with pytest.raises(BadFrame):
            fill_block(Reader(ours), memoryview(bytearray(999)))
    finally:
        os.close(ours)
