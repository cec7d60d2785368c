"""What a new session is asked for, and what matters for where: the options that say so, from their text to the gateway's ``Request`` and ``Demand``."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["NOTHING", "OPTIONS", "WHERE_OPTIONS", "Option", "Request", "parse_size", "parse_time", "request_of"]

_MIB = {"M": 1, "G": 1024, "T": 1024**2}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([MGT])(?:I?B)?", re.IGNORECASE)
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_UNITS = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s)?", re.IGNORECASE)
_SLURM = re.compile(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?")
_DAY, _HOUR, _MINUTE = 86400, 3600, 60


@dataclass(frozen=True, slots=True)
class Request:
    """What a session needs, on each of `nodes` nodes: memory in MiB, `time` in seconds. What is None, 0 or "" is left to the cluster.

    From `prefer` on, it is what matters for the choice of a cluster alone; the last two say how several are asked. False when nothing is asked for.
    """

    gpus: int | None = None
    gpu_model: str = ""
    gpu_memory_mb: int = 0
    cpus: int = 0
    memory_mb: int = 0
    time: int = 0
    nodes: int = 0
    exclusive: bool = False
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    prefer: str = ""
    countries: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    internet: bool = False
    cpu_arch: str = ""
    accelerator: str = ""
    project: str = ""
    data_class: str = ""
    run_seconds: int = 0
    fallback: bool = False
    race: int = 0

    def __bool__(self) -> bool:
        return self != NOTHING

    def json(self) -> dict[str, Any]:
        """The API's ``Request``: what is asked for, and no more."""
        return {name: value for name, value in self._given().items() if name not in _DEMAND | _HOW}

    def demand(self) -> dict[str, Any]:
        """The API's ``Demand``: what matters beside that."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in self._given().items() if name in _DEMAND}
        return {**found, "prefer": _weights(self.prefer)} if "=" in self.prefer else found

    def how(self) -> dict[str, Any]:
        """How the clusters are asked, as the start of a session has it."""
        return {name: value for name, value in self._given().items() if name in _HOW}

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value or (name == "gpus" and value is not None)}


_DEMAND = frozenset(
    {"prefer", "countries", "only", "exclude", "internet", "cpu_arch", "accelerator", "project", "data_class", "run_seconds"}
)

_HOW = frozenset({"fallback", "race"})

NOTHING = Request()
"""Everything is left to the cluster."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: the field of `Request` that it sets, and what it needs, in words. `parse` raises `ValueError`; None marks a switch."""

    field: str
    needs: str = ""
    parse: Callable[[str], Any] | None = None

    @property
    def takes_value(self) -> bool:
        """False for a switch."""
        return self.parse is not None


def parse_size(text: str) -> int:
    """``64G``, ``512M``, ``1.5T`` in MiB, rounded up; G is GiB. Raises `ValueError` for anything else, also for a number without a unit."""
    found = _SIZE.fullmatch(text.strip())
    size = math.ceil(float(found[1]) * _MIB[found[2].upper()]) if found is not None else 0
    return _positive(size, text)


def parse_time(text: str) -> int:
    """``2h``, ``90m``, ``1d12h``, or a time as sbatch(1) has it (minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S), in seconds, rounded up.

    Raises `ValueError`.
    """
    return _positive(_in_units(text.replace(" ", "")) or _of_slurm(text.strip()), text)


def _in_units(text: str) -> int:
    found = _UNITS.fullmatch(text)
    parts = found.groups() if found is not None else ()
    return math.ceil(sum(float(part) * unit for part, unit in zip(parts, (_DAY, _HOUR, _MINUTE, 1), strict=False) if part))


def _of_slurm(text: str) -> int:
    found = _SLURM.fullmatch(text)
    if found is None:
        return 0
    days, first, second, third = found.groups()
    parts = [int(part) for part in (first, second, third) if part is not None]
    units = (_MINUTE, 1) if days is None and third is None else (_HOUR, _MINUTE, 1)
    return int(days or 0) * _DAY + sum(part * unit for part, unit in zip(parts, units, strict=False))


def _positive(value: int, text: str) -> int:
    if value < 1:
        raise ValueError(text)
    return value


def _number(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ValueError(text)
    return int(text)


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text.strip()


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ValueError(text)
    return words


def _prefer(text: str) -> str:
    if "=" in text:
        _weights(text)
    elif text not in _PREFERENCES:
        raise ValueError(text)
    return text


def _weights(text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in _words(text)]
    if any(term not in _TERMS for term, _, _ in pairs):
        raise ValueError(text)
    return {term: float(weight) for term, _, weight in pairs}


_PREFERENCES = ("soonest", "cheapest", "greenest", "nearest")
_TERMS = ("time", "cost", "carbon", "distance")
_SIZES = "a size such as 64G, 512M or 1.5T"
_TIMES = "a time such as 2h, 90m or 1d12h, or one as Slurm has it (90 is minutes; 1:30:00; 1-12)"
_COUNT = "a number of at least 1"

OPTIONS: Mapping[str, Option] = {
    "--gpus": Option("gpus", "a number of GPUs (0 is none)", functools.partial(_number, least=0)),
    "--gpu": Option("gpu_model", "a model, as in %remote_gpu clusters", _word),
    "--gpu-memory": Option("gpu_memory_mb", _SIZES, parse_size),
    "--cpus": Option("cpus", _COUNT, _number),
    "--memory": Option("memory_mb", _SIZES, parse_size),
    "--time": Option("time", _TIMES, parse_time),
    "--nodes": Option("nodes", _COUNT, _number),
    "--exclusive": Option("exclusive"),
    "--partition": Option("partition", "a partition", _word),
    "--account": Option("account", "an account", _word),
    "--qos": Option("qos", "a quality of service", _word),
    "--constraint": Option("constraint", "features of nodes", _word),
    "--reservation": Option("reservation", "a reservation", _word),
    "--prefer": Option("prefer", f"one of {', '.join(_PREFERENCES)}, or weights such as time=1,cost=0.5 (of {', '.join(_TERMS)})", _prefer),
    "--only": Option("only", "clusters, separated by commas", _words),
    "--exclude": Option("exclude", "clusters, separated by commas", _words),
    "--countries": Option("countries", "countries as GB,CA", _words),
    "--internet": Option("internet"),
    "--arch": Option("cpu_arch", "a CPU architecture, as x86_64 or aarch64", _word),
    "--accelerator": Option("accelerator", "an API, as cuda, rocm or xpu", _word),
    "--project": Option("project", "a project", _word),
    "--data-class": Option("data_class", "a class of data", _word),
    "--runs": Option("run_seconds", _TIMES, parse_time),
    "--fallback": Option("fallback"),
    "--race": Option("race", "a number of clusters, at least 2", functools.partial(_number, least=2)),
}
"""The options by their names, in the order in which help and completion have them."""


WHERE_OPTIONS = tuple(name for name, option in OPTIONS.items() if option.field not in _HOW)
"""Those that matter where nothing is started."""


def request_of(values: Mapping[str, str]) -> Request:
    """What the given options ask for; a switch has any value. Raises `ValueError`."""
    given: dict[str, Any] = {}
    for name, text in values.items():
        if (option := OPTIONS.get(name)) is not None:
            given[option.field] = option.parse(text) if option.parse is not None else True
    return Request(**given)
