"""A Jupyter client of a front on raw sockets: it shows exactly what came, in which order."""

from __future__ import annotations

import asyncio
import json
import uuid

import zmq
import zmq.asyncio
from jupyter_client.session import Session

LIMIT = 20


class Client:
    """DEALERs and a SUB at the front of a connection file; `hwm` is how far the SUB may fall behind."""

    def __init__(self, info, channels=("shell", "control", "stdin", "iopub", "hb"), hwm=1000, key=None):
        self.session = Session(key=key or info["key"], signature_scheme=info["signature_scheme"])
        self.identity = uuid.uuid4().hex.encode()
        self.sockets = {}
        kinds = {"iopub": zmq.SUB, "hb": zmq.REQ}
        for channel in channels:
            socket = zmq.asyncio.Context.instance().socket(kinds.get(channel, zmq.DEALER))
            socket.linger = 0
            if channel == "iopub":
                socket.rcvhwm = hwm
                socket.subscribe(b"")
            elif channel != "hb":
                socket.setsockopt(zmq.IDENTITY, self.identity)
            socket.connect(f"ipc://{info['ip']}-{info[channel + '_port']}")
            self.sockets[channel] = socket

    async def send(self, channel, kind, content, buffers=()):
        """Send a request; returns its msg_id."""
        message = self.session.msg(kind, content)
        frames = self.session.serialize(message)
        await self.sockets[channel].send_multipart([*frames, *buffers])
        return message["header"]["msg_id"]

    async def receive(self, channel, limit=LIMIT):
        """The next message, checked and parsed; iopub ones have their topic under `topic`."""
        async with asyncio.timeout(limit):
            frames = await self._frames(channel)
        topics, parts = self.session.feed_identities(frames)
        message = self.session.deserialize(parts, content=True)
        message["topic"] = topics[0] if topics else b""
        return message

    async def parts(self, count):
        """`count` iopub messages as (number in the topic, content as bytes), unparsed: quick."""
        got = []
        async with asyncio.timeout(LIMIT * 2):
            while len(got) < count:
                frames = await self._frames("iopub")
                got.append((int(frames[0].partition(b".")[2]), frames[6]))
        return got

    async def _frames(self, channel):
        frames = await self.sockets[channel].recv_multipart()
        while channel == "iopub" and b'"iopub_welcome"' in frames[3]:  # each new subscriber makes one
            frames = await self.sockets[channel].recv_multipart()
        return frames

    def close(self):
        for socket in self.sockets.values():
            socket.close(0)


def parts_of(kind, content, parent=None):
    """The four parts of a kernel's message."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "session": "k",
        "username": "k",
        "date": "2026-01-01T00:00:00Z",
        "version": "5.4",
    }
    return [json.dumps(part).encode() for part in (header, parent or {}, {}, content)]
