"""Which words and further options may reach ``sbatch``: they come from a configuration and from other people's requests.

An option is allowed by name, so that a new one of Slurm's is refused until somebody has looked at it.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Sequence

from jupyter_remote_gpu.models import ResourceRequest
from remote_gpu.errors import UsageProblem

__all__ = ["ALLOWED", "check_extra", "check_request"]

ALLOWED = (
    "begin",
    "comment",
    "contiguous",
    "cores-per-socket",
    "cpu-freq",
    "cpus-per-gpu",
    "deadline",
    "dependency",
    "exclude",
    "extra",
    "gpu-bind",
    "gpu-freq",
    "gres-flags",
    "hint",
    "kill-on-invalid-dep",
    "licenses",
    "mail-type",
    "mail-user",
    "mem-per-cpu",
    "mem-per-gpu",
    "mincpus",
    "network",
    "nice",
    "nodelist",
    "oversubscribe",
    "prefer",
    "propagate",
    "segment",
    "sockets-per-node",
    "spread-job",
    "switches",
    "threads-per-core",
    "time-min",
    "tmp",
    "use-min-nodes",
    "wckey",
)
"""Options that place, describe or delay a job. None runs something, redirects its output, or makes it another kind of job."""

_OURS = {
    **dict.fromkeys(("job-name", "output", "error", "signal", "requeue", "no-requeue", "open-mode", "chdir"), "the session sets it"),
    **{
        option: f"ask for it as `{name}`"
        for name, options in {
            "gpus": ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gres"),
            "cpus": ("cpus-per-task",),
            "memory_mb": ("mem",),
            "time": ("time",),
            "nodes": ("nodes", "ntasks", "ntasks-per-node"),
            "exclusive": ("exclusive",),
            "partition": ("partition",),
            "account": ("account",),
            "qos": ("qos",),
            "constraint": ("constraint",),
            "reservation": ("reservation",),
        }.items()
        for option in options
    },
}

_OPTION = re.compile(r"--(?P<name>[a-z][a-z-]*)(?:=(?P<value>.*))?")
_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029-][^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,1023}")
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}"
_WORDS = re.compile(rf"{_WORD}(?:,{_WORD})*")
_FEATURES = re.compile(r"[A-Za-z0-9_(\[!][A-Za-z0-9_.:@+()\[\]!&|*,=-]{0,511}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+() -]{0,63}")
_PATTERNS = {
    "partition": _WORDS,
    "account": re.compile(_WORD),
    "qos": _WORDS,
    "reservation": _WORDS,
    "constraint": _FEATURES,
    "gpu_model": _MODEL,
}
_MOST = {"gpus": 10_000, "gpu_memory_mb": 10_000_000, "cpus": 100_000, "memory_mb": 1_000_000_000, "time": 366 * 86400, "nodes": 10_000}


def check_request(request: ResourceRequest) -> None:
    """Raise `UsageProblem` for a word that Slurm cannot have as a name, or a number beyond any machine."""
    for name, pattern in _PATTERNS.items():
        value = getattr(request, name)
        if value and not pattern.fullmatch(value):
            raise UsageProblem(f"{value!r} cannot be a {name.replace('_', ' ')}.", hint="Give the name as Slurm spells it.", field=name)
    for name, most in _MOST.items():
        number = getattr(request, name) or 0
        if not 0 <= number <= most:
            raise UsageProblem(f"{name} cannot be {number}.", hint=f"It may be at most {most}.", field=name)


def check_extra(options: Sequence[str]) -> None:
    """Raise `UsageProblem` for the first of these further sbatch options that is not allowed, with the list of those that are."""
    for option in options:
        found = _OPTION.fullmatch(option)
        if not found:
            message = f"{_shown(option)} is not an option of sbatch in its long form."
            raise UsageProblem(message, hint="Write --NAME=VALUE, each option on its own.", option=option)
        name, value = found["name"], found["value"]
        if name in _OURS:
            raise UsageProblem(f"The sbatch option --{name} cannot be set: {_OURS[name]}.", hint=_hint(name), option=option)
        if name not in ALLOWED:
            raise UsageProblem(f"The sbatch option --{name} is not allowed.", hint=_hint(name), option=option)
        if value is not None and not _VALUE.fullmatch(value):
            message = (
                f"The value of the sbatch option --{name} is empty, begins with '-', or has a character that no value has: {_shown(value)}."
            )
            raise UsageProblem(message, hint="Write --NAME=VALUE.", option=option)


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, ALLOWED, n=1, cutoff=0.8)
    return (f"Did you mean --{near[0]}? " if near else "") + f"Allowed are {', '.join(f'--{each}' for each in ALLOWED)}."


def _shown(text: str) -> str:
    return repr(textwrap.shorten(text, 80) if text.isprintable() else text[:80])
