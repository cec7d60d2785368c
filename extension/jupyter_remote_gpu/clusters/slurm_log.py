"""What the log of a session's job says: why the session did not start, or why it ended. Pure."""

from __future__ import annotations

import re

from jupyter_remote_gpu.clusters.commands import answer_in
from jupyter_remote_gpu.clusters.prologue import failure
from remote_gpu.base import ENDED
from remote_gpu.errors import RemoteGpuError, StartFailed, from_problem

__all__ = ["ending_in", "last_words", "problem_in"]

_NO_PYTHON = re.compile(r"^.*(?:No such file or directory|command not found|Permission denied|cannot execute).*$", re.MULTILINE)
_OURS = re.compile(rf"^(?:JRG |{ENDED})")
_WORDS = 600


def problem_in(log: str, where: str) -> RemoteGpuError | None:
    """Why the session did not start on `where`, as the prologue, the shell or the node's half says it; None when none does."""
    if (failed := failure(log, where)) is not None:
        return failed
    for line in reversed(log.splitlines()):
        answer = answer_in(line.encode())
        if answer is not None and not answer.get("ok", True):
            return from_problem(answer.get("problem") or {})
    if found := _NO_PYTHON.search(log):
        return StartFailed(
            f"The cluster's Python cannot be run on {where}: {found[0].strip()}", hint="Set the cluster's python, or its prologue."
        )
    return None


def ending_in(log: str) -> str:
    """Why the supervisor ended the session, "" when it did not get to say it."""
    said = [line for line in log.splitlines() if line.startswith(ENDED)]
    return said[-1].removeprefix(ENDED).strip() if said else ""


def last_words(log: str) -> str:
    """The end of what others than we wrote."""
    lines = [line for line in log.splitlines() if line.strip() and not _OURS.match(line)]
    return "\n".join(lines[-8:])[-_WORDS:]
