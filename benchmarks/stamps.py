"""Where a start's time goes: stamps of the gateway (see `traced`), of Slurm's daemons, and of the files that a supervisor makes, in one row of phases."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.lab.lab import Lab
from tests.lab.slurm import Cluster

_TICKS = 100.0
SLURMS = "Slurm, until a node has the job"
Stamps = list[tuple[str, float]]
"""What had just ended at which time of day, in order."""


def events(log: Path, since: float) -> list[dict[str, Any]]:
    """What a traced gateway wrote down after `since`."""
    found = (json.loads(line) for line in log.read_text().splitlines())
    return [event for event in found if event["at"] >= since]


def when(found: list[dict[str, Any]], what: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> float:
    """The time of the first event of that kind that fits; raises LookupError."""
    for event in found:
        if event["what"] == what and fits(event):
            return float(event["at"])
    raise LookupError(what)


def step(detail: str) -> Callable[[dict[str, Any]], bool]:
    """Fits a step of a launch whose detail begins so; "" fits the one that says that it runs."""
    return lambda event: event["detail"].startswith(detail) if detail else event["state"] == "running"


def has(*kinds: str) -> Callable[[dict[str, Any]], bool]:
    """Fits frames with one of these kinds among them."""
    return lambda event: any(kind in event["frames"] for kind in kinds)


def of_slurm(found: list[dict[str, Any]], sent: float, seen: float, site: Lab, folder: Path) -> tuple[Stamps, Stamps]:
    """(the phases of a start in Slurm, one after the other; what went on beside them)."""
    job = next(event["job"] for event in found if event["what"] == "step" and event.get("job"))
    launched = launch_of(site.bristol, job)
    state = json.loads((folder / "state.json").read_text())
    answered = when(found, "in", has("EVENT session"))
    phases = [
        ("", sent),
        ("notebook, until the gateway is asked", when(found, "request")),
        ("login and agent", when(found, "step", step("Asking Slurm"))),
        ("sbatch", when(found, "step", step("Submitted"))),
        (SLURMS, launched),
        ("Slurm's step daemon, until the script runs", since_boot(state["start_time"])),
        ("Python, until the supervisor listens", state["started"]),
        ("imports, until it answers", answered),
        ("attaching, until the cell is sent", when(found, "out", has("DATA"))),
        ("the cell, until its output is seen", seen),
    ]
    noticed = when(found, "step", lambda event: " runs on " in event["detail"])
    beside = [
        ("", launched),
        ("beside: the gateway notices that the job runs", noticed),
        ("beside: attach command, until it is answered", answered),
    ]
    return phases, beside


def of_ssh(found: list[dict[str, Any]], sent: float, seen: float) -> Stamps:
    """The phases of a start on a machine behind ssh."""
    return [
        ("", sent),
        ("notebook, until the gateway is asked", when(found, "request")),
        ("login and agent", when(found, "step", step("Starting"))),
        ("the node's start, until it listens", when(found, "step", step(""))),
        ("attach command, until it is answered", when(found, "in", has("EVENT session"))),
        ("attaching, until the cell is sent", when(found, "out", has("DATA"))),
        ("the cell, until its output is seen", seen),
    ]


def milliseconds(stamps: Stamps) -> Iterator[tuple[str, float]]:
    """How long each phase took."""
    for (_, before), (name, after) in pairwise(stamps):
        yield name, (after - before) * 1000


def since_boot(ticks: float) -> float:
    """A process's start time as the time of day; exact to a hundredth of a second."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / _TICKS


def launch_of(cluster: Cluster, job: str) -> float:
    """When a node of the cluster was given the batch job."""
    logs = (cluster.folder / "log").glob("slurmd.*.log")
    line = next(line for log in logs for line in log.read_text().splitlines() if f"Launching batch job {job} " in line)
    found = re.match(r"\[([\d:T.-]+)\]", line)
    assert found
    return datetime.fromisoformat(found[1]).astimezone().timestamp()


def medians(rounds: list[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """The values of each phase over the rounds."""
    return {name: tuple(each[name] for each in rounds) for name in rounds[0]}
