"""Arrays into a Slurm job by each of its ways, and to a machine behind ssh; beside plain ``cat`` through the very same commands. Real Slurm and sshd, here.

Both ends of a stream, all that encrypts and all that copies share this machine's processors, which no cluster's do: only the ratios within one run
tell something. Before each measurement memory is taken, touched and given back, as in `data`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tests.lab.lab import Lab

from benchmarks.data import ready, timed
from benchmarks.remote import PATIENCE, Places, lab, load, places, speed
from benchmarks.report import Row
from benchmarks.rivals import Reached
from jupyter_remote_gpu.clusters.options import StreamWay
from jupyter_remote_gpu.clusters.slurm_streams import within_job
from jupyter_remote_gpu.models import Allocation, SessionId
from remote_gpu.gateway import Gateway
from remote_gpu.transfer.door import connect_data
from remote_gpu.transfer.frames import slices, write_all
from remote_gpu.transfer.transfers import Transfers

MIB = 1 << 20
_THERE = "/dev/shm/zeros"
BOX, WAYS = "box", ("ssh", "scratch", "srun")
_SERVE = """
import os
from pathlib import Path
from remote_gpu.node.serving import serve
held = memoryview(bytearray(os.urandom({block}) * {blocks}))
server = serve(Path(get_ipython().kernel.parent.connection_file).parent, lambda wanted: ({{}}, b"", [held]))
"""


class Moving:
    """A session, and what moves arrays for it."""

    def __init__(self, client: Gateway, cluster: str, size: int) -> None:
        self._client = client
        info = client.start_session(cluster=cluster, name=f"ways-{cluster}", wait=60)
        while info.state.upper() == "PENDING":
            info = client.session(info.id, wait=20, seen=info.state)
        attachment = client.attach(info.id)
        self.id, self.node, self.job = info.id, info.node, ""
        self._kernel = Reached(json.loads(attachment.connection_file.read_text()))
        self._kernel.run(_SERVE.format(block=MIB, blocks=size // MIB))
        self.transfers = Transfers(lambda: connect_data(client.record.socket, info.id, attachment.id))

    def push(self, array: np.ndarray[Any, Any]) -> float:
        """Seconds to have a new array there, in its memory."""
        array[:8] = np.frombuffer(os.urandom(8), np.uint8)  # no blob of an earlier round
        return timed(lambda: self.transfers.put_missing([memoryview(array)]))

    def pull(self) -> float:
        """Seconds to fetch the kernel's array into fresh memory."""
        return timed(lambda: self.transfers.fetch("held"))

    def close(self) -> None:
        """End it all."""
        self.transfers.close()
        self._kernel.close()
        self._client.stop_session(self.id)


class Cat:
    """A command on a host over `master`, run by `within`: ``cat`` with nothing of ours."""

    def __init__(self, host: str, master: str, within: Callable[[Sequence[str]], list[str]] = list, into: str = "/dev/null") -> None:
        self._ssh = ["ssh", "-S", master, "-o", "ControlMaster=no", "-o", "BatchMode=yes", host]
        self._within = within
        self._into = into

    def push(self, array: np.ndarray[Any, Any]) -> float:
        """Seconds until all of it has been read there, and forgotten or written."""
        with self._ready("", f"cat > {self._into}; echo done; test -c {self._into} || rm {self._into}") as stream:
            return timed(lambda: _push(stream, memoryview(array)))

    def pull(self, size: int) -> float:
        """Seconds until `size` bytes of there are in fresh memory here."""
        with self._ready(f"head -c {size} /dev/zero > {_THERE}", f"read line; cat {_THERE}; rm {_THERE}") as stream:
            return timed(lambda: _pull(stream, size))

    @contextlib.contextmanager
    def _ready(self, before: str, script: str) -> Iterator[socket.socket]:
        here, there = socket.socketpair()
        for each in (here, there):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
        command = [*self._ssh, shlex.join(self._within(["sh", "-c", f"{before or 'true'}; echo ready; {script}"]))]
        with there:
            process = subprocess.Popen(command, stdin=there, stdout=there, stderr=subprocess.DEVNULL)
        with here:
            here.settimeout(PATIENCE)
            assert here.recv(100) == b"ready\n"
            here.setblocking(True)
            yield here
        process.wait(PATIENCE)


def _push(stream: socket.socket, view: memoryview) -> None:
    for piece in slices(view):
        write_all(stream.fileno(), piece)
    stream.shutdown(socket.SHUT_WR)
    assert stream.recv(100) == b"done\n"


def _pull(stream: socket.socket, size: int) -> None:
    stream.sendall(b"go\n")
    fresh, at = memoryview(np.empty(size, np.uint8)), 0
    while at < size:
        count = stream.recv_into(fresh[at:])
        assert count
        at += count


def by_hand(cat: Cat, step: Cat, folder: str) -> Cat:
    """What people do with a shared folder: copy the whole into it, then read it in the job."""

    class ByHand(Cat):
        def push(self, array: np.ndarray[Any, Any]) -> float:
            with cat._ready("", f"cat > {folder}/by-hand; echo done") as stream:  # noqa: SLF001
                there = timed(lambda: _push(stream, memoryview(array)))
            began = time.perf_counter()
            with step._ready("", f"cat {folder}/by-hand > /dev/null; rm {folder}/by-hand"):  # noqa: SLF001
                pass
            return there + time.perf_counter() - began

        def pull(self, size: int) -> float:
            began = time.perf_counter()
            with step._ready("", f"dd if=/dev/zero of={folder}/by-hand bs=1M count={size // MIB}"):  # noqa: SLF001
                pass
            there = time.perf_counter() - began
            with cat._ready("", f"read line; cat {folder}/by-hand; rm {folder}/by-hand") as stream:  # noqa: SLF001
                return there + timed(lambda: _pull(stream, size))

    return ByHand("", "")


def clusters(site: Lab, scratch: str) -> dict[str, Any]:
    """The box, and one Slurm cluster per way."""
    shared = {"kind": "slurm", "host": "bristol", "python": str(site.python), "account": "dri", "partition": "hopper", "scratch": scratch}
    request = {"time": 3600, "memory_mb": 2000}
    return {
        BOX: {"kind": "ssh", "host": "box", "python": str(site.python)},
        **{way: {**shared, "request": request, "data": way} for way in WAYS},
    }


def rivals(site: Lab, mine: Places, moving: dict[str, Moving], scratch: str) -> dict[str, Cat]:
    """For each way the same command, with ``cat`` in it."""
    master = mine.master("bristol")
    found = {BOX: Cat("box", mine.master("box"))}
    plain = Cat("bristol", master)
    for way in WAYS:
        ((job, _),) = [(job, name) for job, name in _jobs(site) if name.endswith(moving[way].id)]
        allocation = Allocation("bristol", SessionId(moving[way].id), node=moving[way].node, job_id=job)
        step = Cat("bristol", master, lambda argv, a=allocation: within_job(StreamWay.SRUN, a, argv))  # type: ignore[misc]
        over = Cat("bristol", master, lambda argv, a=allocation: within_job(StreamWay.SSH, a, argv))  # type: ignore[misc]
        found[way] = {"ssh": over, "srun": step, "scratch": by_hand(plain, step, scratch)}[way]
    return found


def _jobs(site: Lab) -> list[tuple[str, str]]:
    lines = site.bristol.slurm("squeue", "-h", "-o", "%i %j").stdout.splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


GOALS = {BOX: "≥ 0.85 × cat", "ssh": "≥ 0.85 × cat", "scratch": "≥ 1 × by hand, ≥ 1.5 × srun", "srun": "≥ 0.85 × cat"}
_NAMES = {BOX: "ssh box cat", "ssh": "ssh bristol ssh NODE cat", "scratch": "cat to the folder, then cat in a step", "srun": "srun cat"}


def compared(case: str, ours: Moving, rival: Cat, keeps: Cat | None, array: np.ndarray[Any, Any], count: int) -> list[Row]:
    """Rates of both, by turns, in both directions, after a first round that is not counted; `keeps` is a rival whose bytes stay there, too."""
    size = array.nbytes
    ours_name, rival_name = f"remote_gpu, {case}", _NAMES[case]
    cases: dict[tuple[str, str], Callable[[], float]] = {
        ("to the node", rival_name): lambda: rival.push(array),
        **({("to the node", f"{rival_name} > memory"): lambda: keeps.push(array)} if keeps else {}),
        ("to the node", ours_name): lambda: ours.push(array),
        ("from the node", rival_name): lambda: rival.pull(size),
        ("from the node", ours_name): ours.pull,
    }
    values: dict[tuple[str, str], list[float]] = {key: [] for key in cases}
    for turn in range(count + 1):
        for key, measured in cases.items():
            ready(size)
            seconds = measured()
            if turn:
                values[key].append(size / seconds / 1e9)
    return [
        Row(
            f"{size >> 20} MiB {direction}",
            who,
            "GB/s",
            tuple(found),
            rival_name if who == ours_name else "",
            GOALS[case] if who == ours_name else "",
            load(f"worst {min(found):.3f}"),
        )
        for (direction, who), found in values.items()
    ]


def measure(quick: bool = False) -> list[Row]:
    """All ways by turns."""
    count = 1 if quick else 3
    sizes = {case: (1024 if case == BOX else 256) * MIB // (8 if quick else 1) for case in (BOX, *WAYS)}
    rows = [speed()]
    with lab() as site, contextlib.ExitStack() as stack:
        scratch = site.folder / "scratch-of-ways"
        scratch.mkdir(exist_ok=True)
        os.chown(scratch, site.alice.uid, site.alice.gid)
        mine = stack.enter_context(places(site, clusters(site, str(scratch))))
        client = Gateway(stack.enter_context(mine.gateway()))
        moving = {}
        for case, size in sizes.items():
            moving[case] = Moving(client, case, size)
            stack.callback(moving[case].close)
        against = rivals(site, mine, moving, str(scratch))
        for case, size in sizes.items():
            array = np.frombuffer(bytearray(os.urandom(MIB)) * (size // MIB), np.uint8)
            keeps = Cat("box", mine.master("box"), into=_THERE) if case == BOX else None
            rows += compared(case, moving[case], against[case], keeps, array, count)
    return [*rows, speed()]
