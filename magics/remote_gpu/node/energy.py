"""The energy that this process's GPUs take during a run: counted by the GPUs themselves where they do (NVML), else estimated and called so.

It is that of the whole board, with whatever else runs on it and with what it takes for doing nothing. A run that is over within `SHORT` seconds has
none: the counters move about ten times a second. Reading costs such a run nothing, for the first reading is taken beside it, by a thread of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from remote_gpu.node.gpus import Gpu, find_gpus, visible_gpus
from remote_gpu.power import IDLE_SHARE, board_power

__all__ = ["SHORT", "Board", "Meter", "boards"]

SHORT = 0.5
_BEGIN_AFTER = 0.1
_MILLIJOULES = 3.6e6  # in a watt hour
_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_TEXT = 96  # bytes of a name or UUID; NVML's own limit
_SOURCES = {
    "nvml": "counted by the GPU (NVML total energy)",
    "power_estimate": "estimated from the GPU's power at the beginning and the end",
    "utilisation_estimate": "estimated from the board's power limit and the GPU's utilisation at the end",
    "tdp_estimate": "estimated from the board's power limit: at most this",
}
"""Methods, the best first."""


class Board:
    """One GPU. Each reading is None where it cannot be had: `energy` in mJ since the driver was loaded, `power` in W, `busy` from 0 to 1."""

    def __init__(self, name: str) -> None:
        self.name = name

    def energy(self) -> float | None:
        """Counted by the GPU."""
        return None

    def power(self) -> float | None:
        """Drawn now."""
        return None

    def busy(self) -> float | None:
        """The share of the last moment in which something ran."""
        return None


class Meter:
    """Measures one run after another. `open_boards` finds the GPUs, beside the first run."""

    def __init__(self, open_boards: Callable[[], Sequence[Board]] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_boards = open_boards or boards
        self._clock = clock
        self._possible = open_boards is not None or any(Path(device).exists() for device in _DEVICES)
        self._boards: Sequence[Board] = ()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._began = 0.0
        self._run = 0
        self._first: tuple[int, float, list[tuple[float | None, float | None]]] | None = None

    def begin(self) -> None:
        """A run begins."""
        if not self._possible:
            return
        self._run += 1
        self._began = self._clock()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._read, name="Energy", daemon=True)
            self._thread.start()
        self._wake.set()

    def end(self) -> dict[str, Any] | None:
        """It is over: ``energy_wh``, ``energy_method`` (a key of the table above), ``estimated``, ``gpus`` and ``source``; None for nothing to tell."""
        with contextlib.suppress(OSError, ValueError, ctypes.ArgumentError):  # a driver must not fail a run
            return self._ended()
        return None

    def close(self) -> None:
        """Measure nothing any more."""
        self._possible = False
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _ended(self) -> dict[str, Any] | None:
        ended, first, run = self._clock(), self._first, self._run
        self._run += 1  # what the thread still reads belongs to no run
        if not self._possible or first is None or first[0] != run or ended - self._began < SHORT:
            return None
        share = (ended - self._began) / max(1e-9, ended - first[1])
        parts = [_taken(board, *before, ended - first[1]) for board, before in zip(self._boards, first[2], strict=True)]
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):  # a sum that leaves GPUs out would be too small
            return None
        method = max((method for method, _ in known), key=list(_SOURCES).index)
        energy = share * sum(part for _, part in known)
        return {
            "energy_wh": float(f"{energy:.2g}"),
            "energy_method": method,
            "estimated": method != "nvml",
            "gpus": len(known),
            "source": _SOURCES[method],
        }

    def _read(self) -> None:
        """The thread: find the GPUs, then take the first reading of each run that lasts."""
        with contextlib.suppress(Exception):  # a driver that fails in its own way leaves a run without a figure, and nothing else
            self._boards = self._open_boards()
        self._possible = self._possible and bool(self._boards)
        while self._possible:
            self._wake.wait()
            self._wake.clear()
            run = self._run
            time.sleep(_BEGIN_AFTER)
            if run == self._run:
                readings = [(board.energy(), board.power()) for board in self._boards]
                self._first = (run, self._clock(), readings)


def _taken(board: Board, energy: float | None, power: float | None, seconds: float) -> tuple[str, float] | None:
    """(method, watt hours) of one GPU over `seconds`, with its readings at their beginning."""
    now = board.energy()
    if energy is not None and now is not None and now >= energy:
        return "nvml", (now - energy) / _MILLIJOULES
    hours, drawn = seconds / 3600, board.power()
    if power is not None and drawn is not None:
        return "power_estimate", hours * (power + drawn) / 2
    limit, busy = board_power(board.name), board.busy()
    if limit is None:
        return None
    if busy is not None:
        return "utilisation_estimate", hours * limit * (IDLE_SHARE + (1 - IDLE_SHARE) * min(1.0, busy))
    return "tdp_estimate", hours * limit


def boards(environment: dict[str, str] | None = None) -> Sequence[Board]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES have them."""
    env = dict(os.environ) if environment is None else environment
    nvml = _nvml()
    if nvml is None:
        return [Board(gpu.name) for gpu in find_gpus(env)]
    wanted = env.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if wanted[0].strip().startswith("MIG-"):
        return [
            _Nvidia(nvml, handle)
            for name in wanted
            if (handle := _handle(nvml.nvmlDeviceGetHandleByUUID, name.strip().encode())) is not None
        ]
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found = [
        _Nvidia(nvml, handle) for index in range(count.value) if (handle := _handle(nvml.nvmlDeviceGetHandleByIndex_v2, index)) is not None
    ]
    by_uuid = {board.uuid: board for board in found}
    return [by_uuid[gpu.uuid] for gpu in visible_gpus([Gpu(board.name, 0, "cuda", board.uuid) for board in found], env)]


class _Nvidia(Board):
    def __init__(self, nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._nvml, self._at = nvml, handle
        super().__init__(self._text(nvml.nvmlDeviceGetName))
        self.uuid = self._text(nvml.nvmlDeviceGetUUID)

    def energy(self) -> float | None:
        """nvmlDeviceGetTotalEnergyConsumption: Volta and newer, whole GPUs."""
        return self._number(self._nvml.nvmlDeviceGetTotalEnergyConsumption, ctypes.c_ulonglong())

    def power(self) -> float | None:
        """nvmlDeviceGetPowerUsage, in mW there."""
        milliwatts = self._number(self._nvml.nvmlDeviceGetPowerUsage, ctypes.c_uint())
        return None if milliwatts is None else milliwatts / 1000

    def busy(self) -> float | None:
        """nvmlDeviceGetUtilizationRates: (GPU, memory) in percent."""
        rates = (ctypes.c_uint * 2)()
        return rates[0] / 100 if self._nvml.nvmlDeviceGetUtilizationRates(self._at, rates) == 0 else None

    def _number(self, ask: Any, value: ctypes.c_ulonglong | ctypes.c_uint) -> float | None:
        return float(value.value) if ask(self._at, ctypes.byref(value)) == 0 else None

    def _text(self, ask: Any) -> str:
        text = ctypes.create_string_buffer(_TEXT)
        return text.value.decode(errors="replace") if ask(self._at, text, ctypes.c_uint(_TEXT)) == 0 else ""


def _nvml() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            if library.nvmlInit_v2() == 0:
                return library
    return None


def _handle(ask: Any, which: int | bytes) -> ctypes.c_void_p | None:
    handle = ctypes.c_void_p()
    return handle if ask(which, ctypes.byref(handle)) == 0 else None
