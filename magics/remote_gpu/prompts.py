"""Asks the user what a login wants to know: passwords, second factors, unknown host keys. In the cell that runs now, or in the terminal.

An answer goes to the gateway and is kept nowhere: not in a variable that outlives its call, a message, a log, or a traceback.
"""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum

from remote_gpu.errors import AccessRefused, RemoteGpuError, UnknownPrompt
from remote_gpu.failures import plain
from remote_gpu.gateway import Gateway, PromptInfo
from remote_gpu.output import Output

__all__ = ["Prompts"]

_SHORT = {"y": "yes", "n": "no"}


class _Got(StrEnum):
    ANSWERED = "answered"
    REFUSED = "refused"
    NOBODY = "nobody"


class Prompts:
    """Asks in the name of one shell; `gateway` gives the gateway that answers are for."""

    def __init__(self, gateway: Callable[[], Gateway], output: Output) -> None:
        self._gateway = gateway
        self._output = output
        self._asked: set[str] = set()

    def new(self, prompts: Sequence[PromptInfo]) -> bool:
        """Whether something is asked that this shell has not asked yet."""
        return any(each.id not in self._asked for each in prompts)

    def serve(self, prompts: Sequence[PromptInfo], cluster: str) -> None:
        """Ask the first question that was not asked yet, and show the notices before it; what comes after it may be answered elsewhere.

        Raises `AccessRefused` when the user does not want to answer, or nobody can be asked; the question is then refused.
        """
        for prompt in prompts:
            if prompt.id in self._asked:
                continue
            self._asked.add(prompt.id)
            if prompt.kind != "notice":
                self._ask(prompt, cluster)
                return
            sys.stderr.write(f"{_worded(prompt)}\n")
            sys.stderr.flush()

    def refuse(self, prompt: PromptInfo) -> None:
        """Have the login fail that asks this; harmless when it does not wait any more."""
        with contextlib.suppress(RemoteGpuError):
            self._gateway().refuse(prompt.id)

    def _ask(self, prompt: PromptInfo, cluster: str) -> None:
        got = self._answered(prompt) if self._output.allows_stdin else _Got.NOBODY
        if got is _Got.ANSWERED:
            return
        self.refuse(prompt)
        if got is _Got.REFUSED:
            message = f"You did not answer, so the login to {prompt.host} was given up."
            raise plain(AccessRefused(message, hint=f"%remote_gpu login {cluster} asks again."))
        message = f"The login to {prompt.host} asks something, and nobody can answer here."
        raise plain(AccessRefused(message, hint=f"Run `jupyter remote-gpu login {cluster}` in a terminal, then run this again."))

    def _answered(self, prompt: PromptInfo) -> _Got:
        # Nothing is raised from here: a traceback's frames would hold the answer, and some tracebacks show what frames hold.
        try:
            self._gateway().answer(prompt.id, _read(prompt))
        except UnknownPrompt:  # it was answered elsewhere, or took too long, which the login itself then says
            return _Got.ANSWERED
        except KeyboardInterrupt:
            return _Got.REFUSED
        except (EOFError, NotImplementedError):  # IPython's StdinNotImplementedError is one
            return _Got.NOBODY
        except RemoteGpuError as error:
            problem = type(error)(error.message, hint=error.hint)
        else:
            return _Got.ANSWERED
        raise problem


def _read(prompt: PromptInfo) -> str:
    text = _worded(prompt)
    if prompt.kind != "confirm":
        return getpass.getpass(f"{text} ")
    answer = input(f"{text} " if "yes/no" in text else f"{text} (yes/no) ").strip()
    return _SHORT.get(answer.lower(), answer)


def _worded(prompt: PromptInfo) -> str:
    """The question, and of which login: the host's own words may say anything, but nothing to the terminal."""
    text = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in prompt.text).strip()
    return f"Login to {prompt.host}: {text}"
