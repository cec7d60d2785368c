"""What the kernel prints: it leaves within milliseconds, stdout and stderr in one order, and without a TCP port."""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
import time
from collections import defaultdict
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread, OutStream, ZMQStream

__all__ = ["BUSY_FLUSH", "FIRST_FLUSH", "PrivateIOPubThread", "RemoteOutStream"]

FIRST_FLUSH = 0.003
"""Seconds that text waits after a pause: long enough for the two writes of a `print`."""

BUSY_FLUSH = 0.025
"""Seconds that text waits while more of it keeps coming."""

_COMPANY = 0.004
"""Seconds that the news of a busy kernel waits for more to say."""

_PAUSE = 0.05
_FD_CHUNK = 64 * 1024


class _Order:
    """Keeps what is printed to stdout and stderr in one order: at any time at most one of the streams holds text that is not sealed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.sealed: list[tuple[RemoteOutStream, dict[Any, io.StringIO]]] = []
        self.streams: list[RemoteOutStream] = []
        self.last: RemoteOutStream | None = None
        self.sending = False
        """Whether text was taken whose messages are not all in the queue of the thread that sends."""
        os.register_at_fork(after_in_child=self._renew)

    def turn(self, stream: RemoteOutStream) -> None:
        """`stream` is written to, under the lock: what the other one holds goes first."""
        last, self.last = self.last, stream
        if last is not None and last is not stream and last.held:
            self.sealed.append((last, last.unload()))

    def take(self, stream: RemoteOutStream) -> list[tuple[RemoteOutStream, dict[Any, io.StringIO]]]:
        """All that is to be sent when `stream` is flushed, in the order in which it was printed."""
        with self.lock:
            self.sending = True  # first: `flush` looks without the lock
            taken, self.sealed = self.sealed, []
            return [*taken, (stream, stream.unload())]

    def _renew(self) -> None:
        """In a forked child: another thread may have held the lock, and what was printed before the fork is the parent's to send."""
        self.lock = threading.RLock()
        self.sealed.clear()
        self.sending = False
        for stream in self.streams:
            stream.unload()


class RemoteOutStream(OutStream):
    """Standard output and error: in order, with an adaptive flush interval, and descriptor-level output that is shown and not logged."""

    _flushed = 0.0

    def __init__(self, session: Any, pub_thread: PrivateIOPubThread, *args: Any, **options: Any) -> None:
        self._order = pub_thread.order
        self._taken: dict[Any, io.StringIO] = {}
        self._open_for: Any = None
        self._open: io.StringIO | None = None
        super().__init__(session, pub_thread, *args, **options)
        self._order.streams.append(self)

    @property
    def held(self) -> bool:
        """Whether text waits in this stream's own buffers."""
        return bool(self._buffers)

    def unload(self) -> dict[Any, io.StringIO]:
        """Take the text out, under the lock; the next one makes a flush of its own necessary."""
        self._flush_pending = self._subprocess_flush_pending = False
        self._open_for = self._open = None
        buffers, self._buffers = self._buffers, defaultdict(io.StringIO)
        return buffers

    def write(self, string: str) -> int | None:  # type: ignore[override]  # as OutStream has it
        """Hold `string` for a moment, behind all that was printed before.

        A long print writes a hundred thousand times between two flushes: while the buffer of the last write is still the
        right one, the text goes straight into it, which takes half of the plain stream's time.
        """
        order = self._order
        with order.lock:
            held = self._open
            if held is not None and order.last is self and self._open_for is self.parent_header and isinstance(string, str):
                return held.write(string)
            order.turn(self)
            count = super().write(string)
            if self._flush_pending and self.echo is None:
                self._open_for = self.parent_header
                self._open = self._buffers[frozenset(self._open_for.items())]
            return count

    def _schedule_flush(self) -> None:
        if self._flush_pending:
            return
        self._flush_pending = True
        delay = FIRST_FLUSH if time.monotonic() - self._flushed > _PAUSE else BUSY_FLUSH
        self.pub_thread.schedule(lambda: self._io_loop.call_later(delay, self._flush))

    def flush(self) -> None:
        """Send what is held, and let what was taken before go first. The plain one hands over to its thread and waits, several times in each
        cell, even for nothing.
        """
        if self._buffers or self._order.sealed or self._order.sending:
            super().flush()

    def _flush(self) -> None:
        for stream, buffers in self._order.take(self):
            stream.publish(buffers)
        self._order.sending = False
        self._flushed = time.monotonic()

    def publish(self, buffers: dict[Any, io.StringIO]) -> None:
        """Send what was unloaded; called on the thread that sends."""
        self._taken = buffers
        super()._flush()

    def _rotate_buffers(self) -> dict[Any, io.StringIO]:
        taken, self._taken = self._taken, {}
        return taken

    def fileno(self) -> int:
        """The descriptor that a child process should write to, so that its output is shown too."""
        descriptor = getattr(self, "_original_stdstream_fd", None)
        return super().fileno() if descriptor is None else int(descriptor)

    def _watch_pipe_fd(self) -> None:
        if self._fid is None:
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while (data := os.read(self._fid, _FD_CHUNK)) and self._should_watch:
                self.write(decoder.decode(data))
        except (OSError, ValueError):  # closed below us
            self._exc = sys.exc_info()


class PrivateIOPubThread(IOPubThread):
    """ipykernel's thread, with an ipc socket in the session's folder where the plain one opens a TCP port.

    It carries what forked children of the kernel print.
    """

    path = ""
    _held: tuple[Any, ...] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        self.order = _Order()
        super().__init__(*args, **options)

    def _really_send(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Send a message. That the kernel is busy waits a moment for what follows it: both then travel as one, at half the cost."""
        if os.getpid() != self._master_pid:
            super()._really_send(msg, *args, **kwargs)
            return
        self._release()
        if threading.get_ident() == self.thread.ident and bytes(msg[0]).endswith(b".status") and b'"busy"' in bytes(msg[-1]):
            self._held = (msg, args, kwargs)
            self.io_loop.call_later(_COMPANY, self._release)
        else:
            super()._really_send(msg, *args, **kwargs)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            super()._really_send(held[0], *held[1], **held[2])

    def _setup_pipe_in(self) -> None:
        socket = self.socket.context.socket(zmq.PULL)
        socket.linger = 0
        self._pipe_uuid = os.urandom(16)
        socket.bind(f"ipc://{self.path}")
        self._pipe_in = ZMQStream(socket, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[zmq.Context[Any], zmq.Socket[bytes]]:
        context = zmq.Context()
        socket = context.socket(zmq.PUSH)
        socket.linger = 3000
        socket.connect(f"ipc://{self.path}")
        return context, socket
