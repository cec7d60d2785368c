"""Where the parts of a parcel travel: in the message, or ahead of it as blobs."""

from __future__ import annotations

from remote_gpu.parcels import BLOB_FROM, pack
from remote_gpu.summary import Summary, amount


def test_small_parts_travel_in_the_message_in_order():
    packed = pack(["a"], b"head", [memoryview(b"one"), memoryview(b"two")], None, first=3)
    assert packed.manifest == {"names": ["a"], "head": {"inline": 3}, "buffers": [{"inline": 4}, {"inline": 5}]}
    assert [bytes(each) for each in packed.buffers] == [b"head", b"one", b"two"]
    assert packed.size == 10


def test_large_parts_go_ahead_as_blobs_in_one_question():
    asked = []

    def put(views):
        asked.append([view.nbytes for view in views])
        return [f"blob{number}" for number in range(len(views))]

    large = memoryview(bytes(BLOB_FROM + 1))
    packed = pack(["a"], bytes(BLOB_FROM + 2), [memoryview(b"small"), large], put)
    assert asked == [[BLOB_FROM + 2, BLOB_FROM + 1]]
    assert packed.manifest["head"] == {"blob": "blob0", "size": BLOB_FROM + 2}
    assert packed.manifest["buffers"] == [{"inline": 0}, {"blob": "blob1", "size": BLOB_FROM + 1}]


def test_without_a_data_stream_everything_is_in_the_message():
    packed = pack(["a"], b"h", [memoryview(bytes(BLOB_FROM * 2))], None)
    assert len(packed.buffers) == 2


def test_a_summary_says_what_crossed_and_cuts_long_lists():
    summary = Summary(list("abcdef"), 1_234_567, ["z"], {"model": "MLPClassifier"}, ["log stays here"])
    assert summary.text == "sent a, b, c, d and 2 more (1.2 MB) · back z · model as handle (MLPClassifier) · log stays here"
    assert not Summary()


def test_amounts_are_said_as_people_say_them():
    assert [amount(each) for each in (0, 999, 1000, 1_500_000, 2e9, 3e15)] == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3000.0 TB"]
