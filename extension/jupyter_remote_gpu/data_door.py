"""The door for data: a private socket beside the gateway's own, where a notebook gets the descriptor of a stream to a node.

A connection says in one line of JSON which attachment asks, and gets one byte with a descriptor, or a problem: also when the command behind
the stream ended at once, with its last words. HTTP cannot carry descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.clusters.base import CarriesData
from jupyter_remote_gpu.data_commands import DataCommand
from jupyter_remote_gpu.models import Session
from jupyter_remote_gpu.sessions import Sessions
from jupyter_remote_gpu.wishes import raise_if_over
from remote_gpu.errors import NoDataStream, NotAllowed, NotWritable, RemoteGpuError, UnknownAttachment, UsageProblem

__all__ = ["DataDoor", "door_of"]

_LINE_LIMIT = 4096


def door_of(gateway: Path) -> Path:
    """The door of the gateway whose own socket is `gateway`."""
    return gateway.with_suffix(".data")


class DataDoor:
    """Opens data streams for the attachments of one gateway, one for each attachment at a time. All calls come from its event loop."""

    def __init__(self, path: Path, sessions: Sessions, clusters: Clusters, log: logging.Logger) -> None:
        self._path = path
        self._sessions = sessions
        self._clusters = clusters
        self._log = log
        self._streams: dict[tuple[str, str], DataCommand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = _bind(path)
        self._forget = sessions.subscribe(self._on_session)

    def start(self) -> None:
        """Serve, until `aclose`; connections that came before wait."""
        self._spawn(self._serve())

    async def aclose(self) -> None:
        """End all streams."""
        self._forget()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        streams, self._streams = list(self._streams.values()), {}
        await asyncio.gather(*(stream.aclose() for stream in streams))

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            peer, _ = await loop.sock_accept(self._listener)
            peer.setblocking(False)
            self._spawn(self._attend(peer))

    async def _attend(self, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with peer:
            try:
                _check(peer)
                stream = await self._open(json.loads(await loop.sock_recv(peer, _LINE_LIMIT)))
                await stream.spoken()
            except RemoteGpuError as error:
                await _say(peer, error.problem())
                return
            except (ValueError, TypeError, AttributeError):
                await _say(peer, UsageProblem("A data stream is asked for by a JSON object with session and attachment.").problem())
                return
            except OSError:
                return
            with stream.take() as taken, contextlib.suppress(OSError):
                socket.send_fds(peer, [b"."], [taken.fileno()])
        if said := await stream.wait():
            self._log.info("A data stream ended: %s", said)

    async def _open(self, asked: dict[str, Any]) -> DataCommand:
        session, attachment = self._sessions.peek(str(asked.get("session"))), str(asked.get("attachment"))
        raise_if_over(session)
        if self._sessions.attachment(session.id, attachment) is None:
            raise UnknownAttachment(f"The session has no attachment {attachment!r} in this gateway.", hint="Attach again.")
        cluster = self._clusters[session.cluster]
        if not isinstance(cluster, CarriesData):
            raise NoDataStream(f"The cluster {session.cluster} has no stream for arrays and files.")
        key = (str(session.id), attachment)
        if (old := self._streams.pop(key, None)) is not None:
            await old.aclose()
        stream = self._streams[key] = await cluster.open_data(session.allocation, session.id)
        return stream

    def _on_session(self, session: Session) -> None:
        """An attachment that is gone takes its stream along."""
        for key in [key for key in self._streams if key[0] == session.id and self._sessions.attachment(session.id, key[1]) is None]:
            self._spawn(self._streams.pop(key).aclose())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise NotWritable(f"Cannot open the socket {path}: {error.strerror or error}.") from error
    listener.setblocking(False)
    return listener


def _check(peer: socket.socket) -> None:
    """Only this user; the folder is private already."""
    if hasattr(socket, "SO_PEERCRED"):
        found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", found)[1] != os.getuid():
            raise NotAllowed("A data stream is opened for the gateway's own user only.")


async def _say(peer: socket.socket, value: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(peer, json.dumps(value).encode() + b"\n")
