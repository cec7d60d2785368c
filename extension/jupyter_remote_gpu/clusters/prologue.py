"""A cluster's prologue: the shell lines that its users type before anything else (``module load …``, ``source …/bin/activate``)."""

from __future__ import annotations

from collections.abc import Sequence

from remote_gpu.errors import StartFailed

__all__ = ["FAILED", "failure", "with_prologue"]

FAILED = "JRG-PROLOGUE-FAILED: "
"""What is said on the error stream before a line that failed."""

STATUS = 97
"""The exit status then."""

# The lines come as arguments: a login shell of another kind, through which this passes, need not understand them.
_SHELL = (
    "n=$1; shift; while [ $n -gt 0 ]; do "
    f'eval "$1" || {{ printf "{FAILED}%s\\n" "$1" >&2; exit {STATUS}; }}; shift; n=$((n-1)); done; exec "$@"'
)


def with_prologue(lines: Sequence[str], argv: Sequence[str]) -> list[str]:
    """`argv`, run after `lines` in one login shell of bash: ``module`` is a function that its start-up files define."""
    if not lines:
        return list(argv)
    return ["bash", "-lc", _SHELL, "bash", str(len(lines)), *lines, *argv]


def failure(said: str, where: str) -> StartFailed | None:
    """The error of a line that failed, if `said` (an error stream) tells of one."""
    before, mark, rest = said.partition(FAILED)
    if not mark:
        return None
    line, _, after = rest.partition("\n")
    words = "\n".join(text.strip() for text in (before, after) if text.strip())
    message = f"A line of the cluster's prologue failed on {where}: {line.strip()}" + (f"\nIt said: {words[-600:]}" if words else "")
    return StartFailed(message, hint="Mend the prologue in the cluster's configuration.", step="prologue")
