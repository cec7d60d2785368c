"""A data stream between a login node and a compute node: a step of Slurm carries what is small, files of a shared folder what is large.

Both ends run the same translator. It takes the bytes of its side as they come, whatever they mean, and cuts them into pieces: of what has gathered while
the piece before left, more than `INLINE` bytes go into a file, the rest through the step. The other end puts them together again. Each
says how many pieces are used up (TAKEN), and no more than `AHEAD` are under way: that much room a folder needs, at most, and that much memory an end.
A TAKEN waits a little for something to go with: ``srun`` holds back what follows a small message until that has been acknowledged, 40 ms later.
"""

from __future__ import annotations

import itertools
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from remote_gpu.errors import BadFrame, LinkProblem
from remote_gpu.node.spool import Spool
from remote_gpu.transfer.frames import Op, Reader, StreamEnded, head_of, slices, write_all

__all__ = ["AHEAD", "INLINE", "PIECE", "Pieces"]

INLINE = 256 << 10
"""Bytes that are not worth a file."""

PIECE = 8 << 20
"""Bytes of the largest piece."""

AHEAD = 4
"""Pieces of one direction that may be under way."""

_GATHER = 0.002  # seconds without a byte after which what has gathered leaves, if it or the piece before it fills a file
_COMPANY = 0.02  # seconds that a TAKEN waits for company
_TAKEN = 2  # pieces whose TAKEN goes alone
_FULL = 60.0  # seconds after which a folder that was full is tried again
_CHUNK = 1 << 20


class _Heard(NamedTuple):
    """A piece that came: its bytes, or the file that they lie in."""

    data: bytes
    number: int = 0
    descriptor: int = -1
    size: int = 0


class Pieces:
    """Carries what comes from `source` to the other end, and what comes from there to `sink`; both are closed at their end.

    `incoming` and `outgoing` lead to the other end, which has been greeted.
    """

    def __init__(self, incoming: Reader, outgoing: int, spool: Spool, source: int, sink: int) -> None:
        self._in, self._out = incoming, outgoing
        self._spool = spool
        self._source, self._sink = source, sink
        self._numbers = itertools.count(1)
        self._change = threading.Condition()
        self._credit = self._owed = AHEAD
        self._taken = 0
        self._dead = False
        self._writing = threading.Lock()
        self._wants, self._wanted = os.pipe()
        self._gathered: queue.Queue[memoryview | None] = queue.Queue()
        self._heard: queue.Queue[_Heard | None] = queue.Queue()
        self._full_until = 0.0
        self._told = ""
        self._note = ""
        self.problem = ""
        """What the other end did that it should not."""
        self.sent = _thread(self._gather), _thread(self._hand_over)
        self.received = _thread(self._hear), _thread(self._pass_on)

    def start(self) -> None:
        """Begin; each thread ends by itself."""
        for thread in (*self.sent, *self.received):
            thread.start()

    def finish(self, limit: float) -> None:
        """Wait until the other end has all that came from `source`, or is gone, or for `limit` seconds."""
        deadline = time.monotonic() + limit
        for thread in self.sent:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._change:
            self._change.wait_for(lambda: self._credit == AHEAD or self._dead, max(0.0, deadline - time.monotonic()))

    def note(self) -> str:
        """What the user is to be told, once."""
        note, self._note = self._note, ""
        return note

    # from here to there

    def _gather(self) -> None:
        """Fill one of two buffers while the other one leaves."""
        try:
            size = 0
            for buffer in itertools.cycle((bytearray(PIECE), bytearray(PIECE))):
                size, over = self._fill(memoryview(buffer), flows=size > INLINE)
                if size:
                    self._gathered.put(memoryview(buffer)[:size])
                if over:
                    return
        except OSError:
            return
        finally:
            self._gathered.put(None)
            os.close(self._wants)
            os.close(self._source)  # whoever writes is told that nobody reads any more

    def _fill(self, view: memoryview, *, flows: bool) -> tuple[int, bool]:
        """(bytes, whether nothing follows). Returns when the piece before has left, and the source is dry or `view` full.

        While much `flows`, it waits a little for more.
        """
        size, wanted, over = 0, False, False
        while not wanted or (size < len(view) and not over):
            watched = [] if wanted else [self._wants]
            if size < len(view) and not over:
                watched.append(self._source)
            patience = None if not (wanted and size) else _GATHER if flows or size > INLINE else 0.0
            ready = select.select(watched, [], [], patience)[0]
            if not ready:
                break
            if self._wants in ready:
                wanted = True
                if not os.read(self._wants, 1):
                    return 0, True
            if self._source in ready:
                count = os.readv(self._source, [view[size:]])
                size, over = size + count, not count
        return size, over

    def _hand_over(self) -> None:
        try:
            while True:
                with suppress(BrokenPipeError):  # all has gathered that will
                    os.write(self._wanted, b".")
                piece = self._gathered.get()
                if piece is None:
                    break
                self._send(piece)
            self._say(head_of(Op.BYTES))
        except (OSError, LinkProblem):
            self._die()
        finally:
            os.close(self._wanted)

    def _send(self, piece: memoryview) -> None:
        if len(piece) > INLINE and time.monotonic() >= self._full_until:
            self._take_credit()
            number = next(self._numbers)
            try:
                self._spool.write(number, piece)
            except OSError as error:
                self._give_credit()
                self._is_full(error)
            else:
                self._say(head_of(Op.PIECE, {"number": number, "size": len(piece)}))
                return
        for part in slices(piece, INLINE):
            self._take_credit()
            told, self._told = self._told, ""
            self._say(head_of(Op.BYTES, {"note": told} if told else None, len(part)) + bytes(part))

    def _is_full(self, error: OSError) -> None:
        if not self._full_until:
            where = f"The scratch folder {self._spool.above} takes no more from {os.uname().nodename}: {error.strerror}."
            self._note = self._told = f"{where} Until it does, arrays and files go through srun, which is slower."
        self._full_until = time.monotonic() + _FULL

    # from there to here

    def _hear(self) -> None:
        try:
            while (message := self._in.message()) is not None:
                if message.op == Op.TAKEN:
                    self._give_credit(int(message.meta["count"]))
                elif message.op == Op.BYTES and message.size <= INLINE:
                    self._note = str(message.meta.get("note") or "")[:1000] or self._note
                    self._expect(_Heard(self._in.exactly(message.size)) if message.size else None)
                elif message.op == Op.PIECE:
                    self._expect(self._opened(int(message.meta["number"]), int(message.meta["size"])))
                else:
                    raise BadFrame(f"The other end of a relay says {message.op} with {message.size} bytes.")
        except BadFrame as error:
            self.problem = str(error)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self.problem = f"The other end of a relay says what cannot be followed: {error!r}."
        except (OSError, LinkProblem):
            pass
        finally:
            self._die()
            self._heard.put(None)

    def _expect(self, heard: _Heard | None) -> None:
        """Keep what came until it is passed on. Raises `BadFrame` when the other end does not wait for us."""
        if heard is not None:
            with self._change:
                self._owed -= 1
                if self._owed < 0:
                    raise BadFrame("The other end of a relay sends more than it may.")
        self._heard.put(heard)

    def _opened(self, number: int, size: int) -> _Heard:
        if not INLINE < size <= PIECE:
            raise BadFrame(f"The other end of a relay announces a piece of {size} bytes.")
        descriptor = self._spool.open(number, size)
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(descriptor, 0, size, os.POSIX_FADV_WILLNEED)
        return _Heard(b"", number, descriptor, size)

    def _pass_on(self) -> None:
        try:
            while (heard := self._next()) is not None:
                if heard.descriptor >= 0:
                    try:
                        _copy(heard.descriptor, self._sink, heard.size)
                    finally:
                        os.close(heard.descriptor)
                        self._spool.used(heard.number)
                else:
                    write_all(self._sink, heard.data)
                self._note_taken()
            self._say_taken()
        except (OSError, BadFrame) as error:
            self.problem = self.problem or ("" if isinstance(error, BrokenPipeError) else str(error))
        finally:
            os.close(self._sink)

    def _next(self) -> _Heard | None:
        """What is to be passed on next, None at the end. What was taken before is told first when nothing comes for a while."""
        try:
            return self._heard.get(timeout=_COMPANY if self._taken else None)
        except queue.Empty:
            self._say_taken()
            return self._heard.get()

    def _note_taken(self) -> None:
        with self._change:
            self._owed += 1
            self._taken += 1
            wait = self._taken < _TAKEN
        if not wait:
            self._say_taken()

    def _say_taken(self) -> None:
        with suppress(OSError):  # one that is gone has said all that is still to be passed on
            self._say(b"")

    # both

    def _say(self, data: bytes) -> None:
        """Send messages, and before them what has been taken."""
        with self._writing:
            with self._change:
                count, self._taken = self._taken, 0
            if count:
                data = head_of(Op.TAKEN, {"count": count}) + data
            write_all(self._out, data)

    def _take_credit(self) -> None:
        with self._change:
            self._change.wait_for(lambda: self._credit or self._dead)
            if self._dead:
                raise StreamEnded("The other end of a relay is gone.")
            self._credit -= 1

    def _give_credit(self, count: int = 1) -> None:
        with self._change:
            if not 0 < count <= AHEAD - self._credit:
                raise BadFrame("The other end of a relay has taken more than there was.")
            self._credit += count
            self._change.notify_all()

    def _die(self) -> None:
        with self._change:
            self._dead = True
            self._change.notify_all()


def _thread(work: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True)


def _copy(source: int, target: int, size: int) -> None:
    """All of a file, by the system where it can. Raises OSError when the reader is gone, `BadFrame` when there is less than was said."""
    at = 0
    with suppress(AttributeError):
        while at < size:
            try:
                count = os.sendfile(target, source, at, size - at)
            except BrokenPipeError:
                raise
            except OSError:  # not for this kind of file
                break
            if not count:
                break
            at += count
    while at < size:
        data = os.pread(source, min(_CHUNK, size - at), at)
        if not data:
            raise BadFrame("A piece of a relay became shorter while it was read.")
        write_all(target, data)
        at += len(data)
