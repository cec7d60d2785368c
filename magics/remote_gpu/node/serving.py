"""The kernel's side of a fetch: it writes an object straight into the stream of the data process, which hands its descriptor over.

One daemon thread waits at a private socket in the session's folder. For each fetch the data process says which object is wanted; the
kernel encodes it (no copy of its memory is made) and answers with the sizes; on ``go`` it writes the bytes and says so. What was encoded is kept until
the other end has it all, so that a transfer which was cut goes on, unless a cell ran meanwhile: then it begins anew.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from remote_gpu.errors import KernelDied, RemoteGpuError
from remote_gpu.transfer.frames import Op, head_of, write_all
from remote_gpu.transfer.packed import blocks, pays

__all__ = ["Server", "reach", "serve"]

Encode = Callable[[Any], "tuple[dict[str, Any], bytes | memoryview, Sequence[Any]]"]

_NAME = "d"
_LINE_LIMIT = 1 << 20
_KEPT = 120.0
_KEPT_COUNT = 4


@dataclass
class _Encoded:
    """An object as it is sent; `generation` says between which cells."""

    generation: int
    entries: dict[str, Any]
    parts: list[memoryview]
    since: float

    def head(self, offset: int, *, packed: bool) -> bytes:
        sizes = [len(part) for part in self.parts]
        meta = {"entries": self.entries, "sizes": sizes, "offset": offset, "generation": self.generation}
        return head_of(Op.PARCEL, meta, sum(sizes) - offset, packed=packed)


class Server:
    """Answers fetches until `close`; see `serve`."""

    def __init__(self, folder: str, encode: Encode, generation: Callable[[], int]) -> None:
        self._encode = encode
        self._generation = generation
        self._kept: dict[str, _Encoded] = {}
        self._lock = threading.Lock()
        self.path = os.path.join(folder, f"{_NAME}{os.getpid()}")
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(8)
        os.register_at_fork(after_in_child=self._listener.close)  # a child of the kernel must not look as if it answered
        threading.Thread(target=self._run, name="Data", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            if _is_own(peer):
                threading.Thread(target=self._attend, args=(peer,), name="Data", daemon=True).start()
            else:
                peer.close()

    def _attend(self, peer: socket.socket) -> None:
        descriptors: list[int] = []
        with peer:
            try:
                data, descriptors, _, _ = socket.recv_fds(peer, _LINE_LIMIT, 1)
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)  # a command of the user's must not keep the stream open
                asked = json.loads(data)
                if "got" in asked:
                    self._kept.pop(str(asked["got"]), None)
                elif descriptors:
                    self._answer(peer, asked, descriptors[0])
            except (OSError, ValueError, KeyError, TypeError):
                return  # the other end is gone; it will ask again
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _answer(self, peer: socket.socket, asked: dict[str, Any], stream: int) -> None:
        try:
            encoded, offset = self._encoded(asked)
        except RemoteGpuError as error:
            _say(peer, {"problem": error.problem()})
            return
        except Exception as error:  # noqa: BLE001  whatever a user's object does when it is encoded
            text = traceback.format_exception_only(type(error), error)[-1].strip()
            _say(peer, {"problem": RemoteGpuError(f"The object could not be encoded on the node: {text}").problem()})
            return
        _say(peer, {"ready": True})
        if peer.recv(16) != b"go":
            return
        _write(stream, encoded, offset, float(asked.get("speed") or 0))
        _say(peer, {"done": True})

    def _encoded(self, asked: dict[str, Any]) -> tuple[_Encoded, int]:
        ticket, offset = str(asked["ticket"]), int(asked.get("offset") or 0)
        with self._lock:
            now, generation = time.monotonic(), self._generation()
            for key in [key for key, each in self._kept.items() if now - each.since > _KEPT]:
                del self._kept[key]
            kept = self._kept.get(ticket)
            if kept is not None and kept.generation == generation == asked.get("generation"):
                kept.since = now
                return kept, offset
            entries, head, buffers = self._encode(asked["wanted"])
            parts = [memoryview(part).cast("B") if memoryview(part).nbytes else memoryview(b"") for part in (head, *buffers)]
            made = _Encoded(generation, dict(entries), parts, now)
            while len(self._kept) >= _KEPT_COUNT:
                del self._kept[next(iter(self._kept))]
            self._kept[ticket] = made
            return made, 0


def serve(folder: str | os.PathLike[str], encode: Encode, generation: Callable[[], int] = lambda: 0) -> Server:
    """Answer fetches of this process's objects, from one thread (and one more for each fetch under way).

    `encode` gets what the laptop asked for (the id of a handle) and returns (entries as JSON, head, buffers: contiguous memory); it is called in
    that thread, one call at a time. `generation` is a number that changes when a cell runs: what was encoded before it is stale.
    """
    return Server(os.fspath(folder), encode, generation)


def _write(stream: int, encoded: _Encoded, offset: int, speed: float) -> None:
    """The object from `offset` on, compressed where that pays on a stream of `speed` bytes a second."""
    parts = []
    for part in encoded.parts:
        parts.append(part[min(offset, len(part)) :])
        offset -= len(part) - len(parts[-1])
    packed = pays(max(parts, key=len), speed)
    write_all(stream, encoded.head(sum(map(len, encoded.parts)) - sum(map(len, parts)), packed=packed))
    for part in parts:
        for data in blocks(part) if packed else (part,):
            write_all(stream, data)


def _say(peer: socket.socket, value: dict[str, Any]) -> None:
    peer.sendall(json.dumps(value).encode() + b"\n")


def _is_own(peer: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder is private
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", found)[1] == os.getuid())


def reach(folder: str) -> socket.socket:
    """The data process's side: a connection to the kernel of the session in `folder`, the newest incarnation that answers.

    Raises `KernelDied`.
    """
    found = []
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.startswith(_NAME) and entry.name[1:].isdigit():
                with suppress(OSError):
                    found.append((entry.stat().st_mtime_ns, entry.path))
    for _, path in sorted(found, reverse=True):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.connect(path)
        except OSError:
            peer.close()
            continue
        return peer
    raise KernelDied("The remote kernel does not give its objects out: it has ended, or it is starting.", hint="Run the cell again.")


def ask(folder: str, wanted: dict[str, Any], stream: int | None) -> socket.socket:
    """Ask the kernel; `stream` is the descriptor that it is to write to. Raises `KernelDied`."""
    peer = reach(folder)
    try:
        line = json.dumps(wanted).encode()
        ancillary = [] if stream is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [stream]))]
        peer.sendmsg([line], ancillary)
    except OSError as error:
        peer.close()
        raise KernelDied(f"The remote kernel ended: {error}.") from error
    return peer
