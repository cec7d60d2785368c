"""Errors as a notebook shows them: a remote one with the remote traceback, ours as one sentence."""

from __future__ import annotations

import builtins

from remote_gpu.errors import RemoteGpuError
from remote_gpu.execution import Outcome

__all__ = ["CellError", "CellLost", "Detached", "StoppedWaiting", "plain", "remote_error"]

# IPython renders the first group by rules of its own, and the others mean something to the local interpreter.
_LOCAL_MEANING = (SyntaxError, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration)


class CellError(RemoteGpuError):
    """Remote code raised. The class that is raised bears the remote error's name; `remote_traceback` is its text, coloured."""

    reason = "cell_error"
    ename: str = ""
    evalue: str = ""
    remote_traceback: tuple[str, ...] = ()
    shown: bool = False
    """Whether the cell has shown it already, so that the local shell has nothing to add (see `RemoteGpu`)."""

    def __init__(self) -> None:
        # Not through the chain: a namesake such as UnicodeDecodeError wants arguments that did not cross the wire.
        self.message, self.hint, self.details = self.evalue, "", {}

    def __str__(self) -> str:
        return self.evalue

    def _render_traceback_(self) -> list[str]:
        return list(self.remote_traceback) or [f"{self.ename}: {self.evalue}"]


class Detached(RemoteGpuError):
    """The user left a cell that runs on."""

    reason = "detached"


class StoppedWaiting(RemoteGpuError):
    """The user does not wait for a session's start any more; the session is asked for all the same."""

    reason = "stopped_waiting"


class CellLost(RemoteGpuError):
    """A cell's request, or all trace of it, is lost."""

    reason = "cell_lost"


def remote_error(outcome: Outcome) -> BaseException:
    """The error of a failed remote cell. ``except ValueError`` catches a remote ValueError, too."""
    name = outcome.ename.rpartition(".")[2] or "Error"
    namesake = getattr(builtins, name, None)
    members = {
        "__module__": "remote",
        "ename": outcome.ename,
        "evalue": outcome.evalue,
        "remote_traceback": outcome.traceback,
        "shown": outcome.shown,
    }
    bases: tuple[type, ...] = (CellError,)
    if (
        isinstance(namesake, type)
        and issubclass(namesake, BaseException)
        and not issubclass(namesake, (*_LOCAL_MEANING, BaseExceptionGroup))
    ):
        bases = (CellError, namesake)
    kind = type(name, bases, members)
    error: BaseException = kind()
    return error


def plain(error: RemoteGpuError) -> RemoteGpuError:
    """`error` such that IPython shows its sentence instead of the way through our code."""
    name = type(error).__name__
    text = [f"\x1b[31m{name}\x1b[39m: {error.message}", *([error.hint] if error.hint else [])]
    error._render_traceback_ = lambda: text  # type: ignore[attr-defined]
    return error
