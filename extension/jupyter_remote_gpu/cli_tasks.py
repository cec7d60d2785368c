"""Follows a task or a login of the gateway in a terminal: shows what it says, asks what it asks, and ends it at Ctrl-C."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from jupyter_remote_gpu.cli_gateway import CliGateway, TaskInfo
from jupyter_remote_gpu.cli_output import note
from remote_gpu.errors import AccessRefused, RemoteGpuError, UnknownPrompt, from_problem
from remote_gpu.gateway import LoginInfo, PromptInfo

__all__ = ["Asker", "ask_yes", "follow", "log_in"]

_LOOK = 20.0  # seconds of one long poll
_CLEAN_UP = 90.0  # seconds that a cancelled task may take to clean up after itself
_BEGINS, _WORKS = 10.0, 0.5  # seconds in which an attempt to log in must be seen to begin; less, where the login works already
_SHORT = {"y": "yes", "n": "no"}


class Asker:
    """Asks the questions of logins, each once."""

    def __init__(self, gateway: CliGateway) -> None:
        self._gateway = gateway
        self._asked: set[str] = set()

    def ask(self, prompts: Iterable[PromptInfo]) -> None:
        """Ask what was not asked yet. Raises `AccessRefused` when there is nobody to ask, and `KeyboardInterrupt`."""
        for prompt in prompts:
            if prompt.id in self._asked:
                continue
            self._asked.add(prompt.id)
            if prompt.kind == "notice":
                note(_worded(prompt))
                continue
            if not sys.stdin.isatty():
                hint = f"Run `jupyter remote-gpu login {prompt.host}` in a terminal first, then this again."
                raise AccessRefused(f"The login to {prompt.host} asks something, and nobody can answer here.", hint=hint)
            with contextlib.suppress(UnknownPrompt):  # answered elsewhere, or too late, which the login itself then says
                self._gateway.answer(prompt.id, _read(prompt))

    def refuse(self, prompts: Iterable[PromptInfo]) -> None:
        """Have the login fail that asks these."""
        for prompt in prompts:
            with contextlib.suppress(RemoteGpuError):
                self._gateway.refuse(prompt.id)


def follow(gateway: CliGateway, kind: str, **body: Any) -> Mapping[str, Any]:
    """Begin a task, show what it says on stderr, and return its result. Raises its problem; at Ctrl-C it is cancelled first."""
    task, asker, shown = gateway.begin_task(kind, **body), Asker(gateway), 0
    try:
        while True:
            for line in task.lines[shown:]:
                note(line)
            shown = len(task.lines)
            if task.state != "running":
                break
            asker.ask(task.prompts)
            task = gateway.task(task, wait=_LOOK)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            note("Cancelling.")
        asker.refuse(task.prompts)
        _cancel(gateway, task)
        raise
    if task.state == "failed":
        raise from_problem(dict(task.problem))
    return task.result


def log_in(gateway: CliGateway, name: str) -> LoginInfo:
    """Log in to a cluster or host with the user's help. Raises `AccessRefused` that says why not, `UsageProblem` where none is needed."""
    asker, login = Asker(gateway), gateway.begin_login(name)
    try:
        if login.state != "trying":  # as it was before; while an attempt is under way it says so
            login = gateway.login(name, wait=_WORKS if login.state == "in" else _BEGINS, seen=login.stamp)
        while login.state == "trying":
            asker.ask(login.prompts)
            login = gateway.login(name, wait=_LOOK, seen=login.stamp)
    except BaseException:
        asker.refuse(login.prompts)
        raise
    if login.state != "in":
        raise AccessRefused(login.detail or f"The login to {login.host} did not work.")
    return login


def ask_yes(question: str, *, otherwise: bool = False) -> bool:
    """Ask the user for yes or no; `otherwise` is what an empty answer means."""
    default = "yes" if otherwise else "no"
    while True:
        answer = input(f"{question} (yes/no) [{default}] ").strip().lower() or default
        if (answer := _SHORT.get(answer, answer)) in ("yes", "no"):
            return answer == "yes"


def _cancel(gateway: CliGateway, task: TaskInfo) -> None:
    with contextlib.suppress(RemoteGpuError):
        gateway.cancel_task(task, patience=_CLEAN_UP)


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
