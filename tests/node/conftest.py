"""A node for tests: a private base folder, a warm zygote, and sessions that are ended afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.client import Client, Stream, node, session_environment


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """The base folder of the node under test; its zygote serves all tests and is ended after them."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="jn"))
    yield base
    node(base, "zygote", "stop")
    shutil.rmtree(base)


class Sessions:
    """Starts sessions, and connects to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: list[dict[str, Any]] = []
        self.streams: list[Stream] = []

    def start(self, env: dict[str, str] | None = None, **request: Any) -> dict[str, Any]:
        name = request.pop("session", None) or next(_NAMES)
        wish = {"session": name, "env": session_environment(self.folder, **(env or {})), "cwd": str(self.folder), **request}
        answer = node(self.folder, "start", request=wish)
        assert answer["ok"], answer
        self.answers.append(answer)
        return answer

    def stream(self, answer: dict[str, Any], *hello: bytes) -> Stream:
        stream = Stream.open(self.folder, answer["session"], *hello)
        self.streams.append(stream)
        return stream

    def command(self, answer: dict[str, Any]) -> Stream:
        stream = Stream.attach_command(self.folder, answer["session"])
        self.streams.append(stream)
        return stream

    def client(self, answer: dict[str, Any], identity: str = "client01", **more: Any) -> Client:
        return Client(self.stream(answer), identity, **more)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        for answer in self.answers:
            node(self.folder, "stop", answer["session"])


def _names() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"test{number:06d}"


_NAMES = _names()


@pytest.fixture
def sessions(folder: Path) -> Iterator[Sessions]:
    """Sessions of one test."""
    made = Sessions(folder)
    yield made
    made.close()


@pytest.fixture
def session(sessions: Sessions) -> dict[str, Any]:
    """A running session."""
    return sessions.start()


@pytest.fixture
def client(sessions: Sessions, session: dict[str, Any]) -> Client:
    """An owner attached to a running session."""
    return sessions.client(session)
