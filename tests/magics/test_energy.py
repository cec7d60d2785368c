"""The energy of a run: counted where GPUs count, estimated and called so elsewhere, and in the run record."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from remote_gpu.execution import Execution
from remote_gpu.messages import Message
from remote_gpu.node import energy
from remote_gpu.node.energy import SHORT, Board, Meter, boards
from remote_gpu.power import board_power
from remote_gpu.record import RECORD_MIME, energy_of, record_bundle
from remote_gpu.running import Running

COUNTED = {"energy_wh": 0.88, "energy_method": "nvml", "estimated": False, "gpus": 1, "source": "counted by the GPU (NVML total energy)"}


class Told(Board):
    """A GPU that says what it is told to: readings in their order, the last one for ever."""

    def __init__(self, name: str = "NVIDIA H200", energy: tuple = (None,), power: tuple = (None,), busy: float | None = None) -> None:
        super().__init__(name)
        self._energy, self._power, self._busy = list(energy), list(power), busy
        self.read = threading.Event()

    def energy(self) -> float | None:
        return self._energy.pop(0) if len(self._energy) > 1 else self._energy[0]

    def power(self) -> float | None:
        self.read.set()
        return self._power.pop(0) if len(self._power) > 1 else self._power[0]

    def busy(self) -> float | None:
        return self._busy


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(*told: Told, seconds: float = 3600.0) -> dict | None:
    """What is told of a run that lasts so long, by a clock that is moved."""
    clock = Clock()
    meter = Meter(lambda: told, clock)
    meter.begin()
    for each in told:
        assert each.read.wait(5)
    deadline = time.monotonic() + 5
    while meter._first is None and time.monotonic() < deadline:
        time.sleep(0.001)
    clock.now = seconds
    try:
        return meter.end()
    finally:
        meter.close()


def test_a_gpu_that_counts_is_believed():
    assert run(Told(energy=(1000.0, 1000.0 + 3.6e6 * 0.5))) == {**COUNTED, "energy_wh": 0.5}


def test_the_gpus_of_a_run_are_added_up():
    found = run(Told(energy=(0.0, 3.6e6)), Told(energy=(5.0, 5.0 + 3.6e6)))
    assert found is not None
    assert (found["energy_wh"], found["gpus"], found["estimated"]) == (2.0, 2, False)


@pytest.mark.parametrize(
    ("told", "method", "watt_hours"),
    [
        ({"power": (100.0, 300.0)}, "power_estimate", 200.0),
        ({"energy": (9e6, 1.0), "power": (100.0, 300.0)}, "power_estimate", 200.0),
        ({"busy": 0.25}, "utilisation_estimate", 230.0),
        ({"busy": 7.0}, "utilisation_estimate", 700.0),
        ({}, "tdp_estimate", 700.0),
        ({"name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb"}, "tdp_estimate", 100.0),
    ],
)
def test_what_is_not_counted_is_estimated_and_says_so(told, method, watt_hours):
    found = run(Told(**told))
    assert found is not None
    assert (found["energy_method"], found["energy_wh"], found["estimated"]) == (method, watt_hours, True)
    assert found["source"].startswith("estimated from")


def test_a_sum_is_only_as_good_as_its_worst_part():
    found = run(Told(energy=(0.0, 3.6e6)), Told(busy=1.0))
    assert found is not None
    assert found["energy_method"] == "utilisation_estimate"


def test_a_gpu_of_which_nobody_knows_anything_leaves_no_figure():
    assert run(Told("Abacus 9")) is None
    assert run(Told(energy=(0.0, 3.6e6)), Told("Abacus 9")) is None


def test_a_short_run_has_no_figure():
    assert run(Told(energy=(0.0, 3.6e6)), seconds=SHORT / 2) is None


def test_without_a_gpu_there_is_nothing_and_no_thread(monkeypatch):
    monkeypatch.setattr(energy, "_DEVICES", ())
    meter = Meter()
    meter.begin()
    assert meter.end() is None
    assert not [thread for thread in threading.enumerate() if thread.name == "Energy"]


def test_a_driver_that_fails_leaves_runs_without_a_figure():
    def broken():
        raise OSError("no driver")

    meter = Meter(broken)
    meter.begin()
    meter._thread.join(5)
    assert meter.end() is None
    meter.begin()
    assert not meter._thread.is_alive()


def test_a_board_that_fails_does_not_fail_the_run():
    class Failing(Told):
        def busy(self) -> float | None:
            raise OSError("gone")

    assert run(Failing()) is None


def test_short_runs_cost_next_to_nothing():
    meter = Meter(lambda: [Told(energy=(0.0, 1.0))])
    meter.begin()
    began = time.process_time()
    for _ in range(1000):
        meter.begin()
        meter.end()
    assert time.process_time() - began < 0.2
    meter.close()


def test_a_machine_without_nvidia_s_library_names_what_it_finds(monkeypatch):
    monkeypatch.setattr(energy, "_LIBRARIES", ("libnone.so.9",))
    monkeypatch.setattr(energy, "find_gpus", lambda env: [energy.Gpu("AMD Instinct MI300X", 196608, "rocm")])
    (board,) = boards({})
    assert (board.name, board.energy(), board.power(), board.busy()) == ("AMD Instinct MI300X", None, None, None)


@pytest.mark.parametrize(
    ("model", "watts"),
    [
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA H100 PCIe", 350),
        ("NVIDIA H200 NVL", 600),
        ("h100", 700),
        ("NVIDIA GH200 120GB", 700),
        ("L40S", 350),
        ("L40", 300),
        ("NVIDIA GeForce RTX 4090", 450),
        ("Intel(R) Data Center GPU Max 1550", 600),
        ("a100_3g.20gb", 400 * 3 / 7),
        ("", None),
        ("Abacus 9", None),
    ],
)
def test_the_power_of_a_board_is_found_by_what_it_is_called(model, watts):
    assert board_power(model) == watts


def said(**content) -> Message:
    return Message("iopub", "remote_gpu_energy", "id", "m", content)


def recorded(content: dict) -> dict:
    execution = Execution("m")
    assert execution.feed(said(**content)) == ()
    running = Running(execution, None, {"cluster": "local", "gpu": "1 × NVIDIA H200"})
    return record_bundle(running)


def test_the_run_record_has_it():
    found = recorded(COUNTED)
    assert found[RECORD_MIME]["energy"] == COUNTED
    assert " · 0.88 Wh" in found["text/plain"]


def test_an_estimate_is_called_one():
    found = recorded({**COUNTED, "energy_method": "tdp_estimate", "estimated": True})
    assert "about 0.88 Wh (estimated)" in found["text/plain"]


def test_a_run_without_a_gpu_has_none():
    assert "energy" not in record_bundle(Running(Execution("m"), None, {}))[RECORD_MIME]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {**COUNTED, "energy_wh": -1},
        {**COUNTED, "energy_wh": "nan"},
        {**COUNTED, "energy_wh": 1e12},
        {**COUNTED, "energy_wh": [1]},
        {**COUNTED, "gpus": 0},
        {**COUNTED, "gpus": 10**9},
        {key: value for key, value in COUNTED.items() if key != "source"},
    ],
)
def test_what_a_node_cannot_mean_is_not_recorded(content):
    assert energy_of(content) is None


def test_what_a_node_says_is_cut_to_size():
    found = energy_of({**COUNTED, "source": "x" * 10**6, "more": "y", "energy_wh": 0.123456, "estimated": "yes"})
    assert found is not None
    assert (len(found["source"]), found["energy_wh"], found["estimated"], "more" in found) == (120, 0.12, True, False)


def test_the_node_s_modules_need_no_package():
    text = Path(sys.modules[Meter.__module__].__file__ or "").read_text()
    assert "pynvml" not in text
