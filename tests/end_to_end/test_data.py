"""Large arrays between a notebook and its remote cells: shared by sessions, whole after cuts, gone with the last session."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.notebook import Cell, Notebook

from remote_gpu.node.blobs import default_places

pytestmark = pytest.mark.shared_places

LOAD = "%load_ext remote_gpu\nimport numpy as np"
MB = 1 << 20


@pytest.fixture(scope="module")
def notebook(module_places) -> Iterator[Notebook]:
    with Notebook(LOAD) as notebook:
        yield notebook


def run(notebook: Notebook, code: str) -> Cell:
    cell = notebook.run(code)
    assert not cell.error, cell.traceback
    return cell


def stored() -> dict[str, int]:
    """The blobs of this node, whole and begun, and their sizes."""
    folders = [Path(place.folder) for place in default_places()]
    return {path.name: path.stat().st_size for folder in folders if folder.is_dir() for path in folder.glob("*-*")}


def data_processes(base: Path) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if b"data" in command[-3:] and os.fsencode(base) in environment:
            found.append(int(pid))
    return found


class Killer(threading.Thread):
    """Kills the data process each time when so much more of a blob has arrived."""

    def __init__(self, base: Path, size: int, at: list[int]) -> None:
        super().__init__(daemon=True)
        self.base, self.size, self.at, self.killed = base, size, at, 0

    def run(self) -> None:
        deadline = time.monotonic() + 60
        while self.at and time.monotonic() < deadline:
            begun = [length for name, length in stored().items() if name.endswith(f"-{self.size}.part")]
            if begun and max(begun) >= self.at[0]:
                self.at.pop(0)
                for pid in data_processes(self.base):
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1
            time.sleep(0.001)


def test_an_array_is_the_same_there_and_can_be_changed_there(notebook):
    run(notebook, "big = np.random.default_rng(1).random(5_000_000)")
    cell = run(notebook, "%%remote_gpu\nbefore = float(big.sum())\nbig[0] = 7\nchanged = float(big[0])")
    assert "big" in cell.record["names"]["sent"]
    assert run(notebook, "before == float(np.random.default_rng(1).random(5_000_000).sum()), changed").result == "(True, 7.0)"


def test_another_session_takes_the_array_that_is_there_already(notebook):
    run(notebook, "shared = np.random.default_rng(2).random(3_000_000)")
    assert run(notebook, "%%remote_gpu\nfloat(shared[1])").result == run(notebook, "float(shared[1])").result
    before = {name for name in stored() if name.endswith("-24000000")}
    assert len(before) == 1
    assert run(notebook, "%%remote_gpu --session second\nfloat(shared[1])").result == run(notebook, "float(shared[1])").result
    assert {name for name in stored() if name.endswith("-24000000")} == before


@pytest.mark.slow
def test_an_array_whose_stream_is_cut_in_the_middle_arrives_whole(notebook, module_places):
    size = 400 * MB
    killer = Killer(module_places.base, size, [64 * MB, 128 * MB, 256 * MB])
    run(notebook, f"wide = np.random.default_rng(3).integers(0, 255, {size}, dtype='u1')")
    killer.start()
    total = run(notebook, "%%remote_gpu\nint(wide.sum(dtype='u8'))").result
    killer.join(60)
    assert total == run(notebook, "int(wide.sum(dtype='u8'))").result
    assert killer.killed >= 1


def test_a_large_result_is_fetched_whole(notebook):
    run(notebook, "%%remote_gpu\nmade = np.arange(4_000_000.0)")
    assert run(notebook, "copy = made.fetch()\ncopy[0] = 1\nfloat(copy[0]), copy.shape, float(copy.sum())").result == (
        "(1.0, (4000000,), 7999998000001.0)"
    )


def test_the_store_goes_with_the_last_session(notebook):
    assert stored()
    run(notebook, "%remote_gpu stop --session second")
    assert stored()
    run(notebook, "%remote_gpu stop")
    deadline = time.monotonic() + 10
    while any(Path(place.folder).exists() for place in default_places()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(place.folder).exists() for place in default_places())
