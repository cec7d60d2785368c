"""The five ipc sockets of a front, on the event loop, and the signatures of Jupyter's wire.

The sockets are bound as ``b-1`` … ``b-5`` and known as ``k-1`` … ``k-5``, which are links to them. A KernelManager deletes
the files that it knows when it restarts or ends its kernel; making the links again serves new clients, and the
connections that stand are not touched.

A ZMQ descriptor tells of *changes* only: it may stay silent while messages wait, when a send took the news in. So each
callback reads until there is nothing, and looks again after a send.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Sequence
from pathlib import Path

import zmq

from jupyter_remote_gpu.front_files import PORTS
from remote_gpu.errors import NotWritable

__all__ = ["DELIMITER", "Signer", "Sockets"]

DELIMITER = b"<IDS|MSG>"
_SIGNED = 4  # header, parent header, metadata, content
_IOPUB_AHEAD = 256  # messages that ZMQ may hold for each subscriber; above them a send says so instead of dropping
_LINGER = 500  # milliseconds that messages have to leave a closed socket
_BIG = 64 * 1024  # bytes from which ZMQ is given the memory itself and not a copy

_LAST = int(zmq.NOBLOCK)  # plain numbers: joining flags as enums costs more than sending a small frame
_MORE = int(zmq.NOBLOCK) | int(zmq.SNDMORE)

Socket = zmq.Socket[bytes]


class Signer:
    """Signs and checks messages with a front's key (HMAC-SHA256, hexadecimal)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, parts: Sequence[bytes | memoryview]) -> bytes:
        """The signature of a message's parts (header, parent header, metadata, content; buffers are not signed)."""
        return hmac.digest(self._key, b"".join(parts[:_SIGNED]), "sha256").hex().encode()

    def split(self, frames: list[bytes]) -> tuple[list[bytes], list[bytes | memoryview]] | None:
        """Identities and parts of a message from a client; None when it is malformed or its signature is wrong."""
        try:
            at = frames.index(DELIMITER)
        except ValueError:
            return None
        parts = frames[at + 2 :]
        if len(parts) < _SIGNED or not hmac.compare_digest(frames[at + 1], self.sign(parts)):
            return None
        return frames[:at], list(parts)


class Sockets:
    """Binds, watches and closes the sockets. `on_readable[channel]` is called whenever that channel may have something."""

    def __init__(self, folder: Path, on_readable: dict[str, Callable[[], None]]) -> None:
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._on_readable = on_readable
        self._sockets: dict[str, Socket] = {}
        context: zmq.Context[Socket] = zmq.Context.instance()
        try:
            for channel in PORTS:
                self._sockets[channel] = self._bind(context, channel)
        except zmq.ZMQError as error:
            self.close()
            raise NotWritable(f"Cannot make a socket in {folder}: {error.strerror}.") from error
        self.link()

    def __getitem__(self, channel: str) -> Socket:
        return self._sockets[channel]

    def _bind(self, context: zmq.Context[Socket], channel: str) -> Socket:
        kind = {"iopub": zmq.XPUB, "hb": zmq.REP}.get(channel, zmq.ROUTER)
        socket = context.socket(kind)
        self._sockets[channel] = socket
        socket.linger = _LINGER
        if channel == "iopub":
            socket.setsockopt(zmq.SNDHWM, _IOPUB_AHEAD)
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        elif kind == zmq.ROUTER:
            socket.setsockopt(zmq.SNDHWM, 0)  # a ROUTER drops at its limit; replies are as many as requests
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.bind(f"ipc://{self._folder / 'b'}-{PORTS[channel]}")
        return socket

    def watch(self) -> None:
        """Begin to call `on_readable`; once for each channel now, for what came already."""
        for channel, socket in self._sockets.items():
            self._loop.add_reader(socket.FD, self._on_readable[channel])
            self._loop.call_soon(self._on_readable[channel])

    def link(self) -> None:
        """Make the names that clients know (again); the sockets and their connections stay as they are."""
        for port in PORTS.values():
            name = self._folder / f"k-{port}"
            fresh = self._folder / f".k-{port}"
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            fresh.symlink_to(f"b-{port}")
            fresh.replace(name)

    def look_again(self, channel: str) -> None:
        """After a send: what came meanwhile may not be told by the descriptor any more."""
        if self.waits(channel):
            self._loop.call_soon(self._on_readable[channel])

    def waits(self, channel: str) -> bool:
        """Whether something can be received; takes in the descriptor's news, so that it falls silent until the next."""
        return bool(int(self._sockets[channel].getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def receive(self, channel: str) -> list[bytes] | None:
        """The next message of a channel, or None."""
        try:
            return self._sockets[channel].recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def send(self, channel: str, frames: Sequence[bytes | memoryview], size: int = 0) -> bool:
        """Send without waiting; False when a subscriber is behind or the client is not connected."""
        try:
            socket, copy = self._sockets[channel], size < _BIG
            for frame in frames[:-1]:
                socket.send(frame, _MORE, copy=copy)
            socket.send(frames[-1], _LAST, copy=copy)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def close(self) -> None:
        """Close everything; idempotent."""
        for socket in self._sockets.values():
            self._loop.remove_reader(socket.FD)
            socket.close()
        self._sockets.clear()
