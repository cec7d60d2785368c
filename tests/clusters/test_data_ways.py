"""Arrays and files into real Slurm jobs: by ssh to the node, by a shared folder, by a step; which is chosen, and what happens when one breaks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.clusters.gateways import Attached, gateway, running
from tests.clusters.mounts import small_disk
from tests.clusters.ways import configuration, forget, use_lab
from tests.fakes.client import Client
from tests.lab.lab import Lab
from tests.lab.machines import Machine

from jupyter_remote_gpu.clusters import slurm_data
from jupyter_remote_gpu.gateway import GatewayParts
from jupyter_remote_gpu.live import Terms
from jupyter_remote_gpu.models import Session
from remote_gpu.transfer.door import connect_data
from remote_gpu.transfer.files import Files
from remote_gpu.transfer.frames import Message
from remote_gpu.transfer.transfers import Transfers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SIZE = 60_000_000
_SERVE = """
import hashlib
from pathlib import Path
from remote_gpu.node.blobs import mapped
from remote_gpu.node.serving import serve
held = {}
server = serve(Path(get_ipython().kernel.parent.connection_file).parent, lambda wanted: ({}, b"", [held[wanted]]))
"""


@pytest.fixture
def lab_here(lab, monkeypatch) -> Iterator[Lab]:
    cache = use_lab(lab, monkeypatch)
    monkeypatch.setattr(slurm_data, "_MUCH", 1000.0)  # on one busy machine a burst tells little: the order decides
    yield lab
    for server in lab.sshd.values():
        server.start()
    forget(cache)


@pytest.fixture
def scratch(lab_here) -> Iterator[Path]:
    """A folder that the machines of the lab share."""
    made = lab_here.folder / f"scratch-{time.monotonic_ns()}"
    made.mkdir()
    os.chown(made, lab_here.alice.uid, lab_here.alice.gid)
    yield made
    shutil.rmtree(made)


def cluster(lab: Lab, **options: Any) -> dict[str, Any]:
    return {"bristol": {**configuration("slurm over ssh", lab), "partition": "hopper", **options}}


@dataclass
class Moving:
    """A session, a client of its kernel, and what moves arrays and files for it."""

    parts: GatewayParts
    session: Session
    kernel: Attached
    transfers: Transfers

    @property
    def way(self) -> str:
        """What carried its newest stream."""
        return self.parts.clusters["bristol"].data.of(self.session.id).json()["way"]

    async def put(self, data: bytes) -> str:
        """The address under which the node has it."""
        return (await asyncio.to_thread(self.transfers.put_missing, [memoryview(data)]))[0]

    async def there(self, address: str, size: int) -> str:
        """The digest of a blob, by the kernel; it can be fetched as "blob" from then on."""
        cell = await self.kernel.run(f"held['blob'] = mapped({address!r}, {size}); print(hashlib.sha256(held['blob']).hexdigest())")
        assert cell.status == "ok", cell.evalue
        return cell.out.strip()

    async def fetch(self) -> bytes:
        return bytes((await asyncio.to_thread(self.transfers.fetch, "blob")).buffers[0])


@contextlib.asynccontextmanager
async def moving(parts: GatewayParts, name: str = "moves") -> AsyncIterator[Moving]:
    session = await running(parts, name, "bristol")
    attachment, session = await parts.sessions.attach(session.id, Terms())
    client = Client(attachment.front.connection_info)
    transfers = Transfers(lambda: connect_data(parts.socket, session.id, attachment.id))
    try:
        made = Moving(parts, session, Attached(client), transfers)
        assert (await made.kernel.run(_SERVE)).status == "ok"
        yield made
    finally:
        await asyncio.to_thread(transfers.close)
        client.close()


@contextlib.asynccontextmanager
async def opened(places: Any, clusters: dict[str, Any]) -> AsyncIterator[Moving]:
    async with gateway(places.base, clusters) as parts:
        parts.data.start()
        async with moving(parts) as made:
            yield made


def left_in(scratch: Path) -> list[Path]:
    """What relays left: their folders."""
    return [path for own in scratch.glob(".jupyter-remote-gpu-*") for path in own.iterdir()]


async def gone(condition: Callable[[], Any], seconds: float = 20) -> bool:
    """Whether something is over within that time."""
    deadline = time.monotonic() + seconds
    while condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def overheard(transfers: Transfers) -> list[Message]:
    """What the stream that is open says from now on, in messages without their bodies."""
    heard: list[Message] = []
    reader = transfers._channel._reader
    hear = reader.message

    def message() -> Message | None:
        if (found := hear()) is not None:
            heard.append(found)
        return found

    reader.message = message
    return heard


def relays(machine: Machine) -> list[int]:
    return machine.named("python", "data-relay")


@pytest.mark.parametrize("way", ["ssh", "scratch", "srun"])
async def test_an_array_arrives_whole_and_comes_back_whole(places, lab_here, scratch, way):
    data = os.urandom(SIZE)
    async with opened(places, cluster(lab_here, data=way, scratch=str(scratch))) as moves:
        address = await moves.put(data)
        assert await moves.there(address, SIZE) == hashlib.sha256(data).hexdigest()
        assert await moves.fetch() == data
        assert moves.way == way
        assert bool(left_in(scratch)) is (way == "scratch")
    assert await gone(lambda: left_in(scratch))


@pytest.mark.parametrize("way", ["ssh", "scratch", "srun"])
async def test_files_and_folders_go_there_and_back(places, lab_here, scratch, way, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.mkdir()
    content = {"small": b"x", "empty": b"", "large": os.urandom(12_000_000), **{f"n{number}": os.urandom(3000) for number in range(200)}}
    for name, data in content.items():
        (source / name).write_bytes(data)
    async with opened(places, cluster(lab_here, data=way, scratch=str(scratch))) as moves:
        files = Files(moves.transfers)
        put = await asyncio.to_thread(files.put, source, str(scratch / "there"))
        assert put.files == len(content)
        got = await asyncio.to_thread(files.get, str(scratch / "there"), back)
        assert (got.files, got.left_out) == (len(content), ())
        assert moves.way == way
    assert {path.name: path.read_bytes() for path in back.iterdir()} == content


async def test_auto_takes_ssh_where_nodes_let_the_user_in_and_asks_once_for_all_sessions(places, lab_here, scratch, caplog):
    caplog.set_level(logging.INFO, "jupyter_remote_gpu.clusters.slurm_data")
    async with opened(places, cluster(lab_here, scratch=str(scratch))) as moves:
        data = os.urandom(1_000_000)
        await moves.put(data)
        assert moves.way == "ssh"
        assert moves.parts.clusters["bristol"].data.of(moves.session.id).json()["up"] > 0
        async with moving(moves.parts, "second") as second:
            await second.put(data)
            assert second.way == "ssh"
    said = [record.getMessage() for record in caplog.records if "go by" in record.getMessage()]
    assert len(said) == 1, said
    assert "MB/s" in said[0]


async def test_auto_takes_the_shared_folder_where_nodes_do_not(places, lab_here, scratch):
    for node in ("hx1", "hx2"):
        lab_here.sshd[node].stop()
    data = os.urandom(5_000_000)
    async with opened(places, cluster(lab_here, scratch=str(scratch))) as moves:
        assert await moves.there(await moves.put(data), len(data)) == hashlib.sha256(data).hexdigest()
        assert moves.way == "scratch"


@pytest.mark.parametrize("folder", ["/tmp", "/no/such/folder", "/etc", "relative"])
async def test_auto_takes_a_step_where_no_folder_is_shared(places, lab_here, caplog, folder):
    """/tmp can be written on the login, but is another one on the node."""
    caplog.set_level(logging.INFO, "jupyter_remote_gpu.clusters.slurm_data")
    for node in ("hx1", "hx2"):
        lab_here.sshd[node].stop()
    data = os.urandom(3_000_000)
    async with opened(places, cluster(lab_here, scratch=folder)) as moves:
        assert await moves.there(await moves.put(data), len(data)) == hashlib.sha256(data).hexdigest()
        assert moves.way == "srun"
    assert [
        record
        for record in caplog.records
        if f"The scratch folder {folder!r}" in record.getMessage() or f"folder {folder} " in record.getMessage()
    ]
    assert not list((lab_here.machines["bristol-login"].temporary).glob(".jupyter-remote-gpu-*/*"))


class At(threading.Thread):
    """Does something once so many bytes have moved."""

    def __init__(self, transfers: Transfers, moves: int, action: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.transfers, self.moves, self.action, self.done = transfers, transfers._moves + moves, action, False

    def run(self) -> None:
        deadline = time.monotonic() + 120
        while self.transfers._moves < self.moves:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        self.action()
        self.done = True


async def test_a_way_that_breaks_in_the_middle_is_replaced_and_all_arrives(places, lab_here, scratch, caplog):
    data = os.urandom(SIZE)
    async with opened(places, cluster(lab_here, scratch=str(scratch))) as moves:
        assert await moves.put(data[:1000])
        assert moves.way == "ssh"
        breaks = At(moves.transfers, 20, lab_here.sshd[moves.session.allocation.node].stop)
        breaks.start()
        assert await moves.there(await moves.put(data), SIZE) == hashlib.sha256(data).hexdigest()
        assert breaks.done
        assert moves.way == "scratch"
        assert await moves.fetch() == data
    said = [record.getMessage() for record in caplog.records if "do not go by ssh" in record.getMessage()]
    assert len(said) == 1, said


async def test_a_fetch_whose_way_breaks_goes_on_by_another_one(places, lab_here, scratch):
    data = os.urandom(SIZE)
    async with opened(places, cluster(lab_here, scratch=str(scratch))) as moves:
        await moves.there(await moves.put(data), SIZE)
        breaks = At(moves.transfers, 2, lab_here.sshd[moves.session.allocation.node].stop)
        breaks.start()
        assert await moves.fetch() == data
        assert breaks.done
        assert moves.way == "scratch"


@pytest.mark.parametrize("killed", ["relay", "node"])
async def test_a_relay_of_which_one_end_is_killed_is_begun_again_and_leaves_nothing(places, lab_here, scratch, killed):
    data = os.urandom(SIZE)
    login = lab_here.machines["bristol-login"]
    async with opened(places, cluster(lab_here, data="scratch", scratch=str(scratch))) as moves:
        await moves.put(data[:1000])
        (first,) = left_in(scratch)
        node = lab_here.machines[moves.session.allocation.node]

        def kill() -> None:
            for pid in relays(login) if killed == "relay" else node.named("python", str(first)):
                os.kill(pid, signal.SIGKILL)

        breaks = At(moves.transfers, 20, kill)
        breaks.start()
        assert await moves.there(await moves.put(data), SIZE) == hashlib.sha256(data).hexdigest()
        assert breaks.done
        assert await gone(lambda: first in left_in(scratch))
    assert await gone(lambda: left_in(scratch))


async def test_a_full_scratch_folder_slows_down_and_loses_nothing(places, lab_here):
    data = os.urandom(SIZE // 2)
    machines = [lab_here.machines[name] for name in ("bristol-login", "hx1", "hx2")]
    with small_disk(lab_here, machines, kilobytes=200) as disk:
        own = disk / f".jupyter-remote-gpu-{lab_here.alice.uid}"
        async with opened(places, cluster(lab_here, data="scratch", scratch=str(disk))) as moves:
            await moves.put(data[:1000])
            heard = overheard(moves.transfers)
            assert await moves.there(await moves.put(data), len(data)) == hashlib.sha256(data).hexdigest()
            assert await moves.fetch() == data
            assert moves.way == "scratch"
        notes = [message.meta["note"] for message in heard if "note" in message.meta]
        assert len(notes) == 1
        assert f"The scratch folder {disk} takes no more from bristol-login: No space left on device." in notes[0]
        assert await gone(lambda: machines[0].run(["ls", "-A", str(own)]).stdout)


async def test_a_cut_of_the_login_is_no_fault_of_the_way(places, lab_here, scratch, caplog):
    caplog.set_level(logging.INFO, "jupyter_remote_gpu.clusters.slurm_data")
    data = os.urandom(SIZE)
    async with opened(places, cluster(lab_here, scratch=str(scratch))) as moves:
        await moves.put(data[:1000])
        breaks = At(moves.transfers, 20, lab_here.sshd["bristol"].cut)
        breaks.start()
        assert await moves.there(await moves.put(data), SIZE) == hashlib.sha256(data).hexdigest()
        assert breaks.done
        assert moves.way == "ssh"
    assert not [record for record in caplog.records if "do not go by" in record.getMessage()]
