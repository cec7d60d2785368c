"""What a long network path costs: 90 ms there and back, 0.1 % of packets lost. Most figures are in round trips, above the same near by.

Under loss TCP's congestion control decides how much goes through, so it is named beside each figure.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.far import Far
from tests.lab.lab import Lab

from benchmarks import stamps
from benchmarks.notebook import Notebook, notebook, rounds
from benchmarks.remote import Places, lab, load, places, speed
from benchmarks.report import Row
from remote_gpu.gateway import Gateway

LOAD = "%load_ext remote_gpu"
ONE_WAY_MS, LOSS_PPM = 45, 1000
SIZE, LESS = 64 << 20, 8 << 20
"""Bytes of an array; fewer where the path's loss lets no connection carry a megabyte in a second."""
MANY = 1000
PRINTS = f"for i in range({MANY}): print(i, flush=True)"
DISPLAYS = f"from IPython.display import HTML, display\nfor i in range({MANY}): display(HTML(str(i)))"
NEAR = {"far-ssh": "near-ssh", "far-slurm": "near-slurm"}
"""Each cluster at the other end, and its like here."""
_SPIN = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.005)"
_names = itertools.count()


def clusters(site: Lab) -> dict[str, Any]:
    """A machine by ssh and a Slurm cluster, near and far."""
    python, request = str(site.python), {"time": 900, "memory_mb": 1000}
    slurm = {"kind": "slurm", "python": python, "request": request}
    return {
        "near-ssh": {"kind": "ssh", "host": "box", "python": python},
        "near-slurm": {**slurm, "host": "bristol", "account": "dri", "partition": "hopper"},
        "far-ssh": {"kind": "ssh", "host": "far-box", "python": python},
        "far-slurm": {**slurm, "host": "far"},
    }


def round_trip(far: Far, count: int = 15) -> tuple[float, ...]:
    """Seconds that TCP takes to connect, which is one round trip."""
    port, values = far.sshd["far-box"].port, []
    for _ in range(count):
        began = time.perf_counter()
        with socket.create_connection((far.address, port)):
            values.append(time.perf_counter() - began)
    return tuple(values)


def use_congestion(far: Far, name: str) -> None:
    """Let new connections on the long path use this congestion control, at both ends; nothing else on the machine changes."""
    inside = ["nsenter", f"--net=/proc/{far.pid}/ns/net"]
    for where, source, target in (([], far.near_address, far.address), (inside, far.address, far.near_address)):
        words = subprocess.run([*where, "ip", "-o", "route", "get", target], capture_output=True, text=True, check=True).stdout.split()
        device = words[words.index("dev") + 1]
        route = [target, "dev", device, "proto", "kernel", "scope", "link", "src", source, "congctl", name]
        subprocess.run([*where, "ip", "route", "replace", *route], check=True)


@dataclass
class Path90:
    """One congestion control on the long path: who measures, and what was found."""

    site: Lab
    far: Far
    mine: Places
    congestion: str
    trip: float
    rows: list[Row]
    size: int = SIZE

    @property
    def named(self) -> str:
        """The size in words."""
        return f"{self.size >> 20} MB"

    def add(self, case: str, who: str, unit: str, values: tuple[float, ...], goal: str = "", note: str = "", base: str = "") -> None:
        """Keep a row."""
        self.rows.append(Row(f"{case}, {self.congestion}", who, unit, values, base, goal, load(note)))

    def trips(self, case: str, who: str, far: tuple[float, ...], near: tuple[float, ...], goal: str = "") -> None:
        """Keep how many round trips something takes longer over there (seconds in)."""
        near_by = statistics.median(near)
        note = f"{statistics.median(far) * 1000:.0f} ms, near by {near_by * 1000:.0f}"
        self.add(case, who, "round trips", tuple((value - near_by) / self.trip for value in far), goal, note)


def measure_path(path: Path90, count: int) -> None:
    """All cases."""
    log = path.mine.base / f"trace-{path.congestion}.jsonl"
    with path.mine.gateway(log) as record, Gateway(record) as client:
        for cluster in (*NEAR, *NEAR.values()):  # logins are made, the node's half is brought there
            name = client.start_session(cluster=cluster, name=f"first-{cluster}", wait=120).name
            client.stop_session(name)
    starts(path, log, max(2, count // 3))
    with path.mine.gateway(log) as record, Gateway(record) as client, contextlib.ExitStack() as stack:
        books = {}
        for cluster in (*NEAR, *NEAR.values()):
            books[cluster] = stack.enter_context(notebook(LOAD, f"%remote_gpu use {cluster}", "%%remote_gpu\npass"))
            stack.callback(stop, books[cluster])
        cells(path, books, count)
        reconnects(path, books, log, max(2, count // 3))
        for cluster in NEAR:
            bulk(path, books[cluster], cluster, max(1, count // 5))
            interrupts(path, client, books[cluster], cluster, max(1, count // 5))


def stop(book: Notebook) -> None:
    """End its session."""
    book.run("%remote_gpu stop")


def starts(path: Path90, log: Path, count: int) -> None:
    """First cells of new sessions, once nothing but the login is there, and once the agent runs, too."""
    found: dict[tuple[str, str], list[float]] = {}
    waits: dict[tuple[str, str], list[float]] = {}
    for _ in range(count):
        with path.mine.gateway(log) as record, Gateway(record) as client:
            for cluster, turn in itertools.product((*NEAR, *NEAR.values()), ("first", "second")):
                name = f"start-{next(_names)}"
                with notebook(LOAD) as book:
                    sent = time.time()
                    run = book.run(f"%%remote_gpu --cluster {cluster} --session {name}\nprint('seen')")
                    found.setdefault((cluster, turn), []).append(next(at for at, text in run.arrivals if "seen" in text) - sent)
                waits.setdefault((cluster, turn), []).append(slurms_wait(path, log, cluster, sent))
                client.stop_session(name)
    for (cluster, turn), values in found.items():
        if cluster in NEAR:
            case, near = f"{turn} session of a gateway, login made, to its first output", NEAR[cluster]
            own = [tuple(map(operator.sub, found[who, turn], waits[who, turn])) for who in (cluster, near)]
            path.trips(f"{case}, without Slurm's own wait" if any(waits[cluster, turn]) else case, cluster, own[0], own[1], "≤ 12")
            if any(waits[cluster, turn]):
                path.trips(case, cluster, tuple(values), tuple(found[near, turn]))


def slurms_wait(path: Path90, log: Path, cluster: str, since: float) -> float:
    """Seconds from the submission of the newest job to its launch: Slurm hands jobs out once a second, whoever waits. 0.0 without Slurm."""
    if "slurm" not in cluster:
        return 0.0
    found = stamps.events(log, since)
    job = next(event["job"] for event in found if event["what"] == "step" and event.get("job"))
    there = stamps.when(found, "step", stamps.step("Submitted")) - (path.trip / 2 if cluster in NEAR else 0.0)
    return max(0.0, stamps.launch_of(path.far.cluster if cluster in NEAR else path.site.bristol, job) - there)


def cells(path: Path90, books: dict[str, Notebook], count: int) -> None:
    """Warm cells: none of their outputs waits for an answer."""
    for case, code, times, goal in (
        ("no-op cell, warm", "pass", count * 2, "≤ 2"),
        (f"{MANY:,} prints", PRINTS, max(2, count // 3), "not paced"),
        (f"{MANY:,} displays", DISPLAYS, max(2, count // 3), "not paced"),
    ):
        cases = {who: (lambda book=book, code=code: book.run(f"%%remote_gpu\n{code}").total) for who, book in books.items()}
        values = rounds(times, cases, warm_up=2)
        for cluster, near in NEAR.items():
            path.trips(case, cluster, values[cluster], values[near], goal)


def reconnects(path: Path90, books: dict[str, Notebook], log: Path, count: int) -> None:
    """From a cut until the supervisor is heard again: the stream's own channel ends, or the whole connection."""
    for cluster, host in (("far-ssh", "far-box"), ("far-slurm", "far")):
        cuts: dict[str, Callable[[], Any]] = {
            "the channel": lambda cluster=cluster: os.kill(attach_command(log, cluster), signal.SIGTERM),
            "the connection": path.far.sshd[host].cut,
        }
        for what, cut in cuts.items():
            values = []
            for _ in range(count):
                books[cluster].run("%%remote_gpu\npass")
                began = time.time()
                cut()
                values.append(heard_again(log, began) - began)
                books[cluster].run("%%remote_gpu\npass")
            path.add(f"cut of {what}, until it is connected again", cluster, "round trips", tuple(each / path.trip for each in values))


def attach_command(log: Path, cluster: str) -> int:
    """The process that carries the newest stream to that cluster."""
    words = "ssh srun attach" if "slurm" in cluster else "ssh attach"
    hosts = {"far-ssh": b"far-box", "far-slurm": b"far"}
    for event in reversed(stamps.events(log, 0)):
        if event["what"] == "run" and event["words"] == words and Path(f"/proc/{event['pid']}").exists():
            argv = Path(f"/proc/{event['pid']}/cmdline").read_bytes().split(b"\0")
            if hosts[cluster] in argv:
                return int(event["pid"])
    raise LookupError(cluster)


def heard_again(log: Path, since: float) -> float:
    """When the next supervisor said where it runs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(LookupError):
            return stamps.when(stamps.events(log, since), "in", stamps.has("EVENT session"))
        time.sleep(0.05)
    raise TimeoutError("the link did not come back")


def bulk(path: Path90, book: Notebook, cluster: str, count: int) -> None:
    """An array to the node and back, beside scp of as many bytes on the same login."""
    megabytes = path.size / 1e6
    rates: dict[str, list[float]] = {}
    book.run(f"import numpy as np\nrandom = np.random.default_rng(0)\nSIZE = {path.size}")
    for turn in range(count):
        for what, make in (("random", "random.bytes(SIZE)"), ("compressible", f"np.arange(SIZE // 8) // 7 + {turn}")):
            book.run(f"array = np.frombuffer({make}, np.uint8)" if what == "random" else f"array = {make}")
            rates.setdefault(f"to the node, {what}", []).append(megabytes / book.run("%%remote_gpu\nthere = array + 1; None").total)
            rates.setdefault(f"back, {what}", []).append(megabytes / book.run("copy = there.fetch(); del copy").total)
        for way, seconds in scp(path, "far-box" if "ssh" in cluster else "far").items():
            rates.setdefault(way, []).append(megabytes / seconds)
    for what, values in rates.items():
        base = "" if what.startswith("scp") else f"scp {what.partition(',')[0]}"
        goal = "≥ 0.7 × scp" if "random" in what else "≥ 1 × scp" * (base != "")
        path.add(f"{path.named}, {cluster}", what, "MB/s", tuple(values), goal, base=base)


def scp(path: Path90, host: str) -> dict[str, float]:
    """Seconds that scp takes, each way, over the login that is there."""
    master, file = path.mine.master(host), path.mine.base / "bulk"
    file.write_bytes(os.urandom(path.size))
    words, there = ["scp", "-q", "-o", f"ControlPath={master}"], f"{host}:bulk-{os.getpid()}"
    found = {}
    for way, (source, target) in {"scp to the node": (str(file), there), "scp back": (there, str(file))}.items():
        began = time.perf_counter()
        subprocess.run([*words, source, target], check=True)
        found[way] = time.perf_counter() - began
    subprocess.run(["ssh", "-S", master, host, "rm", f"bulk-{os.getpid()}"], check=True)
    return found


def interrupts(path: Path90, client: Gateway, book: Notebook, cluster: str, count: int) -> None:
    """From the wish to the end of a cell that spins, alone and while another notebook of the session sends an array."""
    session = next(each for each in client.sessions() if each.cluster == cluster and each.state == "running")
    for busy in (False, True):
        values = []
        for _ in range(count):
            with sending(session.name, cluster, path.size) if busy else contextlib.nullcontext():
                values.append(interrupted(client, session.id, book))
        what = f"while {path.named} are on their way" if busy else "alone"
        path.add(f"interrupt, {cluster}", what, "round trips", tuple(value / path.trip for value in values))


def interrupted(client: Gateway, session: str, book: Notebook) -> float:
    """Seconds."""
    ended: list[float] = []

    def spin() -> None:
        with contextlib.suppress(RuntimeError):  # the interrupt
            book.run(f"%%remote_gpu\n{_SPIN}")
        ended.append(time.perf_counter())

    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(1.5)  # it runs by then
    began = time.perf_counter()
    client.interrupt(session)
    thread.join()
    return ended[0] - began


@contextlib.contextmanager
def sending(name: str, cluster: str, size: int) -> Iterator[None]:
    """Another notebook of the same session sends an array meanwhile: it has begun when the block does."""
    cell = f"%%remote_gpu --cluster {cluster} --session {name}\n"
    with notebook(LOAD, cell + "pass", f"import numpy as np\nlarge = np.frombuffer(np.random.bytes({size}), np.uint8)") as other:
        thread = threading.Thread(target=other.run, args=(cell + "large is None",))
        thread.start()
        yield
        thread.join()


def measure(quick: bool = False) -> list[Row]:
    """Both congestion controls: the machine's own with all rounds, then the one that most machines have."""
    count = 3 if quick else 15
    rows = [speed()]
    with lab() as site, site.far(ONE_WAY_MS, LOSS_PPM) as far:
        own = far.congestion
        for congestion in dict.fromkeys((own, "cubic")):
            use_congestion(far, congestion)
            with places(site, clusters(site)) as mine:
                trips = round_trip(far)
                path = Path90(site, far, mine, congestion, statistics.median(trips), rows, SIZE if congestion == own else LESS)
                path.add("a round trip", "TCP", "ms", tuple(trip * 1000 for trip in trips))
                measure_path(path, count if congestion == own else max(3, count // 3))
    return [*rows, speed()]
