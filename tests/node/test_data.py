"""The verb ``data``: what a node's data process says on its stdin and stdout."""

from __future__ import annotations

import os
import socket

import pytest
from tests.fakes.data import SESSION, DataNode, data_node
from tests.node.client import node as client_node

from remote_gpu.errors import BadFrame, RemoteGpuError, UnknownSession, UsageProblem, VersionMismatch
from remote_gpu.transfer.channel import Channel
from remote_gpu.transfer.frames import Op, Reader, StreamEnded, head_of, preamble, write_all


@pytest.fixture
def node(places):
    with data_node(places.base) as made:
        yield made


@pytest.fixture
def channel(node: DataNode):
    made = Channel(node.connect())
    yield made
    made.close()


def pair(*data: bytes) -> Reader:
    descriptor = os.memfd_create("stream")
    write_all(descriptor, b"".join(data))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return Reader(descriptor)


@pytest.mark.parametrize("noise", [b"", b"Welcome!\r\nYou have mail.\n", b"\0\0JR\0JR\0J", b"x" * 60_000])
def test_a_banner_before_the_preamble_is_skipped_and_kept(noise):
    reader = pair(noise, preamble(), head_of(Op.HELLO, {"a": 1}, 3), b"abc")
    reader.greet()
    assert reader.noise == noise
    message = reader.message()
    assert (message.op, message.meta, reader.exactly(message.size)) == (Op.HELLO, {"a": 1}, b"abc")
    assert reader.message() is None
    os.close(reader._descriptor)


def test_what_is_no_data_stream_is_refused():
    for data, kind in ((b"x" * 70_000, BadFrame), (b"bash: no such file\n", StreamEnded), (b"\0JRD\x09\x09\r\n", VersionMismatch)):
        reader = pair(data)
        with pytest.raises(kind):
            reader.greet()
        os.close(reader._descriptor)


@pytest.mark.parametrize("data", [head_of(Op.SYNC)[:9], head_of(Op.SYNC, {"a": 1})[:-1]])
def test_a_message_that_stops_in_the_middle_is_the_end_of_the_stream(data):
    reader = pair(data)
    with pytest.raises(StreamEnded):
        reader.message()
    os.close(reader._descriptor)


@pytest.mark.parametrize("text", [b"[1]", b"{", b"\xff"])
def test_a_description_that_is_no_json_object_is_refused(text):
    head = bytearray(head_of(Op.SYNC))
    head[4:8] = len(text).to_bytes(4, "big")
    reader = pair(bytes(head) + text)
    with pytest.raises(BadFrame):
        reader.message()
    os.close(reader._descriptor)


def test_the_node_says_who_it_is(node, channel):
    assert channel.cwd == str(node.cwd)
    assert channel.seed > 0
    assert os.uname().nodename


def test_a_session_that_does_not_run_is_named(places):
    with data_node(places.base) as node:
        (node.folder / "state.json").unlink()
        with pytest.raises(UnknownSession, match=SESSION):
            Channel(node.connect())
        assert node.processes[0].wait(10) == 3


def test_a_question_that_makes_no_sense_is_answered_and_the_stream_goes_on(channel):
    with pytest.raises(UsageProblem, match="not the address of a blob"):
        channel.ask(Op.HAVE, {"blobs": [["../x", 5]]}, Op.HAD)
    with pytest.raises(UsageProblem, match="There is no"):
        channel.ask(Op.LIST, {"path": "nothing", "must": True}, Op.LISTED)
    assert channel.ask(Op.HAVE, {"blobs": []}, Op.HAD).meta == {"have": []}


@pytest.mark.parametrize(
    ("op", "meta", "body"),
    [
        (Op.PUT, {"blob": "0" * 32, "size": 10, "offset": 5}, b"abc"),  # not where it goes on
        (Op.PUT, {"blob": "0" * 32, "size": 2, "offset": 0}, b"abc"),  # more than there is
        (Op.HELLO, {}, b""),
        (Op.HAVE, {}, b""),
        (Op.READ, {"files": 3}, b""),
    ],
)
def test_what_cannot_be_followed_ends_the_stream_with_the_reason(node, channel, op, meta, body):
    channel.send(op, meta, body)
    with pytest.raises(RemoteGpuError) as caught:
        channel.receive(Op.DONE)
    assert not isinstance(caught.value, StreamEnded)
    assert node.processes[0].wait(10) == 1


def test_the_process_ends_with_its_stream_and_leaves_nothing_in_memory(node, channel):
    channel.ask(Op.HAVE, {"blobs": []}, Op.HAD)
    channel.close()
    assert node.processes[0].wait(10) == 0


def test_nothing_but_the_protocol_reaches_the_stream(node):
    """What the process, or a library below it, prints on stdout goes to its stderr."""
    connection = node.connect()
    reader = Reader(connection.fileno())
    write_all(connection.fileno(), preamble())
    reader.greet()
    assert reader.noise == b""
    assert reader.message().op == Op.HELLO
    connection.shutdown(socket.SHUT_WR)
    assert reader.message() is None
    connection.close()


@pytest.mark.parametrize("asked", [None, "/no/such/folder"])
def test_a_session_works_in_a_folder_of_its_own_when_it_is_told_none_that_is_there(sessions, folder, asked):
    answer = sessions.start(cwd=asked)
    own = folder / "w" / answer["session"]
    assert answer["cwd"] == str(own)
    assert client_node(folder, "status", answer["session"])["cwd"] == str(own)
    assert own.stat().st_mode & 0o777 == 0o700
    if asked is not None:
        (own / "result").write_text("of the user")
    client_node(folder, "stop", answer["session"])
    assert own.exists() is (asked is not None)
