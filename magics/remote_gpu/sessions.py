"""The remote sessions that this notebook kernel uses: found or started through the gateway, each with one connection.

Once a session is attached, finding it again for a cell costs a dictionary and two `os.stat`; the gateway is not asked.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from remote_gpu.arguments import Place
from remote_gpu.attached import Attached, facts_of
from remote_gpu.choice import Choice
from remote_gpu.cursors import Cursor, CursorFile, JobsFile
from remote_gpu.discovery import find_gateway, find_or_start_gateway
from remote_gpu.errors import AccessRefused, KernelDied, RemoteGpuError, SessionEnded, UnknownSession
from remote_gpu.execution import Outcome
from remote_gpu.gateway import AttachmentInfo, Gateway, SessionInfo
from remote_gpu.kernel import Connection
from remote_gpu.logins import Logins
from remote_gpu.output import Output
from remote_gpu.prompts import Prompts
from remote_gpu.pump import Pump
from remote_gpu.running import Running
from remote_gpu.starting import Starting
from remote_gpu.times import moment
from remote_gpu.trust import check_connection_file
from remote_gpu.whose import notebook_path, own_name

__all__ = ["Attached", "Prepare", "Sessions", "facts_of", "process_lives"]

_EXIT_WAIT = 1.5  # seconds that ending this process's own sessions may hold up its exit
_KERNEL_FILE = re.compile(r"kernel-([0-9a-f-]{36})\.json$")

Prepare = Callable[[Connection], None]


class Sessions:
    """All sessions of one notebook kernel. `connect_gateway` makes a client of the gateway that serves this process."""

    def __init__(self, shell: Any, pump: Pump, relay: Any, output: Output, *, connect_gateway: Callable[[], Gateway] | None = None) -> None:
        self.default = Place()
        self._shell = shell
        self._pump = pump
        self._relay = relay
        self._connect_gateway = connect_gateway or (lambda: Gateway(find_or_start_gateway()))
        self._gateway: Gateway | None = None
        self._attached: dict[Place, Attached] = {}
        self._cursors: dict[str, CursorFile] = {}
        self._choice = Choice()
        self.kernel_id = _kernel_id(shell)
        self.own = own_name(shell.user_ns, "terminal" if getattr(shell, "kernel", None) is None else "kernel")
        prompts = Prompts(lambda: self.gateway, output)
        self.logins = Logins(lambda: self.gateway, prompts)
        self._starting = Starting(lambda: self.gateway, prompts, output)

    @property
    def gateway(self) -> Gateway:
        """A gateway that lives; one is started when there is none."""
        if self._gateway is None or not process_lives(self._gateway.record.pid):
            self._gateway = self._connect_gateway()
            self._choice.again()
        return self._gateway

    def gateway_if_any(self) -> Gateway | None:
        """The gateway, unless one would have to be started."""
        if self._gateway is None:
            record = find_gateway()
            return Gateway(record) if record is not None else None
        return self.gateway

    def of_cell(self, place: Place) -> Attached:
        """The session for a cell; it is started when there is none."""
        wanted = self.resolved(place)
        attached = self._attached.get(wanted)
        if attached is None:
            return self._attach_first(wanted)
        connection = attached.connection
        if connection.death is not None:
            return self._after_death(wanted, attached, connection.death)
        if not self.lives(attached):
            try:
                self.reconnect(attached, ask=True)
            except (SessionEnded, UnknownSession) as error:
                self.forget(attached.info.id)
                raise type(error)(error.message, hint="The next cell starts a new session.") from error
        elif connection.asides.outage is not None:
            self._reach(attached)
        return attached

    def resolved(self, place: Place) -> Place:
        """`place` with the notebook's defaults and the sidebar's choice filled in."""
        session = place.session or self.default.session
        cluster = place.cluster or self.default.cluster or self._choice.of(self._gateway or self.gateway, self.kernel_id, self.notebook)
        return Place(session, cluster, place.request)

    def known(self) -> list[Attached]:
        """The sessions that this kernel is attached to."""
        return list({id(each): each for each in self._attached.values()}.values())

    def by_id(self, session_id: str) -> Attached | None:
        """This kernel's attachment to a session."""
        return next((each for each in self._attached.values() if each.info.id == session_id), None)

    def current(self, place: Place | None = None) -> Attached | None:
        """The session that a cell would run in, if it is attached."""
        if not self._attached:
            return None
        return self._attached.get(self.resolved(place or Place()))

    def join(self, info: SessionInfo, *, first: Prepare, after: int | None = None, claims: tuple[str, ...] = ()) -> Attached:
        """Attach to a session that is there, anew if it is attached already; `first` is done before anything is heard."""
        old = self.by_id(info.id)
        jobs = old.unfinished() if old is not None else ()
        asked = (*claims, *(job.msg_id for job in jobs))
        attachment = self._attach(info, after=after, claims=asked, ask=True)
        connection = self._connection(attachment, after=after, old=old.connection if old else None, claims=claims, first=first, jobs=jobs)
        if old is not None:
            self._detach(old)
            old.attachment, old.connection = attachment, connection
            old.update(attachment.session)
            return old
        made = Attached(attachment.session, attachment, connection, self._cursor(info.id), facts_of(attachment.session))
        if self._relay is not None:
            self._relay.adopt(connection)
        self._attached[self.resolved(Place(info.name, info.cluster))] = made
        return made

    def reconnect(self, attached: Attached, claims: tuple[str, ...] = (), *, first: Prepare | None = None, ask: bool = False) -> None:
        """Take up a session whose front vanished, where it was left, its background cells too. Raises `SessionEnded` and the like.

        With `ask`, in a cell that runs now, the user may be asked to log in.
        """
        old, jobs = attached.connection, attached.unfinished()
        claims = (*claims, *(job.msg_id for job in jobs))
        attachment = self._attach(attached.info, after=old.seq, claims=claims, ask=ask)
        attached.attachment = attachment
        attached.connection = self._connection(attachment, after=old.seq, old=old, claims=claims, first=first, jobs=jobs)

    def revive(self, connection: Connection) -> None:
        """Take up the session of a connection whose gateway is gone, if that can be done."""
        for each in self.known():
            if each.connection is connection:
                with contextlib.suppress(RemoteGpuError):
                    self.reconnect(each)

    def forget(self, session_id: str) -> None:
        """The session is over: leave it."""
        for place, each in tuple(self._attached.items()):
            if each.info.id == session_id:
                del self._attached[place]
                each.connection.leave_front()
                self._pump.call(each.lose_jobs)
                each.cursor.close(remove=True)
                JobsFile(session_id).write({})
                self._cursors.pop(session_id, None)

    def end_own(self) -> None:
        """This process exits: end the sessions that are its own, but for one in which a cell was left running, and tell which goes on."""
        gateway = self._gateway
        if gateway is None or not process_lives(gateway.record.pid):
            return
        ended_by = time.monotonic() + _EXIT_WAIT
        for each in self.known():
            if runs_on := each.runs_on():
                _say_on_exit(
                    f"Session {each.info.name!r} goes on with {runs_on}; %remote_gpu attach {each.info.name} brings the output back."
                )
            elif each.info.notebook == self.own and (wait := ended_by - time.monotonic()) > 0:
                try:
                    gateway.stop_session(each.info.id, patience=wait)
                except RemoteGpuError:
                    continue  # it was told, or its lease ends it

    def close(self) -> None:
        """Leave all sessions; they keep running."""
        for each in self.known():
            each.cursor.close()
        self._attached.clear()
        if self._gateway is not None:
            self._gateway.close()

    def note_sent(self, attached: Attached, running: Running) -> None:
        """Keep on disk which execution was sent, for a later kernel."""
        attached.cursor.left = False
        seq = attached.connection.seq
        attached.cursor.write(Cursor(attached.info.id, running.msg_id, seq, seq))

    # starting

    def _attach_first(self, wanted: Place) -> Attached:
        began, since = time.monotonic(), time.time()
        info = self.start(wanted)
        known = self.by_id(info.id)
        if known is None:
            attachment = self._attach(info, ask=True)
            connection = self._connection(attachment, after=attachment.head)
            known = Attached(info, attachment, connection, self._cursor(info.id), facts_of(info))
            if self._relay is not None and moment(info.started) < since:
                self._relay.adopt(connection)
        if moment(info.started) >= since:
            known.queued = round(time.monotonic() - began, 3)
        self._attached[wanted] = known
        if wanted.request:
            self._attached[Place(wanted.session, wanted.cluster)] = known
        return known

    def start(self, wanted: Place) -> SessionInfo:
        """Find or start the session, and wait until it runs."""
        body: dict[str, Any] = {"cluster": wanted.cluster or "auto", "cwd": os.getcwd()}  # noqa: PTH109  a path object is no JSON
        if wanted.session:
            body["name"] = wanted.session
        if wanted.request:
            body |= {"request": wanted.request.json(), "demand": wanted.request.demand(), **wanted.request.how()}
        if self.kernel_id:
            body["kernel_id"] = self.kernel_id
        if notebook := self.notebook() or ("" if wanted.session else self.own):
            body["notebook"] = notebook
        return self._starting.start(body)

    def notebook(self) -> str:
        """The notebook's path, where somebody told us; "" for a process without one, whose sessions are its `own`."""
        return notebook_path(self._shell.user_ns)

    # inside

    def _attach(self, info: SessionInfo, *, after: int | None = None, claims: tuple[str, ...] = (), ask: bool) -> AttachmentInfo:
        try:
            return self.gateway.attach(info.id, after=after, claims=claims, name=self._own_name())
        except AccessRefused:
            if not ask:
                raise
        self.logins.log_in(info.cluster)
        return self.gateway.attach(info.id, after=after, claims=claims, name=self._own_name())

    def _reach(self, attached: Attached) -> None:
        """The front could not reach the node when it was last heard, because somebody must log in; see whether that is still so."""
        if self.gateway.session(attached.info.id).link.lower() != "connected":
            self.logins.log_in(attached.info.cluster)
        connection = attached.connection
        self._pump.call(lambda: connection.asides.goes_on(connection.running.values()))

    def _connection(
        self,
        attachment: AttachmentInfo,
        *,
        after: int | None,
        old: Connection | None = None,
        claims: tuple[str, ...] = (),
        first: Prepare | None = None,
        jobs: Sequence[Running] = (),
    ) -> Connection:
        check_connection_file(attachment)
        pid, file = self.gateway.record.pid, attachment.connection_file
        connection = Connection(
            file,
            self._pump,
            relay=self._relay,
            lives=lambda: process_lives(pid) and file.exists(),
            after=after,
            claims=claims,
            cursor=self._cursor(attachment.session.id).seen,
        )
        if old is not None:
            connection.inherit(old)
        if self._relay is not None:
            self._relay.name(connection, attachment.session.id)
            if old is not None:
                self._relay.moved(old, connection)
        if first is not None:
            first(connection)
        for job in jobs:
            connection.follow(job)
        connection.begin()
        return connection

    def _cursor(self, session_id: str) -> CursorFile:
        """This kernel's cursor in a session; the connection moves it on as messages come."""
        if session_id not in self._cursors:
            self._cursors[session_id] = CursorFile(session_id)
        return self._cursors[session_id]

    def _detach(self, attached: Attached) -> None:
        try:
            self.gateway.detach(attached.info.id, attached.attachment.id)
        except RemoteGpuError:
            return  # it went with its gateway

    def lives(self, attached: Attached) -> bool:
        """Whether its front is still there."""
        gateway = self._gateway
        return gateway is not None and process_lives(gateway.record.pid) and os.path.exists(attached.attachment.connection_file)  # noqa: PTH110  the hot path

    def _after_death(self, wanted: Place, attached: Attached, death: Outcome) -> Attached:
        if attached.told is not death:
            attached.told = death
            raise KernelDied(
                f"The remote kernel of session {attached.info.name!r} ended: {death.evalue}.", hint="The next cell starts a new one."
            )
        if death.reason == "session_ended":
            self.forget(attached.info.id)
            return self._attach_first(wanted)
        try:
            self.gateway.restart(attached.info.id)
            self.reconnect(attached)
        except (SessionEnded, UnknownSession):
            self.forget(attached.info.id)
            return self._attach_first(wanted)
        attached.told = None
        sys.stderr.write(f"A new kernel was started in session {attached.info.name!r}; its earlier variables are gone.\n")
        return attached

    def _own_name(self) -> str:
        return Path(self.notebook()).name or ("notebook" if self.kernel_id else "terminal")


def process_lives(pid: int) -> bool:
    """Whether process `pid` is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _say_on_exit(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody may be there any more to be told
        sys.stderr.write(text + "\n")


def _kernel_id(shell: Any) -> str:
    file = getattr(getattr(getattr(shell, "kernel", None), "parent", None), "connection_file", "") or ""
    found = _KERNEL_FILE.search(str(file))
    return found.group(1) if found else ""
