"""A small gateway for tests: speaks frames over a session's socket, or over the real attach command."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from remote_gpu.frames import (
    Assembler,
    Frame,
    FrameReader,
    Kind,
    Lane,
    Message,
    data_frames,
    encode,
    encode_json,
    pack_message,
    preamble,
    unpack_message,
)

PATIENCE = 30.0
MAGICS = Path(__file__).parents[2] / "magics"


def node_environment(folder: Path, **extra: str) -> dict[str, str]:
    """The environment of a node command in a test."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(MAGICS),
        "JUPYTER_REMOTE_GPU_FOLDER": str(folder),
        **extra,
    }


def session_environment(folder: Path, **extra: str) -> dict[str, str]:
    """The allow-listed environment that a gateway would send."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "IPYTHONDIR": str(folder / "ip"), "LANG": "C.UTF-8", **extra}


def node(folder: Path, *verb: str, request: dict[str, Any] | None = None, python: str = sys.executable, **extra: str) -> dict[str, Any]:
    """Run one verb of the real command line; returns its answer."""
    done = subprocess.run(
        [python, "-m", "remote_gpu.node", *verb],
        input=json.dumps(request or {}),
        env=node_environment(folder, **extra),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("JRG ")]
    assert len(lines) == 1, (done.stdout, done.stderr)
    answer: dict[str, Any] = json.loads(lines[0][4:])
    return answer


def wait_for(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until `condition` returns something true; returns it."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not become true"
        select.select([], [], [], 0.01)
    return found


class Got:
    """One message that arrived."""

    def __init__(self, lane: Lane, number: int, message: Message) -> None:
        self.lane = lane
        self.number = number
        self.identities = message.identities
        self.header, self.parent, self.metadata, self.content = (json.loads(bytes(part)) for part in message.parts[:4])
        self.buffers = [bytes(part) for part in message.parts[4:]]

    @property
    def type(self) -> str:
        return str(self.header["msg_type"])

    @property
    def parent_id(self) -> str:
        return str(self.parent.get("msg_id", ""))


class Stream:
    """One connection to a supervisor, with one attachment at index 1 (or none)."""

    def __init__(self, peer: socket.socket, process: subprocess.Popen[bytes] | None = None, hello: bytes = preamble()) -> None:
        self.peer = peer
        self.process = process
        self.reader = FrameReader()
        self.assembler = Assembler()
        self.got: list[Got] = []
        self.frames: list[Frame] = []
        self.ended = False
        self.acknowledge = True
        peer.sendall(hello)

    @classmethod
    def open(cls, folder: Path, session: str, hello: bytes = preamble()) -> Stream:
        """Straight to the socket."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(str(folder / "s" / session / "s.sock"))
        return cls(peer, hello=hello)

    @classmethod
    def attach_command(cls, folder: Path, session: str) -> Stream:
        """Through the real attach command."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "remote_gpu.node", "attach", session]
        with theirs:
            process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=node_environment(folder))
        return cls(ours, process)

    def send(self, *frames: Frame) -> None:
        self.peer.sendall(b"".join(encode(frame) for frame in frames))

    def poll(self, timeout: float = 0.05) -> None:
        """Take in what arrives within `timeout` seconds; acknowledges it."""
        ready, _, _ = select.select([self.peer], [], [], timeout)
        if not ready:
            return
        data = b""
        with contextlib.suppress(ConnectionResetError):
            data = self.peer.recv(1 << 20)
        self.ended = self.ended or not data
        acks: dict[tuple[int, Lane], int] = {}
        for frame in self.reader.feed(data):
            if frame.kind is not Kind.DATA:
                self.frames.append(frame)
                continue
            body = self.assembler.feed(frame)
            if body is not None:
                self.got.append(Got(frame.lane, frame.number, unpack_message(body)))
                acks[frame.attachment, frame.lane] = frame.number
        if self.acknowledge:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send(*(Frame(Kind.ACK, lane, index, number) for (index, lane), number in acks.items()))

    def until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Take in until `condition` returns something true; returns it."""
        deadline = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not in time; got {[(got.type, got.content) for got in self.got][-12:]}"
            assert not self.ended, f"the stream ended: {self.frames[-3:]}"
            self.poll()
        return found

    def frame(self, kind: Kind, **wanted: Any) -> dict[str, Any]:
        """Wait for a frame of `kind` whose JSON has `wanted`; takes it out."""

        def find() -> Frame | None:
            for frame in self.frames:
                if frame.kind is kind and wanted.items() <= frame.json().items():
                    return frame
            return None

        found: Frame = self.until(find)
        self.frames.remove(found)
        return found.json()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One CALL; returns its result (or raises AssertionError with its error)."""
        identity = uuid.uuid4().hex
        self.send(encode_json(Kind.CALL, {"id": identity, "method": method, "params": params}))
        answer = self.frame(Kind.RESULT, id=identity)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def close(self) -> None:
        self.peer.close()
        if self.process is not None:
            self.process.wait(PATIENCE)


class Client:
    """A client of a session: an attachment that may be cut and resumed, with its own numbers."""

    def __init__(
        self, stream: Stream, identity: str, *, role: str = "owner", after: int | None = 0, claims: list[str] | None = None
    ) -> None:
        self.stream = stream
        self.id = identity
        self.role = role
        self.epoch = uuid.uuid4().hex
        self.claims = claims or []
        self.sent = {Lane.CONTROL: 0, Lane.SHELL: 0, Lane.STDIN: 0}
        self.unsent: list[tuple[Lane, int, bytes]] = []
        self.history: list[Got] = []
        self.attached = self.attach(stream, after)

    def attach(self, stream: Stream, after: int | None) -> dict[str, Any]:
        self.stream = stream
        received = {
            name: max([got.number for got in self.history if got.lane is lane], default=0)
            for name, lane in (("shell", Lane.SHELL), ("control", Lane.CONTROL))
        }
        wish = {"id": self.id, "epoch": self.epoch, "role": self.role, "after": after, "claims": self.claims, "received": received}
        stream.send(encode_json(Kind.ATTACH, wish, 1))
        return stream.frame(Kind.ATTACHED, id=self.id)

    def resume(self, stream: Stream) -> None:
        """Go on over a new stream, as a gateway does after a cut."""
        self.history += self.stream.got
        had = max([got.number for got in self.history if got.lane is Lane.IOPUB], default=0)
        self.attached = self.attach(stream, had)
        taken = self.attached["taken"]
        for lane, number, body in self.unsent:
            if number > taken[lane.name.lower()]:
                stream.send(*data_frames(lane, 1, number, body))

    @property
    def got(self) -> list[Got]:
        return self.history + self.stream.got

    def message(
        self,
        lane: Lane,
        kind: str,
        content: dict[str, Any],
        *,
        send: bool = True,
        metadata: dict[str, Any] | None = None,
        buffers: list[bytes] | None = None,
        identity: str = "",
    ) -> str:
        """Send a message; returns its msg_id."""
        identity = identity or uuid.uuid4().hex
        header = {
            "msg_id": identity,
            "msg_type": kind,
            "session": self.id,
            "username": "",
            "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }
        parts: list[bytes | memoryview] = [json.dumps(part).encode() for part in (header, {}, metadata or {}, content)]
        parts += buffers or []
        self.sent[lane] += 1
        body = pack_message(Message([b"client"], parts))
        self.unsent.append((lane, self.sent[lane], body))
        if send:
            self.stream.send(*data_frames(lane, 1, self.sent[lane], body))
        return identity

    def execute(self, code: str, **more: Any) -> str:
        content = {
            "code": code,
            "silent": False,
            "store_history": False,
            "allow_stdin": True,
            "stop_on_error": True,
            "user_expressions": {},
        }
        return self.message(Lane.SHELL, "execute_request", content, metadata=more.get("metadata"), send=more.get("send", True))

    def of(self, parent: str, kind: str) -> list[Got]:
        return [got for got in self.got if got.parent_id == parent and got.type == kind]

    def reply(self, parent: str, patience: float = PATIENCE) -> Got:
        def find() -> Got | None:
            return next(
                (got for got in self.got if got.parent_id == parent and got.type.endswith("_reply") and got.lane is not Lane.IOPUB), None
            )

        found: Got = self.stream.until(find, patience)
        return found

    def finish(self, parent: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for reply and idle of a request; returns the reply's content."""
        reply = self.reply(parent, patience)
        self.stream.until(lambda: any(got.content["execution_state"] == "idle" for got in self.of(parent, "status")), patience)
        return dict(reply.content)

    def run(self, code: str) -> dict[str, Any]:
        return self.finish(self.execute(code))

    def text(self, parent: str, name: str = "stdout") -> str:
        return "".join(got.content["text"] for got in self.of(parent, "stream") if got.content["name"] == name)


@contextlib.contextmanager
def closing(*streams: Stream) -> Iterator[None]:
    try:
        yield
    finally:
        for stream in streams:
            stream.close()
