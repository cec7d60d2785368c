"""The verb ``data SESSION``: arrays and files over stdin and stdout, beside the link. docs/reference/data-stream.md has the protocol.

One process per attachment and session, begun at the first need. It keeps no state that a cut would lose: blobs and files that are under way grow on
disk (or in memory), and a fetch is the kernel's, which writes to this process's stdout itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any

from remote_gpu.base import base_folder
from remote_gpu.errors import BadFrame, KernelDied, NoRoom, RemoteGpuError, SessionEnded, UnknownSession
from remote_gpu.node.blobs import Store, forget_if_unused
from remote_gpu.node.files import Files
from remote_gpu.node.pipes import widen
from remote_gpu.node.serving import ask
from remote_gpu.transfer.frames import Message, Op, Reader, StreamEnded, head_of, preamble, write_all
from remote_gpu.transfer.packed import unpacked

__all__ = ["main", "serve"]

_IDLE = 600.0
"""Seconds without a message after which the process ends; the other side opens another one when it needs it."""

_TRIM_EVERY = 10.0
_WAIT_EVERY = 5.0
_LINE_LIMIT = 1 << 20
_ECHO_LIMIT = 64 << 20
_ECHO_BLOCK = 1 << 16


def main(session: str) -> int:
    """Serve stdin and stdout until the stream ends; returns an exit status."""
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what something prints must not get into the stream
    widen(incoming)
    widen(outgoing)
    return serve(session, incoming, outgoing)


def serve(session: str, incoming: int, outgoing: int, noted: Callable[[], str] = str) -> int:
    """Serve two descriptors until the stream ends; returns an exit status. `noted` gives what is to be told to the user, once, or ""."""
    write_all(outgoing, preamble())
    try:
        serving = _Serving(session, incoming, outgoing, noted)
    except RemoteGpuError as error:
        write_all(outgoing, head_of(Op.FAILED, {"problem": error.problem()}))
        return 3 if isinstance(error, UnknownSession) else 1
    try:
        serving.run()
    except (StreamEnded, ConnectionError):
        return 0
    except RemoteGpuError as error:
        with contextlib.suppress(OSError):
            write_all(outgoing, head_of(Op.FAILED, {"problem": error.problem()}))
        return 1
    finally:
        serving.close()
    return 0


class _Serving:
    """One stream and the session behind it."""

    def __init__(self, session: str, incoming: int, outgoing: int, noted: Callable[[], str]) -> None:
        self._in, self._out = incoming, outgoing
        self._noted = noted
        self._session = session
        self._folder = os.path.join(base_folder(), "s", session)
        state = self._state()
        self._reader = Reader(incoming)
        self._store: Store | None = None
        self._files = Files(str(state.get("cwd") or os.path.expanduser("~")))
        self._hello = {"node": os.uname().nodename, "session": session, "pid": os.getpid(), "cwd": self._files.folder}
        self._answers: dict[int, Callable[[Message], None]] = {
            Op.HAVE: self._have,
            Op.PUT: self._put,
            Op.NAME: self._name,
            Op.SYNC: self._sync,
            Op.FETCH: self._fetch,
            Op.GOT: self._got,
            Op.LIST: self._list,
            Op.WRITE: self._write,
            Op.READ: self._read,
            Op.PART: self._part,
            Op.ECHO: self._echo,
        }

    def run(self) -> None:
        """Answer until the stream ends or nobody asks for long."""
        self._reader.greet()
        self._say(Op.HELLO, self._hello | {"seed": f"{self._blobs.seed:016x}"})
        while self._is_asked():
            message = self._reader.message()
            if message is None:
                return
            answer = self._answers.get(message.op)
            if answer is None:
                raise BadFrame(f"The data stream has no message {message.op}.")
            try:
                answer(message)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise BadFrame(f"The node cannot follow message {message.op} of the data stream: {error!r}.") from error

    def _is_asked(self) -> bool:
        """Wait for a message, and mind the store meanwhile; False when none came for long."""
        for _ in range(int(_IDLE / _TRIM_EVERY)):
            if select.select([self._in], [], [], _TRIM_EVERY)[0]:
                return True
            self._blobs.trim()
        return False

    def close(self) -> None:
        """Leave what is under way for the next attempt; the last session's last process removes the store."""
        if self._store is not None:
            self._store.close()
        self._files.close()
        if not os.path.exists(self._folder):
            forget_if_unused(self._session)

    @property
    def _blobs(self) -> Store:
        if self._store is None:
            self._store = Store()
        return self._store

    def _state(self) -> dict[str, Any]:
        if not (self._session.isascii() and self._session.isalnum()):
            raise UnknownSession(f"{self._session!r} is not the id of a session.")
        try:
            with open(os.path.join(self._folder, "state.json"), encoding="utf-8") as file:
                state = json.load(file)
        except (OSError, ValueError) as error:
            raise UnknownSession(f"The session {self._session} does not run on {os.uname().nodename}.") from error
        return state if isinstance(state, dict) else {}

    def _say(self, op: Op, meta: dict[str, Any]) -> None:
        if note := self._noted():
            write_all(self._out, head_of(Op.WAIT, {"note": note}))
        write_all(self._out, head_of(op, meta))

    def _echo(self, message: Message) -> None:
        """What the other side measures a way with: bytes that are forgotten, and so many back."""
        size = int(message.meta["size"])
        if not 0 <= size <= _ECHO_LIMIT:
            raise BadFrame(f"An echo of {size} bytes is asked for.")
        self._reader.skip(message.size)
        write_all(self._out, head_of(Op.ECHO, {}, size))
        if size:
            write_all(self._out, memoryview(os.urandom(_ECHO_BLOCK) * (size // _ECHO_BLOCK + 1))[:size])  # ssh may compress

    def _check(self) -> None:
        if not os.path.exists(os.path.join(self._folder, "state.json")):
            raise SessionEnded("The remote session is over.")

    def _attempt(self, op: Op, make: Callable[[], dict[str, Any]]) -> None:
        try:
            self._check()
            answer = make()
        except RemoteGpuError as error:
            self._say(Op.FAILED, {"problem": error.problem()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._say(Op.FAILED, {"problem": RemoteGpuError(f"{os.uname().nodename} could not do this: {error}.").problem()})
        else:
            self._say(op, answer)

    # blobs

    def _have(self, message: Message) -> None:
        if "sizes" in message.meta:
            sizes = [int(size) for size in message.meta["sizes"]]
            self._attempt(Op.HAD, lambda: {"have": self._blobs.count(sizes)})
            return
        asked = [(str(digest), int(size)) for digest, size in message.meta["blobs"]]
        self._attempt(Op.HAD, lambda: {"have": self._blobs.expect(asked)})

    def _name(self, message: Message) -> None:
        """The address of a blob that arrived under another name. Not answered, as PUT is not."""
        self._blobs.rename(str(message.meta["blob"]), str(message.meta["address"]), int(message.meta["size"]))

    def _put(self, message: Message) -> None:
        """A part of a blob. Nothing is answered; what goes wrong ends the stream, for what follows would be of no use."""
        digest, size, offset = str(message.meta["blob"]), int(message.meta["size"]), int(message.meta["offset"])
        try:
            landing = self._blobs.landing(digest, size)
            if landing.offset != offset or (message.size > size - offset and not message.packed):
                raise BadFrame(f"A blob of {size} bytes goes on at byte {landing.offset}, not with {message.size} at {offset}.")
            if message.packed:
                landing.put(unpacked(self._reader.exactly(message.size), size - offset))
            else:
                landing.receive(self._reader, message.size)
            if landing.offset == size:
                self._blobs.arrived(digest, size)
        except OSError as error:
            raise NoRoom(f"The node ran out of room while a blob of {size} bytes arrived: {error.strerror}.") from error

    def _sync(self, _: Message) -> None:
        self._attempt(Op.DONE, lambda: {"files": self._files.taken()})

    # the kernel's objects

    def _fetch(self, message: Message) -> None:
        try:
            self._check()
            with ask(self._folder, message.meta, self._out) as peer:
                self._relay(peer)
        except RemoteGpuError as error:
            self._say(Op.FAILED, {"problem": error.problem()})

    def _relay(self, peer: Any) -> None:
        """Wait until the kernel has encoded the object, let it write, and wait until it has written."""
        answer = self._line(peer, wait=True)
        if "problem" in answer:
            self._say(Op.FAILED, {"problem": answer["problem"]})
            return
        if not answer:
            raise KernelDied("The remote kernel ended while it prepared an object.")
        peer.sendall(b"go")
        if not self._line(peer, wait=False):
            raise StreamEnded("The remote kernel ended in the middle of an object.")  # the stream is of no use any more

    def _line(self, peer: Any, *, wait: bool) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n") and len(data) < _LINE_LIMIT:
            if wait and not select.select([peer], [], [], _WAIT_EVERY)[0]:
                self._say(Op.WAIT, {})
                continue
            try:
                piece = peer.recv(65536)
            except OSError:
                piece = b""
            if not piece:
                return {}
            data += piece
        found = json.loads(data)
        return found if isinstance(found, dict) else {}

    def _got(self, message: Message) -> None:
        with contextlib.suppress(KernelDied):
            ask(self._folder, {"got": message.meta.get("ticket")}, None).close()

    # files

    def _list(self, message: Message) -> None:
        self._attempt(Op.LISTED, lambda: self._files.describe(message.meta))

    def _part(self, message: Message) -> None:
        self._attempt(Op.LISTED, lambda: self._files.part(message.meta))

    def _write(self, message: Message) -> None:
        self._files.write(message.meta, self._reader, message.size)

    def _read(self, message: Message) -> None:
        self._files.read(message.meta, self._out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
