"""`%remote_gpu VERB`: what each does and says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remote_gpu.arguments import LINE_USAGE, LineError, Place, Verb, VerbLine, nearest
from remote_gpu.background.queue_verbs import QueueVerbs
from remote_gpu.cell import Cells
from remote_gpu.cursors import last_seen, newest_cursor
from remote_gpu.errors import RemoteGpuError, UnknownSession
from remote_gpu.execution import Execution
from remote_gpu.gateway import SessionInfo
from remote_gpu.kernel import Connection
from remote_gpu.login_verbs import LoginVerbs
from remote_gpu.output import Output
from remote_gpu.running import Running
from remote_gpu.selection_text import told
from remote_gpu.sessions import Attached, Prepare, Sessions, facts_of
from remote_gpu.tables import table
from remote_gpu.times import end_in_words, left_in_words

__all__ = ["Verbs"]

_SOON = 2.0
_EXTENSION = 3600  # seconds that `extend` asks for by itself


def folder_of(attached: Attached) -> str:
    """The session's working folder as its kernel says it, "" when it does not answer soon."""
    said = attached.connection.request("remote_gpu_request", {"ask": "hello"}, timeout=_SOON, control=True)
    return str((said or {}).get("cwd", ""))


class Verbs:
    """The commands of one notebook kernel. `following` switches remote cells on (a `Place`) and off (None); `others` are
    commands that answer with a text.
    """

    def __init__(
        self,
        sessions: Sessions,
        cells: Cells,
        output: Output,
        following: Callable[[Place | None], None],
        queue: QueueVerbs,
        logins: LoginVerbs,
        others: Mapping[Verb, Callable[[VerbLine], str]],
    ) -> None:
        self._queue = queue
        self._logins = logins
        self._others = others
        self._sessions = sessions
        self._cells = cells
        self._output = output
        self._following = following

    def run(self, line: VerbLine) -> None:
        """Do what `line` says."""
        actions: dict[Verb, Callable[[VerbLine], None]] = {
            Verb.STATUS: self._status,
            Verb.CLUSTERS: self._clusters,
            Verb.SESSIONS: self._list,
            Verb.START: self._start,
            Verb.USE: self._use,
            Verb.ATTACH: self._attach,
            Verb.INTERRUPT: self._interrupt,
            Verb.RESTART: self._restart,
            Verb.STOP: self._stop,
            Verb.EXTEND: self._extend,
            Verb.LOGS: self._logs,
            Verb.WHERE: self._where,
            Verb.WHY: self._why,
            Verb.LOGIN: lambda line: _say(self._logins.login(line)),
            Verb.LOGOUT: lambda line: _say(self._logins.logout(line)),
            Verb.ON: self._on,
            Verb.OFF: self._off,
            Verb.QUEUE: lambda line: self._queue.show(self._named(line)),
            Verb.CANCEL: lambda line: self._queue.cancel(line, self._named),
            Verb.HELP: lambda _: _say(LINE_USAGE),
        }
        if line.verb in self._others:
            _say(self._others[line.verb](line))
        else:
            actions[line.verb](line)

    def _status(self, line: VerbLine) -> None:
        if line.name:
            self._tell(self._session(line.name))
            return
        attached = self._sessions.known()
        for each in attached:
            each.update(self._sessions.gateway.session(each.info.id))
            self._tell(each.info)
            if each.connection.asides.outage is None and (folder := folder_of(each)):
                _say(f"  working folder {folder}")
            if each.left is not None and each.left.outcome is None:
                _say(f"  A cell was left running there: %remote_gpu attach {each.info.name}")
        others = [each for each in self._mine(self._live()) if self._sessions.by_id(each.id) is None]
        for info in others:
            self._tell(info)
        if not attached and not others:
            cluster = self._sessions.resolved(Place()).cluster or "a fitting cluster"
            _say(f"No session yet: the first %%remote_gpu cell starts one on {cluster}.")

    def _tell(self, info: SessionInfo) -> None:
        _say(self._described(info))
        if not info.over and (login := self._logins.stands(info.cluster)):
            _say(f"  {login}")

    def _clusters(self, _: VerbLine) -> None:
        rows = [(each.name, each.kind, each.state, each.label, each.detail) for each in self._sessions.gateway.clusters()]
        _say(table(("cluster", "kind", "state", "GPUs", ""), rows))

    def _where(self, line: VerbLine) -> None:
        _say(told(self._sessions.gateway.selection(line.request.json(), line.request.demand())))

    def _why(self, line: VerbLine) -> None:
        info = self._named(line)
        _say(told(self._sessions.gateway.decision(info.decision)) if info.decision else f"{info.name}: {info.why}")

    def _list(self, line: VerbLine) -> None:
        gateway = self._sessions.gateway
        sessions, problems = gateway.all_sessions() if line.everywhere else (gateway.sessions(), ())
        for problem in problems:
            _say(problem)
        if not sessions:
            _say("No remote sessions. The first %%remote_gpu cell starts one.")
            return
        rows = [
            (each.name, each.cluster, each.node, each.label, each.state.lower(), self._kernel(each), _time_left(each), each.id)
            for each in sessions
        ]
        _say(table(("session", "cluster", "node", "GPUs", "state", "kernel", "time left", "id"), rows))

    def _start(self, line: VerbLine) -> None:
        attached = self._sessions.of_cell(Place(line.name, line.cluster, line.request))
        _say(self._described(attached.info) + (f"\n{attached.info.why}" if attached.info.why else ""))

    def _use(self, line: VerbLine) -> None:
        sessions = self._sessions.gateway.sessions()
        found = next((each for each in sessions if line.name in (each.name, each.id)), None)
        if found is not None:
            self._sessions.default = Place(found.name, found.cluster)
            _say(f"Following cells run in session {found.name!r} on {found.cluster}.")
            return
        clusters = [each.name for each in self._sessions.gateway.clusters()]
        if line.name not in clusters:
            raise LineError(
                f"There is no session and no cluster {line.name!r}.{nearest(line.name, [*(s.name for s in sessions), *clusters])}"
            )
        self._sessions.default = Place("", line.name)
        _say(f"Following cells run on {line.name}.")

    def _attach(self, line: VerbLine) -> None:
        info = self._named(line)
        old = self._sessions.by_id(info.id)
        left = old.left if old is not None else None
        if old is not None and left is not None:
            old.left = None
            self._replay(info, left.msg_id, left.left_at, left)
            return
        if old is not None and old.unfinished():
            _say(f"Nothing was left in session {info.name!r}; its background cells are followed already (%remote_gpu queue).")
            return
        cursor = newest_cursor(info.id) if old is None else None
        if cursor is None or not cursor.msg_id:
            self._replay_last(info)
        else:
            self._replay(info, cursor.msg_id, cursor.seq, None)

    def _replay(self, info: SessionInfo, msg_id: str, after: int | None, before: Running | None) -> None:
        running = Running(Execution(msg_id, claimed=True), self._output.sink(info.id), facts_of(info))
        if before is not None:
            running.started = before.started
        orphans = self._queue.orphans(info, msg_id) if before is None else ()
        every = (running, *orphans)
        claims = tuple(each.msg_id for each in every)

        def follow(connection: Connection) -> None:
            for each in every:
                connection.follow(each)

        attached = self._join(info, follow, after=after, claims=claims)
        self._queue.adopt(attached, orphans)
        self._cells.finish(attached, running)

    def _join(self, info: SessionInfo, first: Prepare, *, after: int | None, claims: tuple[str, ...] = ()) -> Attached:
        """A process without a notebook that takes up a session before it has any of its own goes on in it."""
        alone = not self._sessions.known() and not self._sessions.notebook()
        attached = self._sessions.join(info, first=first, after=after, claims=claims)
        if alone and self._sessions.default == Place():
            self._sessions.default = Place(info.name, info.cluster)
            sys.stderr.write(f"Session {info.name!r}; following cells run in it, too.\n")
            sys.stderr.flush()
        return attached

    def _replay_last(self, info: SessionInfo) -> None:
        running = Running(Execution("", claimed=True), self._output.sink(info.id), facts_of(info))
        attached = self._join(info, lambda connection: connection.replay_last(running), after=0)
        self._cells.finish(attached, running)

    def _interrupt(self, line: VerbLine) -> None:
        info = self._named(line)
        self._sessions.gateway.interrupt(info.id)
        _say(f"Interrupted session {info.name!r}.")

    def _restart(self, line: VerbLine) -> None:
        info = self._named(line)
        self._sessions.gateway.restart(info.id)
        attached = self._sessions.by_id(info.id)
        if attached is not None:
            attached.connection.death = attached.told = attached.left = None
        _say(f"Session {info.name!r} has a new kernel; earlier variables are gone.")

    def _stop(self, line: VerbLine) -> None:
        info = self._named(line)
        self._sessions.gateway.stop_session(info.id)
        self._sessions.forget(info.id)
        if info.name == self._sessions.default.session:
            self._sessions.default = Place()
        _say(f"Session {info.name!r} on {info.cluster} is {'cancelled: it had not started' if info.pending else 'stopped'}.")

    def _extend(self, line: VerbLine) -> None:
        info = self._sessions.gateway.extend(self._named(line).id, line.request.time or _EXTENSION)
        attached = self._sessions.by_id(info.id)
        if attached is not None:
            attached.update(info)
        _say(f"Session {info.name!r} on {info.cluster} now {end_in_words(info.ends) or 'has no end'}.")

    def _logs(self, line: VerbLine) -> None:
        text = self._sessions.gateway.logs(self._named(line).id, lines=line.lines)
        _say(text.rstrip("\n") or "The log is empty.")

    def _on(self, line: VerbLine) -> None:
        place = self._sessions.resolved(Place(line.session, line.cluster, line.request))
        self._following(Place(line.session, line.cluster, line.request))
        where = f" in session {place.session!r}" if place.session else ""
        on = f" on {place.cluster}" if place.cluster else ""
        _say(f"Following cells run remotely{where}{on}. %%local runs one here; %remote_gpu off ends this.")

    def _off(self, _: VerbLine) -> None:
        self._following(None)
        _say("Following cells run here.")

    def _named(self, line: VerbLine) -> SessionInfo:
        """The session that the line names, else this notebook's, else the only one there is."""
        if line.name:
            return self._session(line.name)
        current: Attached | None = self._sessions.current()
        if current is None and len(known := self._sessions.known()) == 1:
            current = known[0]
        if current is not None:
            return self._sessions.gateway.session(current.info.id)
        sessions = self._live()
        if not sessions and line.verb in (Verb.LOGS, Verb.WHY):  # of what has ended, too
            sessions = list(self._sessions.gateway.sessions())
        mine = self._mine(sessions) or sessions
        if len(mine) == 1:
            return mine[0]
        if mine and line.verb in (Verb.ATTACH, Verb.LOGS):
            return self._last(mine)
        if not mine:
            raise LineError(f"There is no remote session to {line.verb}.")
        raise LineError(f"Which session? %remote_gpu {line.verb} NAME, with one of: {', '.join(each.name for each in mine)}.")

    def _live(self) -> list[SessionInfo]:
        return [each for each in self._sessions.gateway.sessions() if not each.over]

    def _mine(self, sessions: Sequence[SessionInfo]) -> list[SessionInfo]:
        """Those of this notebook, or of this process where nobody knows of a notebook."""
        notebook = self._sessions.notebook() or self._sessions.own
        return [each for each in sessions if each.notebook == notebook]

    @staticmethod
    def _last(sessions: Sequence[SessionInfo]) -> SessionInfo:
        """The one that some kernel of this user saw something of last; else the one that started last."""
        seen = last_seen()
        return max(sessions, key=lambda each: (seen.get(each.id, 0.0), each.created))

    def _described(self, info: SessionInfo) -> str:
        where = " · ".join(part for part in (info.cluster, info.node, info.label) if part)
        if info.pending or info.over:
            return f"Session {info.name!r}: {where} · {info.state.lower()}" + (f" · {info.detail}" if info.detail else "")
        link = "" if info.link.upper() in ("", "CONNECTED") else f", link {info.link.lower()}"
        end = f" · {words}" if (words := end_in_words(info.ends)) else ""
        return f"Session {info.name!r}: {where} · {self._kernel(info) or info.state.lower()}{link}{end}"

    def _kernel(self, info: SessionInfo) -> str:
        """The kernel's state. Between idle and busy, a connection of ours knows better than the gateway, which is told with a delay."""
        state = str(info.kernel.get("state") or "")
        attached = self._sessions.by_id(info.id)
        if attached is None or state not in ("idle", "busy"):
            return state
        return "busy" if attached.connection.busy else attached.connection.state or state

    def _session(self, name: str) -> SessionInfo:
        try:
            return self._sessions.gateway.session(name)
        except UnknownSession:
            known = [each.name for each in self._sessions.gateway.sessions()]
            raise LineError(f"There is no remote session {name!r}.{nearest(name, known)}") from None
        except RemoteGpuError as error:
            raise LineError(str(error)) from error


def _time_left(info: SessionInfo) -> str:
    return "" if info.over else left_in_words(info.ends)


def _say(text: str) -> Any:
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
