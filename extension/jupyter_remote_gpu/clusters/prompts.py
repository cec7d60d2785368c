"""What OpenSSH asks while it logs in, brought to the user: passwords, second factors, unknown host keys.

ssh runs a helper for each question (SSH_ASKPASS, ssh(1)); the helper asks here, through a private socket, and waits. The question then stands in
the list of prompts, for whoever shows it: a cell, a terminal, the panel. An answer goes to the helper, and from it to ssh; it is kept nowhere. A question
that nobody answers is refused after a while, and none is ever asked again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.models import iso
from remote_gpu.errors import UnknownPrompt
from remote_gpu.folders import node_folder

__all__ = ["Prompt", "PromptKind", "Prompts"]

_PATIENCE = 300.0  # seconds that a question waits; most servers close the connection sooner
_LINE_LIMIT = 64 * 1024
_CONFIRM = re.compile(r"\(yes/no(?:/\[fingerprint\])?\)|please type 'yes'", re.IGNORECASE)
_HELPER = Path(__file__).with_name("askpass.py")


class PromptKind(StrEnum):
    """How a question is to be shown: its answer hidden or not, "yes" or "no", or no answer at all (touch the key)."""

    SECRET = "secret"  # noqa: S105  a kind, not a password
    CONFIRM = "confirm"
    NOTICE = "notice"


@dataclass(slots=True)
class Prompt:
    """One question of a login to `host`."""

    id: str
    host: str
    text: str
    kind: PromptKind
    asked: float
    answer: asyncio.Future[str | None] = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The `Prompt` of the REST API."""
        return {"id": self.id, "host": self.host, "text": self.text, "kind": self.kind, "asked": iso(self.asked)}


class Prompts:
    """The questions that wait. `changed` is called with the host whenever one comes or goes."""

    def __init__(self, *, patience: float = _PATIENCE, clock: Callable[[], float] = time.time) -> None:
        self.changed: Callable[[str], None] = lambda _: None
        self._patience = patience
        self._clock = clock
        self._waiting: dict[str, Prompt] = {}
        self._hosts: dict[str, str] = {}
        self._server: asyncio.Server | None = None
        self._path = node_folder("g") / f"{os.getpid()}.ask"

    def all(self, host: str | None = None) -> list[Prompt]:
        """The questions that wait, of one host or of all, the oldest first."""
        return [prompt for prompt in self._waiting.values() if host in (None, prompt.host)]

    def answer(self, identity: str, text: str | None) -> None:
        """Answer a question; None refuses it. Raises `UnknownPrompt` for one that does not wait (any more)."""
        prompt = self._waiting.pop(identity, None)
        if prompt is None or prompt.answer.done():
            raise UnknownPrompt("That question is not waiting any more.", hint="Log in again; it is asked anew.")
        prompt.answer.set_result(text)
        self.changed(prompt.host)

    def refuse(self, host: str) -> None:
        """Refuse whatever a login to `host` still asks."""
        for prompt in self.all(host):
            self.answer(prompt.id, None)

    @contextlib.asynccontextmanager
    async def of(self, host: str) -> Any:
        """While open, an ssh with the environment that this gives asks here, in the name of `host`."""
        if self._server is None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=_LINE_LIMIT)
            self._path.chmod(0o600)
        key = secrets.token_hex(16)
        self._hosts[key] = host
        try:
            yield {
                "SSH_ASKPASS": str(_script()),
                "SSH_ASKPASS_REQUIRE": "force",
                "DISPLAY": os.environ.get("DISPLAY") or ":0",  # without it, an OpenSSH before 8.4 would not ask
                "JRG_ASKPASS": f"{key} {self._path}",
            }
        finally:
            del self._hosts[key]
            self.refuse(host)

    async def aclose(self) -> None:
        """Refuse everything and close the socket."""
        for prompt in self.all():
            self.answer(prompt.id, None)
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prompt: Prompt | None = None
        try:
            asked = json.loads(await reader.readline())
            host = self._hosts[asked["key"]]
            prompt = self._ask(host, str(asked["text"]), str(asked.get("hint") or ""))
            gone = asyncio.create_task(reader.read(1))  # ssh ends its helper when it does not wait any more
            waits: list[asyncio.Future[Any]] = [prompt.answer, gone]
            await asyncio.wait(waits, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            answer = prompt.answer.result() if prompt.answer.done() else None
            writer.write(json.dumps({"answer": answer}).encode() + b"\n")
            await writer.drain()
        except (ValueError, KeyError, TypeError, OSError):  # not our helper, or it is gone
            return
        finally:
            if prompt is not None and self._waiting.pop(prompt.id, None) is not None:
                self.changed(prompt.host)
            writer.close()

    def _ask(self, host: str, text: str, hint: str) -> Prompt:
        kind = (
            PromptKind.NOTICE if hint == "none" else PromptKind.CONFIRM if hint == "confirm" or _CONFIRM.search(text) else PromptKind.SECRET
        )
        shown = "".join(letter for letter in text if letter.isprintable() or letter == "\n").strip()  # a server's own words
        prompt = Prompt(secrets.token_hex(8), host, shown, kind, self._clock(), asyncio.get_running_loop().create_future())
        self._waiting[prompt.id] = prompt
        self.changed(host)
        return prompt


def _script() -> Path:
    """A program that runs the helper with this Python: SSH_ASKPASS takes a path without arguments."""
    path = node_folder("b") / "askpass"
    text = f'#!/bin/sh\nexec "{sys.executable}" -I -S "{_HELPER}" "$@"\n'
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        temporary = path.with_name(f".askpass.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o700)
        temporary.replace(path)
    return path
