"""The supervisor: one process beside the kernel, outside it, with one loop and one thread.

It listens on the session's socket, keeps the journal and the attachments, lets its `Keeper` mind the kernel, and ends
the session: when asked, when its lease runs out, or on SIGTERM. It never waits for anything but its poller.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from remote_gpu.base import ENDED
from remote_gpu.errors import RemoteGpuError
from remote_gpu.folders import private_folder
from remote_gpu.frames import Frame, Kind, unpack_message
from remote_gpu.node import wire
from remote_gpu.node.attachments import Attachments
from remote_gpu.node.blobs import forget_if_unused
from remote_gpu.node.calls import Calls, SessionPlan
from remote_gpu.node.connection import Connection
from remote_gpu.node.job import Job
from remote_gpu.node.journal import DEFAULT_LIMIT, Journal
from remote_gpu.node.keeper import Keeper
from remote_gpu.node.names import JOURNAL_NAME, SOCKET_NAME, STATE_NAME
from remote_gpu.node.sessions import write_state
from remote_gpu.node.spawn import adopt_orphans, give_back_memory, kill_children

__all__ = ["Supervisor"]

_CROWD = 20
_CROWD_GAP = 0.002
_CROWD_PAUSE = 0.001
"""After so many turns so close together, messages come in a stream: a short pause lets a batch of them gather."""

_MIND_EVERY = 0.2
_LOOK_EVERY = 2.0
_TRIM_EVERY = 1000
_FAREWELL = 1.0
_LONGEST_WAIT = 0.5


class Supervisor:
    """The session `plan` in `folder`. Making it opens the socket; `run` returns when the session is over."""

    def __init__(self, plan: SessionPlan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._journal = Journal(folder / JOURNAL_NAME, limit=plan.journal_limit or DEFAULT_LIMIT)
        self._attachments = Attachments(self._journal)
        self._connections: dict[int, Connection] = {}
        self._listener = self._listen()
        self._poller = zmq.Poller()
        self._polled: dict[Any, int] = {}
        self._attended = time.monotonic()
        self._crowded, self._turned, self._minded = 0, 0.0, 0.0
        self._trimmed = 0
        self._looked = 0.0
        self._told_of_disk = False
        self._warnings: list[str] = []
        self._ending = ""
        self._end_by = float("inf")
        self._wake, wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._keeper = Keeper(folder, plan.env, self._attachments, self._tell_kernel)
        self._job = Job(plan.env)
        self._calls = Calls(plan, folder, self._journal, self._attachments, self._keeper, self._job, self._end)

    def run(self, prepare: Callable[[], None] | None = None) -> None:
        """Start the kernel (after `prepare`) and serve until the session is over; removes its folder."""
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end(self._job.ending()))
        signal.signal(signal.SIGUSR1, lambda *_: self._warnings.append(self._job.warning()))
        adopt_orphans()
        try:
            if prepare is not None:
                prepare()
            self._keeper.start()
            while not self._over():
                self._turn()
        except Exception as error:
            self._ending = f"The session failed: {error!r}."
            self._say_goodbye()
            raise
        finally:
            self._clean_up()

    def _turn(self) -> None:
        now = time.monotonic()
        self._crowded = self._crowded + 1 if now - self._turned < _CROWD_GAP else 0
        if self._crowded > _CROWD:
            time.sleep(_CROWD_PAUSE)
        due = min((connection.due for connection in self._connections.values()), default=self._end_by)
        wait = min(self._keeper.tick(now) - now, self._end_by - now, due - now, _LONGEST_WAIT)
        self._watch()
        self._turned = now
        events = self._poller.poll(max(0, int(wait * 1000) + 1))
        for source, mask in events:
            self._serve(source, mask)
        self._journal.flush()
        for connection in list(self._connections.values()):
            if not connection.write() or connection.finished:
                self._drop(connection)
        if now - self._minded > _MIND_EVERY or not (self._journal.on_disk or self._told_of_disk):
            self._minded = now
            self._mind_folder(now)
            self._mind_time(now)

    def _watch(self) -> None:
        """Let the poller know what to wait for in this turn."""
        wanted: dict[Any, int] = {self._listener.fileno(): zmq.POLLIN, self._wake: zmq.POLLIN}
        for descriptor, connection in self._connections.items():
            wanted[descriptor] = (0 if connection.closing else zmq.POLLIN) | (zmq.POLLOUT if connection.waiting else 0)
        process = self._keeper.process
        if process.ready_descriptor >= 0:
            wanted[process.ready_descriptor] = zmq.POLLIN
        for each in process.sockets.values():
            wanted[each] = zmq.POLLIN
        for source in [source for source in self._polled if wanted.get(source) != self._polled[source]]:
            self._poller.unregister(source)
            del self._polled[source]
        for source, mask in wanted.items():
            if source not in self._polled:
                self._poller.register(source, mask)
                self._polled[source] = mask

    def _serve(self, source: Any, mask: int) -> None:
        process = self._keeper.process
        if not isinstance(source, int):
            for lane in [lane for lane, each in process.sockets.items() if each is source]:
                self._keeper.receive(lane)
        elif source == self._listener.fileno():
            self._accept()
        elif source == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._reap()
            while self._warnings:
                self._keeper.warn(self._warnings.pop())
        elif source == process.ready_descriptor:
            self._keeper.on_ready()
        elif source in self._connections and mask & ~zmq.POLLOUT:
            self._read(self._connections[source])

    def _reap(self) -> None:
        self._keeper.reap()
        spare = self._keeper.process.pid if self._keeper.process.running else -1
        with contextlib.suppress(ChildProcessError):  # orphans of the kernel that ended
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid != spare:
                os.waitpid(found.si_pid, 0)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            peer, _ = self._listener.accept()
            connection = Connection(peer)
            self._connections[connection.fileno()] = connection
            connection.send_json(Kind.EVENT, {"event": "kernel", **self._keeper.json})
            connection.send_json(Kind.EVENT, {"event": "session", **self._plan.about})

    def _read(self, connection: Connection) -> None:
        try:
            frames = connection.read()
            if frames is None:
                self._drop(connection)
                return
            for frame in frames:
                self._take(connection, frame)
            if not self._keeper.busy and frames and all(self._is_last_word(connection, frame) for frame in frames):
                connection.send(Frame(Kind.PONG))  # else the next request might wait for TCP's acknowledgement of these (see `connection`)
        except RemoteGpuError as error:
            self._dismiss(connection, error.problem())
        except (LookupError, ValueError, TypeError) as error:
            self._dismiss(connection, wire.problem("bad_frame", f"The gateway sent what the session cannot follow: {error!r}."))

    @staticmethod
    def _is_last_word(connection: Connection, frame: Frame) -> bool:
        """Whether a frame is an acknowledgement after which its attachment has taken all output that there is."""
        attachment = connection.attachments.get(frame.attachment)
        return frame.kind is Kind.ACK and attachment is not None and attachment.served

    def _take(self, connection: Connection, frame: Frame) -> None:
        attachment = connection.attachments.get(frame.attachment)
        if frame.kind is Kind.DATA:
            body = connection.assembler.feed(frame)
            if body is not None and attachment is not None and attachment.take(frame.lane, frame.number):
                self._keeper.request(attachment.id, attachment.role, frame.lane, unpack_message(body))
        elif frame.kind is Kind.ACK and attachment is not None:
            attachment.acknowledged(frame.lane, frame.number)
        elif frame.kind is Kind.PING:
            connection.send(Frame(Kind.PONG, number=frame.number))
        elif frame.kind is Kind.ATTACH:
            self._attach(connection, frame)
        elif frame.kind is Kind.DETACH and attachment is not None:
            self._attachments.detach(attachment)
        elif frame.kind is Kind.CALL:
            self._calls.answer(connection, frame.json())
        elif frame.kind is Kind.BYE:
            connection.closing = True

    def _attach(self, connection: Connection, frame: Frame) -> None:
        attachment, superseded = self._attachments.attach(connection, frame.attachment, frame.json())
        if superseded is not None and superseded != (connection, frame.attachment):
            text = "A newer client took over this attachment."
            superseded[0].send_json(Kind.BYE, wire.problem("superseded", text, status=409), superseded[1])
        answer = {
            "id": attachment.id,
            "taken": {lane.name.lower(): number for lane, number in attachment.taken.items()},
            "head": self._journal.head,
            "floor": self._journal.floor,
            "kernel": self._keeper.json,
        }
        connection.send_json(Kind.ATTACHED, answer, frame.attachment)

    def _tell_kernel(self) -> None:
        """Tell every gateway how the kernel is, and answer who waits for it."""
        self._keeper.told()
        event = {"event": "kernel", **self._keeper.json}
        for connection in self._connections.values():
            connection.send_json(Kind.EVENT, event)
        self._calls.kernel_changed()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._folder / SOCKET_NAME))
        listener.listen(16)
        listener.setblocking(False)
        return listener

    def _mind_folder(self, now: float) -> None:
        """Say once that the disk refuses the journal; open the socket anew when somebody has cleaned the folder up."""
        if not self._journal.on_disk and not self._told_of_disk:
            self._told_of_disk = True
            where = f"{os.uname().nodename}:{self._folder}"
            self._keeper.warn(f"[remote_gpu] {where} cannot be written; output is kept in memory only, the newest of it.")
        if now - self._looked > _LOOK_EVERY:
            self._looked = now
            with contextlib.suppress(OSError, RemoteGpuError):  # a full disk: tried again
                self._come_back()

    def _come_back(self) -> None:
        if (self._folder / SOCKET_NAME).exists() and (self._folder / STATE_NAME).exists():
            os.utime(self._folder)  # cleaners go by age
            return
        private_folder(self._folder)
        (self._folder / SOCKET_NAME).unlink(missing_ok=True)
        listener = self._listen()
        self._poller.unregister(self._listener.fileno())
        self._polled.pop(self._listener.fileno())
        self._listener.close()
        self._listener = listener
        write_state(self._folder, self._plan.session, self._plan.cwd, str(self._plan.about.get("name", "")))

    def _mind_time(self, now: float) -> None:
        for connection in list(self._connections.values()):
            if not connection.keep_alive(now):
                self._drop(connection)
        if self._journal.head - self._trimmed > _TRIM_EVERY and not self._keeper.busy:
            self._trimmed = self._journal.head
            give_back_memory()
        if self._attachments.attached:
            self._attended = now
            return
        plan, busy = self._plan, self._keeper.busy
        if busy and 0 < plan.unattended_timeout < now - self._attended:
            self._end(f"Nobody was attached for {plan.unattended_timeout:g} s.")
        elif not busy and 0 < plan.idle_timeout < now - max(self._attended, self._keeper.quiet_since):
            self._end(f"Nobody used the session for {plan.idle_timeout:g} s.")

    def _end(self, text: str) -> None:
        """Begin to end the session: end the kernel, say good-bye, and be over within a moment."""
        if self._ending:
            return
        self._ending = text
        sys.stderr.write(f"{ENDED}{text}\n")
        self._keeper.end(text, kill=not self._keeper.process.ready)
        self._end_by = time.monotonic() + 3 * _FAREWELL

    def _over(self) -> bool:
        if not self._ending:
            return False
        if self._keeper.process.running and time.monotonic() < self._end_by:
            return False
        if self._end_by != float("-inf"):
            self._say_goodbye()
            self._end_by = float("-inf")
        return True

    def _say_goodbye(self) -> None:
        extra = {"reason": "session_ended", "text": self._ending, "exit_code": None, "signal": None}
        self._attachments.publish(wire.status_parts("dead", extra=extra))
        deadline = time.monotonic() + _FAREWELL
        for connection in list(self._connections.values()):
            connection.peer.setblocking(True)
            connection.peer.settimeout(max(0.05, deadline - time.monotonic()))
            if connection.write():
                connection.send_json(Kind.BYE, wire.problem("session_ended", self._ending, status=410))
                connection.closing = True
                connection.write()

    def _dismiss(self, connection: Connection, problem: dict[str, Any]) -> None:
        connection.send_json(Kind.BYE, problem)
        connection.closing = True
        for attachment in list(connection.attachments.values()):
            attachment.close()

    def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.fileno(), None)
        for attachment in list(connection.attachments.values()):
            attachment.close()
        self._calls.forget(connection)
        connection.peer.close()

    def _clean_up(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._listener.close()
        self._keeper.process.signal(signal.SIGKILL)
        self._keeper.close()
        deadline = time.monotonic() + _FAREWELL
        while kill_children() and time.monotonic() < deadline:
            continue
        self._journal.close(delete=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # a working folder of its own; what the user has put into it stays
            (self._folder.parent.parent / "w" / self._plan.session).rmdir()
        forget_if_unused(self._plan.session)
