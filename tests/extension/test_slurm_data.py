"""Which way arrays take into a job: what a probe finds, what is remembered of it, and what happens when a way fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest
from tests.fakes.data import SESSION, data_node
from tests.fakes.steps import Steps

from jupyter_remote_gpu.clusters import slurm_data
from jupyter_remote_gpu.clusters.options import DataWay, RemoteOptions
from jupyter_remote_gpu.clusters.slurm_data import DataWays, _ranked
from jupyter_remote_gpu.clusters.slurm_data_probe import Measured
from jupyter_remote_gpu.models import Allocation, AllocationState, SessionId
from remote_gpu.errors import LinkProblem
from remote_gpu.node import blobs
from remote_gpu.transfer.transfers import Transfers

SSH, SCRATCH, SRUN = DataWay.SSH, DataWay.SCRATCH, DataWay.SRUN
LOG = "jupyter_remote_gpu.clusters.slurm_data"


@pytest.fixture
def node(places, monkeypatch):
    monkeypatch.setattr(slurm_data, "node_folder_of", lambda _: str(places.folder))
    monkeypatch.setattr(slurm_data, "_MUCH", 1000.0)  # a burst on a busy machine tells little
    with data_node(places.base) as made:
        yield made


@pytest.fixture
def steps(node, places):
    (places.base / "scratch").mkdir()
    return Steps(places.base / "bin")


@pytest.fixture
def make(steps, places):
    def made(data: DataWay = DataWay.AUTO, scratch: bool = True) -> DataWays:
        return DataWays(steps, RemoteOptions(data=data, scratch=str(places.base / "scratch") if scratch else ""), "bristol")

    return made


def job(node: str = "hx1", session: str = SESSION) -> Allocation:
    return Allocation("bristol", SessionId(session), state=AllocationState.RUNNING, node=node, job_id="7", arch="x86_64")


async def moved(ways: DataWays, allocation: Allocation, data: bytes) -> DataWay:
    """The way by which `data` went to the node and arrived there."""
    command = await ways.open(allocation)
    transfers = Transfers(command.take)
    (address,) = await asyncio.to_thread(transfers.put_missing, [memoryview(data)])
    assert bytes(blobs.mapped(address, len(data))) == data
    transfers.close()
    await asyncio.wait_for(command.wait(), 20)
    await command.aclose()
    return ways.of(allocation.session).way


async def test_the_order_is_ssh_a_shared_folder_and_a_step(make, steps, caplog):
    caplog.set_level(logging.INFO, LOG)
    for failing, way in ((None, SSH), ("ssh", SCRATCH)):
        if failing:
            steps.tell(failing, "fails", "Permission denied (publickey).")
        assert await moved(make(), job(), os.urandom(2_000_000)) is way
    assert await moved(make(scratch=False), job(), os.urandom(1000)) is SRUN
    assert "cannot go by ssh" in caplog.text
    assert "Permission denied (publickey)." in caplog.text


async def test_a_probe_is_made_once_for_all_nodes_of_a_kind(make, steps):
    ways = make()
    assert ways.of(SessionId(SESSION)) is None
    commands = await asyncio.gather(*(ways.open(job(f"hx{number}")) for number in range(1, 4)))
    assert steps.runs("ssh") == 1 + 3
    found = ways.of(SessionId(SESSION))
    assert found.way is SSH
    assert found.up > 0
    assert found.down > 0
    commands.append(await ways.open(job("gh1")))
    assert steps.runs("ssh") == 1 + 3 + 2
    for command in commands:
        await command.aclose()


async def test_a_way_that_is_wide_enough_ends_the_probe(make, steps, monkeypatch):
    monkeypatch.setattr(slurm_data, "_PLENTY", 1.0)
    assert await moved(make(), job(), b"a" * 1000) is SSH
    assert steps.runs("srun") == 0  # not even the relay's


async def test_what_was_found_is_doubted_sooner_when_something_did_not_work(make, steps, monkeypatch):
    steps.tell("ssh", "fails")
    ways = make()
    assert await moved(ways, job(), b"a" * 1000) is SCRATCH
    steps.tell("ssh", "fails", None)
    assert await moved(ways, job(), b"a" * 1000) is SCRATCH
    now = slurm_data._now()
    monkeypatch.setattr(slurm_data, "_now", lambda: now + 1800)
    assert await moved(ways, job(), b"a" * 1000) is SSH
    steps.tell("ssh", "fails")
    monkeypatch.setattr(slurm_data, "_now", lambda: now + 1800 + 3500)
    runs = steps.runs("srun")
    assert await moved(ways, job(), b"a" * 1000) is SCRATCH
    assert steps.runs("srun") == runs + 1, "no other probe"


async def test_a_way_that_does_not_open_any_more_is_replaced_said_once_and_tried_again_later(make, steps, monkeypatch, caplog):
    ways = make()
    assert await moved(ways, job(), b"a" * 1000) is SSH
    steps.tell("ssh", "fails", "Connection closed by remote host.")
    for _ in range(3):
        assert await moved(ways, job(), b"a" * 1000) is SCRATCH
    said = [record.getMessage() for record in caplog.records if "do not go by ssh" in record.getMessage()]
    assert len(said) == 1
    assert "Connection closed by remote host." in said[0]
    steps.tell("ssh", "fails", None)
    runs = steps.runs("ssh")
    assert await moved(ways, job(), b"a" * 1000) is SCRATCH
    assert steps.runs("ssh") == runs
    now = slurm_data._now()
    monkeypatch.setattr(slurm_data, "_now", lambda: now + slurm_data._ASIDE + 1)
    assert await moved(ways, job(), b"a" * 1000) is SSH


async def test_a_way_that_hangs_is_replaced(make, steps, monkeypatch):
    monkeypatch.setattr(slurm_data, "_OPENS", 3.0)
    ways = make()
    assert await moved(ways, job(), b"a" * 1000) is SSH
    steps.tell("ssh", "hangs")
    assert await moved(ways, job(), b"a" * 1000) is SCRATCH


async def broken(ways: DataWays) -> DataWay:
    """Open a stream, and let what carries it be killed."""
    command = await ways.open(job())
    os.killpg(command._process.pid, signal.SIGKILL)
    await command.wait()
    await command.aclose()
    return ways.of(SessionId(SESSION)).way


async def test_a_way_whose_streams_break_young_twice_in_a_row_is_replaced(make, caplog):
    ways = make()
    assert [await broken(ways) for _ in range(3)] == [SSH, SSH, SCRATCH]
    assert "do not go by ssh" in caplog.text
    assert await moved(ways, job(), b"a" * 1000) is SCRATCH


async def test_a_stream_that_breaks_once_is_opened_again_by_the_same_way(make, monkeypatch):
    ways = make()
    assert await broken(ways) is SSH
    assert await moved(ways, job(), b"a" * 1000) is SSH
    assert await broken(ways) is SSH
    now = slurm_data._now()
    monkeypatch.setattr(slurm_data, "_now", lambda: now + 600)
    assert [await broken(ways), await broken(ways)] == [SSH, SSH]


@pytest.mark.parametrize("way", [SSH, SCRATCH, SRUN])
async def test_a_way_that_is_configured_is_taken_without_a_probe_and_never_another(make, steps, way):
    ways = make(way)
    assert await moved(ways, job(), os.urandom(2_000_000)) is way
    assert steps.runs("ssh") + steps.runs("srun") == 1
    steps.tell("ssh" if way is SSH else "srun", "fails", "It is forbidden here.")
    with pytest.raises(LinkProblem, match="It is forbidden here"):
        await ways.open(job())


async def test_a_session_that_a_way_does_not_find_is_no_way(make, node, steps, caplog):
    """ssh may lead to a node whose /tmp is not that of the job."""
    caplog.set_level(logging.INFO, LOG)
    text = (steps.folder / "ssh").read_text()
    (steps.folder / "ssh").write_text(text.replace("words[1]]", f"words[1].replace({SESSION!r}, 'elsewhere1')]"))
    assert await moved(make(), job(), b"a" * 1000) is SCRATCH
    assert "The session elsewhere1 does not run on" in caplog.text


async def test_without_any_way_the_last_one_is_quoted_and_nothing_is_remembered(make, steps):
    ways = make()
    steps.tell("ssh", "fails", "Permission denied.")
    steps.tell("srun", "fails", "Slurm job 7 has expired.")
    with pytest.raises(LinkProblem, match="Slurm job 7 has expired"):
        await ways.open(job())
    for program in ("ssh", "srun"):
        steps.tell(program, "fails", None)
    assert await moved(ways, job(), b"a" * 1000) is SSH


async def test_a_login_that_is_gone_is_no_fault_of_a_way(make, steps):
    ways = make()
    assert await moved(ways, job(), b"a" * 1000) is SSH
    steps.gone = True
    with pytest.raises(LinkProblem, match="The login is gone"):
        await ways.open(job())
    steps.gone = False
    assert await moved(ways, job(), b"a" * 1000) is SSH


async def test_a_login_that_was_lost_unnoticed_is_no_fault_of_the_way_that_notices_it(make, steps, caplog):
    ways = make()
    assert await moved(ways, job(), b"a" * 1000) is SSH
    steps.tell("ssh", "fails", "mux_client_request_session: read from master failed: Broken pipe")
    hello = steps.hello

    async def mended(*, ask: bool = False):
        if steps.runs("ssh") == runs + 1:
            steps.tell("ssh", "fails", None)
        return await hello(ask=ask)

    runs = steps.runs("ssh")
    steps.hello = mended
    assert await moved(ways, job(), b"a" * 1000) is SSH
    assert "do not go by" not in caplog.text


async def test_a_slow_way_is_measured_as_one(make, steps):
    steps.tell("srun", "slow", "3000000")
    steps.tell("ssh", "fails")
    ways = make(scratch=False)
    command = await ways.open(job())
    found = ways.of(SessionId(SESSION))
    assert 500_000 < found.up < 4_000_000
    assert found.rate == min(found.up, found.down)
    assert str(found).startswith(f"srun ({found.up / 1e6:.1f} MB/s to the node, ")
    assert found.json() == {"way": "srun", "up": round(found.up), "down": round(found.down)}
    await command.aclose()


def test_a_later_way_is_preferred_only_when_it_is_much_faster():
    ssh, scratch, srun = Measured(SSH, 50e6, 60e6), Measured(SCRATCH, 140e6, 400e6), Measured(SRUN, 20e6, 30e6)
    assert _ranked([ssh, scratch, srun]) == (ssh, scratch, srun)
    wide = Measured(SCRATCH, 160e6, 400e6)
    assert _ranked([ssh, wide, srun]) == (wide, ssh, srun)
    assert _ranked([ssh, Measured(SCRATCH), srun]) == (ssh, Measured(SCRATCH), srun)
    assert _ranked([]) == ()
    assert Measured(SRUN).json() == {"way": "srun", "up": None, "down": None}
    assert str(Measured(SRUN)) == "srun"
