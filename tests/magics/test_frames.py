"""Frames and messages survive any cutting of the bytes, noise before the preamble, and interleaving of lanes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_gpu.errors import BadFrame, VersionMismatch
from remote_gpu.frames import (
    PIECE,
    PROTOCOL,
    Assembler,
    Frame,
    FrameReader,
    Kind,
    Lane,
    Message,
    data_frames,
    encode,
    encode_json,
    join,
    pack_message,
    preamble,
    unpack_message,
)

FRAMES = st.builds(
    Frame,
    st.sampled_from(list(Kind)),
    st.sampled_from(list(Lane)),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
    st.booleans(),
)
MESSAGES = st.builds(Message, st.lists(st.binary(max_size=20), max_size=3), st.lists(st.binary(max_size=200), max_size=8))


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(0, 5000), max_size=20))
def test_any_cutting_of_the_bytes_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    reader, found = FrameReader(), []
    for chunk in chunks(preamble() + join(frames), cuts):
        found += reader.feed(chunk)
    assert found == frames
    assert reader.version == PROTOCOL


@given(
    st.binary(max_size=2000).filter(lambda noise: b"\0" not in noise),
    st.lists(FRAMES, max_size=3),
    st.lists(st.integers(0, 3000), max_size=8),
)
def test_what_a_login_shell_prints_first_is_skipped(noise: bytes, frames: list[Frame], cuts: list[int]) -> None:
    reader, found = FrameReader(), []
    for chunk in chunks(noise + preamble() + join(frames), cuts):
        found += reader.feed(chunk)
    assert found == frames


def test_noise_is_kept_for_the_error_message_and_bounded() -> None:
    reader = FrameReader()
    assert reader.feed(b"bash: python: command not found\n") == []
    assert reader.noise() == "bash: python: command not found"
    with pytest.raises(BadFrame, match="command not found"):
        reader.feed(b"x" * 70_000)


@given(MESSAGES)
def test_a_message_survives_packing(message: Message) -> None:
    assert unpack_message(pack_message(message)) == message


@settings(max_examples=10, deadline=None)
@given(st.integers(PIECE - 200, 3 * PIECE + 5), st.integers(0, 3))
def test_a_large_message_travels_in_pieces_of_bounded_size(size: int, identities: int) -> None:
    message = Message([b"id"] * identities, [b"{}", memoryview(bytes(range(256)) * (size // 256 + 1))[:size]])
    body = pack_message(message)
    pieces = list(data_frames(Lane.SHELL, 3, 9, body))
    assert all(len(piece.payload) <= PIECE for piece in pieces)
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assembler = Assembler()
    joined = [assembler.feed(piece) for piece in pieces]
    assert joined == [None] * (len(pieces) - 1) + [body]
    found = unpack_message(body)
    assert ([bytes(part) for part in found.parts], found.identities) == ([bytes(part) for part in message.parts], message.identities)


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(list(Lane)), st.lists(st.binary(max_size=9), min_size=1, max_size=5)), max_size=8
    ),
    st.randoms(use_true_random=False),
)
def test_pieces_of_several_lanes_and_attachments_may_be_mixed(messages: list, random) -> None:
    queues: dict[tuple[int, Lane], list[Frame]] = {}
    expected: dict[tuple[int, Lane], list[bytes]] = {}
    for attachment, lane, pieces in messages:
        frames = [Frame(Kind.DATA, lane, attachment, 1, piece, True) for piece in pieces[:-1]]
        queues.setdefault((attachment, lane), []).extend([*frames, Frame(Kind.DATA, lane, attachment, 1, pieces[-1], False)])
        expected.setdefault((attachment, lane), []).append(b"".join(pieces))
    assembler, found = Assembler(), {key: [] for key in expected}
    while any(queues.values()):
        key = random.choice([key for key, queue in queues.items() if queue])
        body = assembler.feed(queues[key].pop(0))
        if body is not None:
            found[key].append(body)
    assert found == expected


def test_an_unfinished_message_is_forgotten_when_asked() -> None:
    assembler = Assembler()
    for attachment in (1, 2):
        assembler.feed(Frame(Kind.DATA, Lane.SHELL, attachment, 1, b"half", True))
    assembler.clear(1)
    assert assembler.feed(Frame(Kind.DATA, Lane.SHELL, 1, 1, b"whole")) == b"whole"
    assert assembler.feed(Frame(Kind.DATA, Lane.SHELL, 2, 1, b"+half")) == b"half+half"
    assembler.feed(Frame(Kind.DATA, Lane.SHELL, 2, 2, b"half", True))
    assembler.clear()
    assert assembler.feed(Frame(Kind.DATA, Lane.SHELL, 2, 2, b"new")) == b"new"


@pytest.mark.parametrize("change", [(0, b"\xff"), (4, b"\x63"), (5, b"\x22")])
def test_bytes_that_are_no_frame_are_refused(change: tuple[int, bytes]) -> None:
    data = bytearray(encode(Frame(Kind.ACK, Lane.SHELL, 1, 7)))
    data[change[0] : change[0] + 1] = change[1]
    with pytest.raises(BadFrame, match="not ours"):
        FrameReader().feed(preamble() + bytes(data))


@given(MESSAGES, st.binary(min_size=1, max_size=4))
def test_a_message_with_wrong_lengths_is_refused(message: Message, rest: bytes) -> None:
    body = pack_message(message)
    for wrong in (body + rest, body[: max(0, len(body) - len(rest))]):
        with pytest.raises(BadFrame):
            unpack_message(wrong)


def test_a_version_that_does_not_fit_is_named() -> None:
    with pytest.raises(VersionMismatch, match="9 to 12"):
        FrameReader().feed(preamble(12, 9))
    newer = FrameReader()
    newer.feed(preamble(PROTOCOL + 1, PROTOCOL))
    assert newer.version == PROTOCOL


def test_a_frame_of_json_holds_an_object_or_says_so() -> None:
    assert encode_json(Kind.CALL, {"a": 1}, 2, 3).json() == {"a": 1}
    for payload in (b"[1]", b"\xff", b""):
        with pytest.raises(BadFrame, match="CALL"):
            Frame(Kind.CALL, payload=payload).json()
