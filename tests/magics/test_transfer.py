"""Arrays to a node and back through the real data process: what is sent, what is not, and what a cut does."""

from __future__ import annotations

import os
import random
import sys
import threading
import time

import pytest
from tests.fakes.data import blob_messages, content, data_node

from remote_gpu.errors import BadFrame, KernelDied, LinkProblem, NoRoom, RemoteGpuError, SessionEnded, UnknownSession
from remote_gpu.node import blobs
from remote_gpu.transfer import channel as channel_module
from remote_gpu.transfer.addresses import Rolling, address
from remote_gpu.transfer.frames import Op
from remote_gpu.transfer.transfers import Transfers

MB = 1 << 20


@pytest.fixture
def node(places):
    with data_node(places.base) as made:
        yield made


def test_what_is_sent_is_what_the_node_maps(node):
    views = [content(size, size) for size in (0, 1, 65_537, 2 * MB, 5 * MB + 3)]
    digests = node.transfers.put_missing(views)
    assert [bytes(blobs.mapped(digest, len(view))) for digest, view in zip(digests, views, strict=True)] == [bytes(view) for view in views]
    assert digests == [node.transfers.address(view) for view in views]


def test_only_what_the_node_lacks_is_sent(node):
    first, second = content(MB, 1), content(MB, 2)
    sent = blob_messages(node)
    node.transfers.put_missing([first])
    node.transfers.put_missing([first, second, first])
    node.transfers.put_missing([second])
    assert sent == [MB, MB]


def test_another_session_of_the_node_does_not_send_it_again(node):
    first = content(MB)
    node.transfers.put_missing([first])
    other = Transfers(node.connect)
    try:
        seen: list[tuple[int, int]] = []
        other.put_missing([first], lambda done, total: seen.append((done, total)))
        assert seen == [(MB, MB)]  # nothing moved
    finally:
        other.close()


def test_the_address_depends_on_every_byte_and_on_the_stores_secret():
    large = bytearray(70 * MB)
    before = address(memoryview(large), 7)
    for place in (0, 33 * MB, 70 * MB - 1):
        large[place] ^= 1
        assert address(memoryview(large), 7) != before
        large[place] ^= 1
    assert address(memoryview(large), 7) == before != address(memoryview(large), 8)


@pytest.mark.parametrize("size", [32 * MB + 1, 64 * MB, 70 * MB])
def test_an_address_that_is_computed_while_sending_is_the_same(size):
    view = memoryview(os.urandom(MB) * 71)[:size]
    rolling = Rolling(view, 5)
    for end in (1, 5 * MB, 33 * MB if size > 33 * MB else 32 * MB, size):
        rolling.sent(end)
    assert rolling.address() == address(view, 5)


def test_a_large_new_view_is_found_by_its_address_afterwards(node):
    views = [memoryview(os.urandom(MB) * 40), memoryview(os.urandom(MB) * 41), memoryview(os.urandom(MB) * 41)]
    digests = node.transfers.put_missing(views)
    assert digests == [node.transfers.address(view) for view in views]
    assert all(bytes(blobs.mapped(digest, len(view))) == view for digest, view in zip(digests, views, strict=True))
    sent = blob_messages(node)
    assert node.transfers.put_missing(views[::-1]) == digests[::-1]
    assert sent == []


def test_a_stream_that_died_in_the_meantime_is_replaced_before_the_first_question(node):
    node.transfers.put_missing([content(10)])
    node.kill()
    view = memoryview(os.urandom(MB) * 40)
    (digest,) = node.transfers.put_missing([view])
    assert bytes(blobs.mapped(digest, len(view))) == view


def test_progress_rises_to_the_whole(node):
    seen: list[tuple[int, int]] = []
    node.transfers.put_missing([content(3 * MB), content(2 * MB, 2)], lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (5 * MB, 5 * MB)
    assert len(seen) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_transfer_that_is_cut_again_and_again_arrives_whole(node, seed):
    dice = random.Random(seed)
    view = memoryview(bytes(dice.randbytes(MB)) * 200)
    cuts = sorted(dice.randrange(1, len(view)) for _ in range(4))
    killed = len(cuts)

    def told(done: int, _: int) -> None:
        if cuts and done > cuts[0]:
            cuts.pop(0)
            node.kill()

    (digest,) = node.transfers.put_missing([view], told)
    assert bytes(blobs.mapped(digest, len(view))) == view
    assert 2 <= len(node.processes) <= killed + 1


def test_after_a_cut_what_is_there_is_not_sent_again(node):
    view = memoryview(bytes(random.Random(1).randbytes(MB)) * 100)

    class Stop(Exception):
        pass

    def told(done: int, _: int) -> None:
        if done > 80 * MB:
            raise Stop

    with pytest.raises(Stop):
        node.transfers.put_missing([view], told)
    node.processes[-1].wait(10)
    sent = blob_messages(node)
    node.transfers.put_missing([view])
    assert sum(sent) == 36 * MB  # two windows of 32 MiB are there


def test_an_interrupt_in_the_middle_leaves_the_next_transfer_whole(node):
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        node.transfers.put_missing([content(3 * MB)], interrupt)
    (digest,) = node.transfers.put_missing([content(3 * MB)])
    assert bytes(blobs.mapped(digest, 3 * MB)) == content(3 * MB)


def test_an_object_that_is_too_large_is_refused_before_a_byte_of_it_is_sent(node, monkeypatch):
    sent = blob_messages(node)
    size = 1 << 50

    class Huge:
        def __len__(self) -> int:
            return size

    monkeypatch.setattr("remote_gpu.transfer.sending.address", lambda *_: "0" * 32)
    with pytest.raises(NoRoom, match=r"The node has no room: 1126 TB are to be sent, and it can take .* on disk"):
        node.transfers.put_missing([Huge()])
    assert sent == []
    monkeypatch.undo()
    node.transfers.put_missing([content(10)])  # the stream is as it was
    assert len(node.processes) == 1


def test_a_session_that_is_over_is_said_so(node):
    node.transfers.put_missing([content(10)])
    (node.folder / "state.json").unlink()
    with pytest.raises(SessionEnded):
        node.transfers.put_missing([content(20)])
    node.transfers.close()
    with pytest.raises(UnknownSession, match="does not run on"):
        node.transfers.put_missing([content(20)])


def test_a_stream_that_cannot_be_had_is_given_up_after_some_attempts(monkeypatch):
    monkeypatch.setattr("remote_gpu.transfer.transfers._DELAYS", (0.0, 0.0))
    asked = []

    def connect():
        asked.append(1)
        raise LinkProblem("No route to the node.")

    with pytest.raises(LinkProblem, match="No route"):
        Transfers(connect).put_missing([content(10)])
    assert len(asked) == 2


# what comes back


def test_an_object_comes_into_memory_that_can_be_written_to(node):
    data = content(5 * MB)
    node.serve(lambda wanted: ({"x": {"kind": "value", "id": wanted}}, b"the head", [data, memoryview(b""), memoryview(b"tail")]))
    fetched = node.transfers.fetch(17)
    assert fetched.entries == {"x": {"kind": "value", "id": 17}}
    assert bytes(fetched.head) == b"the head"
    assert [bytes(buffer) for buffer in fetched.buffers] == [bytes(data), b"", b"tail"]
    fetched.buffers[0][0] = 1
    assert node.transfers.fetch(18).entries["x"]["id"] == 18
    assert len(node.processes) == 1


@pytest.mark.parametrize("numpy", [True, False])
def test_fresh_memory_needs_no_numpy(monkeypatch, numpy):
    if not numpy:
        monkeypatch.delitem(sys.modules, "numpy", raising=False)
    else:
        pytest.importorskip("numpy")
    for size in (0, 1, 5000, 3 * MB):
        (view,) = channel_module.fresh([size])
        view[:] = bytes(size)
        assert (len(view), view.readonly) == (size, False)


def test_what_does_not_fit_here_is_refused_and_the_stream_is_opened_anew(node, monkeypatch):
    node.serve(lambda wanted: ({}, b"", [content(MB)]))
    monkeypatch.setattr(channel_module, "memory_left", lambda: 1000)
    with pytest.raises(NoRoom, match=r"1\.0 MB are to come, and this machine has 1\.0 KB"):
        node.transfers.fetch(1)
    monkeypatch.undo()
    assert len(node.transfers.fetch(1).buffers[0]) == MB


@pytest.mark.parametrize("ran", [False, True])
def test_a_fetch_that_is_cut_goes_on_unless_a_cell_ran_meanwhile(node, ran):
    state = {"generation": 1, "data": bytearray(content(40 * MB)), "encoded": 0}

    def encode(_):
        state["encoded"] += 1
        return {}, b"head", [memoryview(state["data"])]

    node.serve(encode, lambda: state["generation"])
    cuts = [20 * MB]

    def told(done: int, _: int) -> None:
        if cuts and done > cuts[0]:
            cuts.pop(0)
            node.cut()
            if ran:
                state["generation"] += 1
                state["data"] = bytearray(content(40 * MB, 2))

    fetched = node.transfers.fetch(1, told)
    assert fetched.buffers[0] == state["data"]
    assert state["encoded"] == (2 if ran else 1)
    assert len(node.processes) == 2


def test_what_was_fetched_is_let_go_on_the_node(node):
    server = node.serve(lambda wanted: ({}, b"", [content(MB)]))
    node.transfers.fetch(1)
    deadline = time.monotonic() + 10
    while server._kept and time.monotonic() < deadline:
        os.sched_yield()
    assert not server._kept


def test_an_object_that_cannot_be_encoded_says_why(node):
    def encode(wanted):
        if wanted == 1:
            raise ZeroDivisionError("of the user's own")
        raise RemoteGpuError("There is no handle 2.")

    node.serve(encode)
    with pytest.raises(RemoteGpuError, match="could not be encoded on the node: ZeroDivisionError: of the user's own"):
        node.transfers.fetch(1)
    with pytest.raises(RemoteGpuError, match="no handle 2"):
        node.transfers.fetch(2)
    assert len(node.processes) == 1


def test_without_a_kernel_a_fetch_says_so(node):
    with pytest.raises(KernelDied, match="does not give its objects out"):
        node.transfers.fetch(1)


def test_the_newest_incarnation_of_a_kernel_answers(node):
    (node.folder / "d1").touch()  # what a killed kernel left
    server = node.serve(lambda wanted: ({"who": "new"}, b"", []))
    assert node.transfers.fetch(1).entries == {"who": "new"}
    server.close()
    with pytest.raises(KernelDied):
        node.transfers.fetch(1)


def test_a_slow_object_keeps_the_stream_alive(node, monkeypatch):
    gate = threading.Event()

    def encode(_):
        gate.wait(20)
        return {}, b"late", []

    node.serve(encode)
    node.transfers.put_missing([content(10)])
    channel = node.transfers.attempts(lambda channel: channel)
    message = channel._reader.message
    seen = []

    def noted():
        found = message()
        seen.append(found.op)
        gate.set()
        return found

    channel._reader.message = noted
    assert bytes(node.transfers.fetch(1).head) == b"late"
    assert seen == [Op.WAIT, Op.PARCEL]


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"sizes": [], "offset": 0},
        {"sizes": [-1], "offset": 0},
        {"sizes": ["x"]},
        {"sizes": [3], "offset": 7},
        {"sizes": [3], "offset": 0},
    ],
)
def test_a_node_that_lies_about_sizes_is_refused(node, meta, monkeypatch):
    monkeypatch.setattr("remote_gpu.transfer.transfers._DELAYS", ())
    channel = node.transfers.attempts(lambda channel: channel)
    channel.ask = lambda *_: channel_module.Message(Op.PARCEL, meta, 5)
    with pytest.raises(BadFrame):
        node.transfers.fetch(1)
