"""The store of blobs on a node, and the landing of a blob window by window."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from remote_gpu.errors import NoRoom, NotWritable, UsageProblem
from remote_gpu.node import blobs, room
from remote_gpu.node.blobs import BlobMissing, Place, Store, forget_if_unused, mapped
from remote_gpu.node.landing import Landing
from remote_gpu.transfer.frames import WINDOW, Reader

KB = 1 << 10


def places(base: Path, memory: int = 1 << 40, disk: int = 1 << 40) -> tuple[Place, ...]:
    return Place(str(base / "memory"), True, memory), Place(str(base / "disk"), False, disk)


def digest(number: int) -> str:
    return f"{number:032x}"


def put(store: Store, number: int, data: bytes) -> None:
    store.expect([(digest(number), len(data))])
    store.landing(digest(number), len(data)).put(memoryview(data))
    store.arrived(digest(number), len(data))


def test_a_blob_is_found_by_its_address_and_its_length_and_is_private(tmp_path):
    store = Store(places(tmp_path))
    put(store, 1, b"some bytes")
    path = Path(store.path(digest(1), 10))
    assert path.read_bytes() == b"some bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert store.path(digest(1), 11) is None
    assert store.expect([(digest(1), 10), (digest(2), 5)]) == [10, 0]


@pytest.mark.parametrize("address", ["../../etc/passwd", "0" * 31, "G" * 32, ""])
def test_what_is_no_address_is_refused(tmp_path, address):
    with pytest.raises(UsageProblem, match="not the address of a blob"):
        Store(places(tmp_path)).path(address, 1)


def test_a_mapped_blob_can_be_written_to_and_the_store_keeps_the_original(tmp_path):
    put(Store(places(tmp_path)), 1, b"abc")
    view = mapped(digest(1), 3, places(tmp_path))
    view[:] = b"xyz"
    assert bytes(view) == b"xyz"
    assert bytes(mapped(digest(1), 3, places(tmp_path))) == b"abc"


def test_an_empty_blob_is_kept_and_mapped(tmp_path):
    store = Store(places(tmp_path))
    put(store, 1, b"")
    assert store.expect([(digest(1), 0)]) == [0]
    assert len(mapped(digest(1), 0, places(tmp_path))) == 0


def test_a_blob_that_is_gone_says_so(tmp_path):
    with pytest.raises(BlobMissing):
        mapped(digest(1), 3, places(tmp_path))


def test_all_stores_of_a_node_agree_on_one_secret_seed(tmp_path):
    first, second = Store(places(tmp_path)), Store(places(tmp_path))
    assert first.seed == second.seed
    assert first.seed != Store(places(tmp_path / "elsewhere")).seed


def test_blobs_that_were_addressed_with_another_seed_are_dropped(tmp_path):
    store = Store(places(tmp_path))
    put(store, 1, b"abc")
    (tmp_path / "disk" / "seed").unlink()
    assert Store(places(tmp_path)).path(digest(1), 3) is None


def test_what_was_not_used_for_longest_goes_first_and_what_is_asked_for_stays(tmp_path):
    store = Store(places(tmp_path, memory=100 * KB, disk=0))
    for number in range(4):
        put(store, number, b"x" * 24 * KB)
        os.utime(store.path(digest(number), 24 * KB), (number, number))
    os.utime(Path(store.path(digest(0), 24 * KB)), (0, 0))
    os.utime(Path(store.path(digest(1), 24 * KB)), (1, 1))
    os.utime(Path(store.path(digest(2), 24 * KB)), (2, 2))
    os.utime(Path(store.path(digest(3), 24 * KB)), (3, 3))
    assert store.expect([(digest(0), 24 * KB), (digest(9), 40 * KB)]) == [24 * KB, 0]
    assert [blobs._find(store._places(), f"{digest(number)}-{24 * KB}") is not None for number in range(4)] == [True, False, False, True]


def test_disk_takes_what_memory_has_no_room_for(tmp_path):
    store = Store(places(tmp_path, memory=50 * KB))
    put(store, 1, b"x" * 40 * KB)
    store.expect([(digest(1), 40 * KB), (digest(2), 40 * KB)])
    assert store.landing(digest(2), 40 * KB).path.startswith(str(tmp_path / "disk"))
    store.close()


def test_what_fits_nowhere_is_refused_with_figures_before_anything_is_dropped(tmp_path):
    store = Store(places(tmp_path, memory=50 * KB, disk=60 * KB))
    put(store, 1, b"x" * 40 * KB)
    with pytest.raises(NoRoom, match=r"102 KB are to be sent, and it can take 51\.2 KB of memory .* and 61\.4 KB on disk"):
        store.expect([(digest(2), 100 * KB)])
    assert store.path(digest(1), 40 * KB) is not None


def test_free_memory_and_disk_bound_the_store_whatever_its_limit(tmp_path, monkeypatch):
    store = Store(places(tmp_path))
    monkeypatch.setattr(blobs, "memory_free", lambda: 0)
    monkeypatch.setattr(blobs, "disk_free", lambda _: 10 * KB)
    with pytest.raises(NoRoom):
        store.expect([(digest(1), 11 * KB)])
    store.expect([(digest(1), 10 * KB)])


def test_a_landing_goes_on_where_its_last_full_window_ended(tmp_path):
    size = 2 * WINDOW + 100
    landing = Landing(str(tmp_path / "part"), size, huge=False)
    landing.put(memoryview(b"a" * (WINDOW + 5)))
    landing.close()
    again = Landing(str(tmp_path / "part"), size, huge=False)
    assert again.offset == WINDOW
    again.put(memoryview(b"b" * (WINDOW + 100)))
    assert again.offset == size
    again.finish(str(tmp_path / "whole"))
    assert (tmp_path / "whole").read_bytes() == b"a" * WINDOW + b"b" * (WINDOW + 100)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("size", [1, 2 << 20, (2 << 20) + 1, WINDOW - 1, WINDOW, WINDOW + (3 << 20) + 7, 2 * WINDOW])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_whatever_its_size_a_landing_holds_what_the_stream_brought(tmp_path, size, where):
    folder = Path("/dev/shm") if where == "memory" and os.path.isdir("/dev/shm") else tmp_path
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * (size // (1 << 20) + 1))
    path = folder / f"test-{os.getpid()}"
    with source.open("rb") as file:
        landing = Landing(str(path), size, huge=where == "memory")
        reader = Reader(file.fileno())
        landing.receive(reader, size // 3)
        landing.receive(reader, size - size // 3)
        landing.finish(f"{path}.whole")
    whole = Path(f"{path}.whole")
    try:
        assert whole.read_bytes() == source.read_bytes()[:size]
    finally:
        whole.unlink()


def test_a_full_file_system_is_an_error_and_not_the_end_of_the_process(tmp_path, monkeypatch):
    landing = Landing(str(tmp_path / "part"), 100, huge=False)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        landing.put(memoryview(b"x" * 100))
    landing.close()


def test_two_processes_that_send_the_same_blob_do_not_meet(tmp_path):
    one, two = Store(places(tmp_path)), Store(places(tmp_path))
    first, second = one.landing(digest(1), 4), two.landing(digest(1), 4)
    assert first.path != second.path
    first.put(memoryview(b"ab"))
    second.put(memoryview(b"abcd"))
    two.arrived(digest(1), 4)
    first.put(memoryview(b"cd"))
    one.arrived(digest(1), 4)
    assert bytes(mapped(digest(1), 4, places(tmp_path))) == b"abcd"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [f"{digest(1)}-4", "seed"]


def test_a_folder_that_others_can_read_is_not_used(tmp_path):
    (tmp_path / "memory").mkdir(mode=0o755)
    with pytest.raises(NotWritable, match="not private"):
        Store(places(tmp_path))


def test_the_store_goes_with_the_last_session(places):
    sessions = places.folder / "s"
    for name in ("one", "two"):
        (sessions / name).mkdir(parents=True)
        (sessions / name / "state.json").write_text("{}")
    places.folder.chmod(0o700)
    store = Store()
    put(store, 1, b"abc")
    assert not forget_if_unused("one")
    assert store.path(digest(1), 3) is not None
    (sessions / "two" / "state.json").unlink()
    assert forget_if_unused("one")
    assert not any(os.path.exists(place.folder) for place in store.places)


def test_sizes_are_said_in_words():
    assert [room.in_words(size) for size in (0, 999, 1000, 1_234_567, 51_200, 3_200_000_000, 250 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 KB",
        "1.2 MB",
        "51.2 KB",
        "3.2 GB",
        "250 TB",
    ]


def test_a_control_groups_limit_counts_as_the_machines_memory(monkeypatch):
    texts = {
        "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 800 kB\n",
        "/proc/self/cgroup": "0::/slurm/job\n",
        "/sys/fs/cgroup/slurm/job/memory.max": "max\n",
        "/sys/fs/cgroup/slurm/memory.max": "500000\n",
        "/sys/fs/cgroup/slurm/memory.current": "300000\n",
        "/sys/fs/cgroup/slurm/memory.stat": "anon 1\ninactive_file 100000\n",
    }

    def text(path: str) -> str:
        if path not in texts:
            raise FileNotFoundError(path)
        return texts[path]

    monkeypatch.setattr(room, "_text", text)
    assert (room.memory_free(), room.memory_total()) == (300000, 500000)
