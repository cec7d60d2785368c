"""Slurm's spellings of time and memory: what its options take, and what its commands print (sbatch(1), squeue(1))."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["parse_epoch", "parse_memory", "parse_moment", "parse_time", "render_memory", "render_time"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[KMGTP]?)[bB]?[nc]?", re.IGNORECASE)
_IN_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}


def render_time(seconds: int) -> str:
    """A time limit as ``[days-]hours:minutes:seconds``, rounded up to whole minutes: Slurm itself counts in these."""
    minutes = max(1, -(-seconds // _MINUTE))
    days, minutes = divmod(minutes, _DAY // _MINUTE)
    hours, minutes = divmod(minutes, _HOUR // _MINUTE)
    text = f"{hours:02}:{minutes:02}:00"
    return f"{days}-{text}" if days else text


def parse_time(text: str) -> int | None:
    """The seconds of any of Slurm's forms (``5:00``, ``1-00:00:00``, ``30``); None for ``UNLIMITED`` and the like.

    A number alone, and the first of two without days, are minutes; behind days, the first is hours.
    """
    found = _TIME.fullmatch(text.strip())
    if not found:
        return None
    numbers = [int(number) for number in found["rest"].split(":")]
    if found["days"] is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return int(found["days"]) * _DAY + hours * _HOUR + minutes * _MINUTE + seconds
    if len(numbers) == 1:
        return numbers[0] * _MINUTE
    hours, minutes, seconds = (0, *numbers)[-3:]
    return hours * _HOUR + minutes * _MINUTE + seconds


def parse_epoch(text: str) -> float:
    """Seconds since the epoch as SLURM_TIME_FORMAT=%s prints them; 0.0 for ``Unknown``, ``N/A`` and a date in words.

    A date without its time zone says nothing: the cluster may stand on another continent.
    """
    return float(text) if text.strip().isdecimal() else 0.0


def parse_moment(text: str, ahead: float | None) -> float:
    """As `parse_epoch`, and a date and time (``2026-11-27T12:00:00``) of a place whose clock is `ahead` of UTC by so many seconds; None: nobody knows."""
    if (epoch := parse_epoch(text)) or ahead is None:
        return epoch
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp() - ahead
    except ValueError:
        return 0.0


def render_memory(mib: int) -> str:
    """Memory as ``--mem`` takes it."""
    return f"{mib}M"


def parse_memory(text: str) -> int:
    """The MiB of ``100M``, ``62.50G``, ``4Gn`` (memory per node) or a bare number; 0 for anything else."""
    found = _MEMORY.fullmatch(text.strip())
    return round(float(found["number"]) * _IN_MIB[found["unit"].upper()]) if found else 0
