"""A supervisor in memory: the node's side of the link protocol, with a journal that the test writes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.streams import FakeStream, Faults, stream_pair

from remote_gpu.errors import RemoteGpuError
from remote_gpu.frames import Assembler, Frame, Kind, Lane, Message, data_frames, encode_json, pack_message, unpack_message
from remote_gpu.streams import FrameStream

WINDOW = 8 * 1024 * 1024
_UP = (Lane.CONTROL, Lane.SHELL, Lane.STDIN)
_PORTION = 64 * 1024


@dataclass(slots=True)
class Client:
    """What the node knows of one attachment."""

    id: str
    epoch: Any = None
    taken: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(_UP, 0))
    stream: FrameStream | None = None
    index: int = 0
    cursor: int = 0
    claims: tuple[str, ...] = ()
    unacked: deque[tuple[int, int]] = field(default_factory=deque)
    held: int = 0
    most_unacked: int = 0
    acked: int = 0
    prompts: list[bytes] = field(default_factory=list)
    prompts_sent: int = 0
    prompts_acked: int = 0
    replies_after: dict[Lane, int] = field(default_factory=dict)


class FakeNode:
    """One session's node. `open_stream` is for the link; each stream gets the next of `faults`, then none."""

    def __init__(self, faults: Iterator[Faults] | None = None) -> None:
        self.journal: list[tuple[Lane, bytes, str, str]] = []
        self.floor = 1
        self.clients: dict[str, Client] = {}
        self.taken: list[tuple[str, Lane, Message]] = []
        self.order: list[tuple[Lane, int]] = []
        self.attempts = 0
        self.refusal: RemoteGpuError | None = None
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"status": lambda _: {"ok": True}}
        self.mute = False
        self.wishes: list[dict[str, Any]] = []
        self.streams: list[FakeStream] = []
        self._faults = faults
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def open_stream(self) -> FrameStream:
        self.attempts += 1
        if self.refusal is not None:
            raise self.refusal
        gateway, node = stream_pair(next(self._faults, None) if self._faults else None)
        self.streams.append(gateway)
        task = asyncio.create_task(self._serve(node))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return gateway

    async def cut(self) -> None:
        """Break the present stream."""
        await self.streams[-1].break_()

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def publish(self, *parts: bytes) -> int:
        self.journal.append((Lane.IOPUB, pack_message(Message([], list(parts))), "", ""))
        self._changed.set()
        return len(self.journal)

    def reply(self, lane: Lane, owner: str, identity: bytes, *parts: bytes, parent: str = "") -> int:
        self.journal.append((lane, pack_message(Message([identity], list(parts))), owner, parent))
        self._changed.set()
        return len(self.journal)

    def ask(self, owner: str, identity: bytes, *parts: bytes) -> None:
        self.clients[owner].prompts.append(pack_message(Message([identity], list(parts))))
        self._changed.set()

    async def _serve(self, stream: FakeStream) -> None:
        try:
            if not self.mute:
                await stream.send([encode_json(Kind.EVENT, {"event": "kernel", "state": "idle", "incarnation": 1})])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(stream))
                group.create_task(self._write(stream))
        except* (RemoteGpuError, EOFError):
            pass
        finally:
            for client in self.clients.values():
                if client.stream is stream:
                    client.stream = None
            await stream.aclose()

    async def _read(self, stream: FakeStream) -> None:
        assembler = Assembler()
        while frames := await stream.receive():
            for frame in frames:
                await self._on_frame(stream, assembler, frame)
        raise EOFError

    async def _on_frame(self, stream: FakeStream, assembler: Assembler, frame: Frame) -> None:
        if self.mute:
            return
        client = next((each for each in self.clients.values() if each.stream is stream and each.index == frame.attachment), None)
        if frame.kind is Kind.ATTACH:
            await self._on_attach(stream, frame)
        elif frame.kind is Kind.PING:
            await stream.send([Frame(Kind.PONG, number=frame.number)])
        elif frame.kind is Kind.CALL:
            await self._on_call(stream, frame.json())
        elif client is None:
            return
        elif frame.kind is Kind.DATA:
            self.order.append((frame.lane, len(frame.payload)))
            await self._on_data(stream, client, frame, assembler.feed(frame))
        elif frame.kind is Kind.ACK:
            self._on_ack(client, frame)
        elif frame.kind is Kind.DETACH:
            del self.clients[client.id]
        self._changed.set()

    async def _on_attach(self, stream: FakeStream, frame: Frame) -> None:
        wish = frame.json()
        self.wishes.append(wish)
        if wish["role"] == "nobody":
            await stream.send([encode_json(Kind.BYE, {"reason": "not_allowed", "title": "No."}, frame.attachment)])
            return
        client = self.clients.setdefault(wish["id"], Client(wish["id"]))
        if client.epoch != wish["epoch"]:
            client.epoch, client.taken = wish["epoch"], dict.fromkeys(_UP, 0)
        head = len(self.journal)
        client.stream, client.index, client.held = stream, frame.attachment, 0
        client.unacked.clear()
        client.cursor = head if wish["after"] is None else wish["after"]
        client.claims = tuple(wish["claims"])
        client.replies_after = {lane: wish["received"].get(lane.name.lower(), 0) for lane in (Lane.SHELL, Lane.CONTROL)}
        client.prompts_sent = client.prompts_acked
        taken = {lane.name.lower(): number for lane, number in client.taken.items()}
        await stream.send(
            [encode_json(Kind.ATTACHED, {"id": client.id, "taken": taken, "head": head, "floor": self.floor, "kernel": {}}, client.index)]
        )

    async def _on_data(self, stream: FakeStream, client: Client, frame: Frame, body: bytes | None) -> None:
        if body is None:
            return
        if frame.number == client.taken[frame.lane] + 1:
            client.taken[frame.lane] = frame.number
            message = unpack_message(body)
            self.taken.append((client.id, frame.lane, Message(message.identities, [bytes(part) for part in message.parts])))
        assert frame.number <= client.taken[frame.lane], "a number was left out"
        await stream.send([Frame(Kind.ACK, frame.lane, client.index, client.taken[frame.lane])])

    async def _on_call(self, stream: FakeStream, call: dict[str, Any]) -> None:
        answer = self.answers.get(call["method"])
        if answer is None:
            return
        try:
            result: dict[str, Any] = {"result": answer(call["params"])}
        except RemoteGpuError as error:
            result = {"error": error.problem()}
        await stream.send([encode_json(Kind.RESULT, {"id": call["id"]} | result)])

    def _on_ack(self, client: Client, frame: Frame) -> None:
        if frame.lane is Lane.IOPUB:
            client.acked = frame.number
            while client.unacked and client.unacked[0][0] <= frame.number:
                client.held -= client.unacked.popleft()[1]
        elif frame.lane is Lane.STDIN:
            client.prompts_acked = max(client.prompts_acked, frame.number)

    async def _write(self, stream: FakeStream) -> None:
        while True:
            self._changed.clear()
            frames = [frame for client in list(self.clients.values()) if client.stream is stream for frame in self._due(client)]
            if frames:
                await stream.send(frames)
            else:
                await self._changed.wait()

    def _due(self, client: Client) -> Iterator[Frame]:
        size = 0
        for number in range(client.prompts_sent + 1, len(client.prompts) + 1):
            client.prompts_sent = number
            yield from data_frames(Lane.STDIN, client.index, number, client.prompts[number - 1])
        for lane, after in client.replies_after.items():
            for number in range(after + 1, len(self.journal) + 1):  # replies are few in tests
                kind, body, owner, parent = self.journal[number - 1]
                if kind is lane and (owner == client.id or (parent and parent in client.claims)):
                    yield from data_frames(lane, client.index, number, body)
            client.replies_after[lane] = len(self.journal)
        if client.cursor + 1 < self.floor:
            yield encode_json(Kind.GAP, {"first": client.cursor + 1, "last": self.floor - 1}, client.index)
            client.cursor = self.floor - 1
        while client.cursor < len(self.journal) and size < _PORTION:
            lane, body, _, _ = self.journal[client.cursor]
            if lane is Lane.IOPUB and client.unacked and client.held + len(body) > WINDOW:
                return
            client.cursor += 1
            if lane is Lane.IOPUB:
                client.unacked.append((client.cursor, len(body)))
                client.held += len(body)
                client.most_unacked = max(client.most_unacked, client.held)
                size += len(body)
                yield from data_frames(Lane.IOPUB, client.index, client.cursor, body)
