"""How much room there is: memory (the control group's limit counts), and disk. Sizes in bytes."""

from __future__ import annotations

import os

__all__ = ["disk_free", "in_words", "memory_free", "memory_total"]

_UNKNOWN = 1 << 62
_GROUPS = "/sys/fs/cgroup"


def disk_free(folder: str) -> int:
    """What this user may still write below `folder`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def memory_free() -> int:
    """What can be taken without swapping: the machine's and that of the control groups that this process is in."""
    return min([_meminfo("MemAvailable"), *(limit - used for limit, used in _groups())])


def memory_total() -> int:
    """All memory that this process may use with others."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _groups())])


def in_words(size: int) -> str:
    """A size for people: ``3.2 GB``."""
    value, units = float(max(size, 0)), ["B", "KB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:  # noqa: PLR2004  decimal units
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"  # noqa: PLR2004  three digits


def _meminfo(name: str) -> int:
    try:
        for line in _text("/proc/meminfo").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _UNKNOWN


def _groups() -> list[tuple[int, int]]:
    """(limit, in use) of this process's control groups, version 2 and 1, as far as they have a limit."""
    found = []
    try:
        lines = _text("/proc/self/cgroup").splitlines()
    except OSError:
        return []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        folder = _GROUPS + path if not kinds else f"{_GROUPS}/memory{path}" if "memory" in kinds.split(",") else ""
        while len(folder) > len(_GROUPS):
            found.append(
                _group(folder, *(("memory.max", "memory.current") if not kinds else ("memory.limit_in_bytes", "memory.usage_in_bytes")))
            )
            folder = folder.rpartition("/")[0]
    return [each for each in found if each is not None]


def _group(folder: str, limit: str, used: str) -> tuple[int, int] | None:
    try:
        most = int(_text(f"{folder}/{limit}"))
        taken = int(_text(f"{folder}/{used}"))
        rows = dict(line.split() for line in _text(f"{folder}/memory.stat").splitlines())
        return most, taken - int(rows.get("inactive_file", 0))
    except (OSError, ValueError):  # "max", or none at all
        return None


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
