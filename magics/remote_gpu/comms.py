"""Widgets and other comms: carries their messages between the frontend and remote kernels, with the same ids on both sides.

A remote comm is registered in the local comm manager as a plain proxy that publishes nothing itself. So ipykernel hands it the
frontend's messages on whichever thread (JupyterLab's subshells, too) they came, also while a remote cell blocks the main thread.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from remote_gpu.kernel import Connection
from remote_gpu.messages import Message
from remote_gpu.output import NotebookOutput, NotebookSink
from remote_gpu.questions import Asked
from remote_gpu.running import Sink
from remote_gpu.widget_questions import WidgetQuestions
from remote_gpu.widgets import CONTROL, WIDGET, WIDGET_VERSION, ControlComm, States, WidgetState

__all__ = ["Comms", "RemoteComm"]

_LOOK = 0.5  # seconds between two looks at whether there is still something to wait for
_BEGIN = 2.5  # seconds in which a remote kernel must begin with a message, or the local kernel waits no longer
_ANSWER = 1.0  # seconds for a question that a kernel answers at once
_TRIES = 20  # of a list that changes while it is read
_NOBODY: Mapping[str, Any] = {"header": {}}  # the parent of what another client's request caused


class RemoteComm:
    """The local face of one remote comm. `state` is the widget's, if it is one; `captures` the sink whose output it shows."""

    def __init__(self, comms: Comms, connection: Connection, comm_id: str, target_name: str, sink: NotebookSink) -> None:
        self.comm_id = comm_id
        self.target_name = target_name
        self.connection = connection
        self.sink = sink
        self.state: WidgetState | None = None
        self.captures: NotebookSink | None = None
        self.primary = False
        self._closed = False
        self._comms = comms

    def open(self, message: Mapping[str, Any]) -> None:
        """The frontend opened the comm."""
        self._say("comm_open", message)

    def handle_msg(self, message: Mapping[str, Any]) -> None:
        """The frontend says something to the remote comm. Returns when the remote kernel has dealt with it, so that output
        comes before the frontend hears that this message is done with.
        """
        if self.state is not None:
            self.state.change(message["content"].get("data") or {}, message.get("buffers") or ())
        self._say("comm_msg", message)

    def handle_close(self, message: Mapping[str, Any]) -> None:
        """The frontend closed the comm."""
        self.capture(None)
        self._say("comm_close", message)

    def capture(self, sink: NotebookSink | None) -> None:
        """An Output widget shows the output of `sink` from now on, in place of its cell, or no longer."""
        if self.captures is not None:
            self.captures.captured_by.discard(self.comm_id)
        self.captures = sink
        if sink is not None:
            sink.captured_by.add(self.comm_id)

    def _say(self, msg_type: str, message: Mapping[str, Any]) -> None:
        asked = self._forward(msg_type, message)
        if self._settle(asked) or not self._comms.never_arrived(self.connection, asked):
            return
        self._settle(self._forward(msg_type, message))

    def _forward(self, msg_type: str, message: Mapping[str, Any]) -> Asked:
        connection = self._comms.alive(self.connection)
        content = {**message["content"], "comm_id": self.comm_id}
        sink = self._comms.output.cell(self._comms.session_of(connection), parent=message)
        return connection.send_comm(msg_type, content, message.get("metadata") or {}, message.get("buffers") or (), sink)

    def _settle(self, asked: Asked) -> bool:
        """Wait as long as it takes, as a local callback does; False when the gateway is gone, which may have lost the message.

        What waits there itself, behind a cell, is not waited for. Its output then goes to the cell that made the widget, since
        the frontend listens no more for this message's.
        """
        interrupted, begin = False, time.monotonic() + _BEGIN
        while True:
            try:
                if asked.done.wait(_LOOK) or self.connection.death is not None:
                    return True
                if not self.connection.lives():
                    return False
                if not asked.begun.is_set() and time.monotonic() > begin:
                    self.connection.pump.call(partial(self.connection.sinks.note_comm, asked.msg_id, self.sink))
                    return True
            except KeyboardInterrupt:
                if interrupted:
                    return True
                interrupted = True
                self.connection.interrupt()


class Comms:
    """All remote comms of one notebook kernel."""

    def __init__(self, output: NotebookOutput) -> None:
        self.output = output
        self.revive: Callable[[Connection], None] = lambda _: None
        """Takes up a session whose gateway is gone; set by who can."""
        self._names: dict[Connection, str] = {}
        self._manager: Any = None
        self._latest: Connection | None = None
        self._questions = WidgetQuestions()
        self._reviving = threading.Lock()
        self._handlers: dict[str, Any] = getattr(output.kernel, "shell_handlers", {})
        self._opened = self._handlers.get("comm_open")
        self._listed = self._handlers.get("comm_info_request")
        if self._opened is not None:
            self._handlers.update(comm_open=self._frontend_opens, comm_info_request=self._frontend_asks)

    def name(self, connection: Connection, session_id: str) -> None:
        """Note which session a connection belongs to."""
        self._names[connection] = session_id
        self._latest = connection

    def session_of(self, connection: Connection) -> str:
        """The id of a connection's session."""
        return self._names.get(connection, "")

    def alive(self, connection: Connection) -> Connection:
        """The connection of the same session now, should its gateway have gone; a running cell sees to that itself."""
        if connection.death is not None or connection.busy or connection.lives():
            return connection
        with self._reviving:
            session = self.session_of(connection)
            if session:
                self.revive(connection)
        return next((each for each, name in self._names.items() if session and name == session), connection)

    def never_arrived(self, gone: Connection, asked: Asked) -> bool:
        """Whether a message was lost with its gateway: the kernel has answered a later one, and has said nothing of it."""
        busy = gone.state == "busy"  # then it may wait there, behind a cell
        connection = self.alive(gone)
        if busy or connection is gone or connection.request("kernel_info_request", {}, timeout=_ANSWER) is None:
            return False
        return not asked.begun.is_set()

    @property
    def manager(self) -> Any:
        """The local comm manager; looked up late, because ipykernel puts its own in place when it is imported."""
        if self._manager is None:
            self._manager = getattr(self.output.kernel, "comm_manager", None) or importlib.import_module("comm").get_comm_manager()
        return self._manager

    # what remote kernels say, on the pump's thread

    def relay(self, connection: Connection, message: Message, sink: Sink | None) -> None:
        """See `Relay`."""
        comm_id = str(message.content.get("comm_id", ""))
        if self._questions.answered(comm_id, message):
            return
        known = self.manager.comms.get(comm_id)
        mine = known if isinstance(known, RemoteComm) else None
        if message.msg_type == "comm_open":
            if mine is not None:
                return  # a replay, of what the frontend has already
            mine = self._made(connection, comm_id, str(message.content.get("target_name", "")), sink)
        if mine is None:
            return
        message = self._noted(mine, message)
        target = sink if isinstance(sink, NotebookSink) else mine.sink
        target.publish(message)

    def _made(self, connection: Connection, comm_id: str, target_name: str, sink: Sink | None) -> RemoteComm:
        """A new proxy; a comm that another client's cell opened is shown here, too, as to all frontends of one kernel."""
        whose = sink if isinstance(sink, NotebookSink) else self.output.cell(self.session_of(connection), parent=_NOBODY)
        made = RemoteComm(self, connection, comm_id, target_name, whose)
        self.manager.comms[comm_id] = made
        return made

    def _noted(self, comm: RemoteComm, message: Message) -> Message:
        data = message.content.get("data") or {}
        if message.msg_type == "comm_close":
            self.manager.comms.pop(comm.comm_id, None)
            comm.capture(None)
            return message
        state = data.get("state") if isinstance(data, dict) else None
        if isinstance(state, dict) and "msg_id" in state:
            message = self._captured(comm, message, data, state)
            data = message.content["data"]
        if message.msg_type == "comm_open":
            comm.state = WidgetState(data, message.buffers) if comm.target_name == WIDGET else None
        elif comm.state is not None:
            comm.state.change(data, message.buffers)
        return message

    def _captured(self, comm: RemoteComm, message: Message, data: dict[str, Any], state: dict[str, Any]) -> Message:
        """An Output widget shows what comes of one request, which it names in `msg_id`; here, that request is a local one."""
        sink = comm.connection.sinks.get(str(state["msg_id"])) if state["msg_id"] else None
        captured = sink if isinstance(sink, NotebookSink) else None
        comm.capture(captured)
        if captured is None:
            return message
        return message.with_content({**message.content, "data": {**data, "state": {**state, "msg_id": captured.msg_id}}})

    def forget(self, connection: Connection) -> None:
        """See `Relay`."""
        self._questions.fail(connection)
        for comm_id, each in tuple(self.manager.comms.items()):
            if isinstance(each, RemoteComm) and each.connection is connection:
                del self.manager.comms[comm_id]
                each.capture(None)
                each.sink.publish(_message("comm_close", {"comm_id": comm_id, "data": {}}))

    def moved(self, old: Connection, new: Connection) -> None:
        """A session got another connection: its comms go with it."""
        self._names[new] = self._names.pop(old, "")
        self._questions.fail(old)
        for each in tuple(self.manager.comms.values()):
            if isinstance(each, RemoteComm) and each.connection is old:
                each.connection = new

    # what the frontend says, on a thread of the local kernel

    def _frontend_opens(self, stream: Any, ident: Any, message: Mapping[str, Any]) -> Any:
        """In place of the comm manager's own handler, so that ipywidgets may register its targets whenever it likes."""
        content = message["content"]
        target, comm_id = content["target_name"], content["comm_id"]
        if target == CONTROL:
            inner = importlib.import_module("comm").create_comm(comm_id=comm_id, primary=False, target_name=target)
            control = ControlComm(inner, self.states)
            self.manager.comms[comm_id] = control
            local = self.manager.targets.get(target)
            return local(control, message) if local is not None else None
        latest = self._latest
        if target in self.manager.targets or latest is None or latest.death is not None:
            return self._opened(stream, ident, message)  # type: ignore[misc]
        sink = self.output.cell(self.session_of(latest), parent=message)
        self._made(latest, comm_id, target, sink).open(message)
        return None

    async def _frontend_asks(self, stream: Any, ident: Any, message: Mapping[str, Any]) -> None:
        """List the comms; again, should one have been opened on the pump's thread meanwhile, which Python says before anything is sent."""
        for _ in range(_TRIES):
            with contextlib.suppress(RuntimeError):
                await self._listed(stream, ident, message)  # type: ignore[misc]
                return
        await self._listed(stream, ident, message)  # type: ignore[misc]

    def states(self) -> States:
        """The states of all remote widgets: what their kernels say; where one does not answer soon, what it last said."""
        mine = self._mine()
        answers = self._questions.ask({each.connection for each in mine.values() if each.state is not None})
        found = States()
        for connection, answer in answers.items():
            ids = {comm_id: each for comm_id, each in mine.items() if each.connection is connection}
            found = found.merged(self._localised(connection, answer.only(ids)))
        for comm_id, each in mine.items():
            if each.state is not None and comm_id not in found.states:
                found.add(comm_id, each.state)
        return found.only(self._mine())

    def _mine(self) -> dict[str, RemoteComm]:
        return {comm_id: each for comm_id, each in tuple(self.manager.comms.items()) if isinstance(each, RemoteComm)}

    @staticmethod
    def _localised(connection: Connection, states: States) -> States:
        for entry in states.states.values():
            state = entry.get("state") or {}
            if state.get("msg_id"):
                sink = connection.sinks.get(str(state["msg_id"]))
                entry["state"] = {**state, "msg_id": sink.msg_id if isinstance(sink, NotebookSink) else state["msg_id"]}
        return states

    # on the cell's thread

    def adopt(self, connection: Connection) -> None:
        """Let the frontend know the comms of a session that was there before this kernel attached to it."""
        reply = connection.request("comm_info_request", {}, timeout=_ANSWER, beside=True)
        if reply is None and not connection.busy:  # a kernel without subshells
            reply = connection.request("comm_info_request", {}, timeout=_ANSWER)
        targets = {comm_id: about.get("target_name", "") for comm_id, about in ((reply or {}).get("comms") or {}).items()}
        unknown = {comm_id: name for comm_id, name in targets.items() if name != CONTROL and comm_id not in self.manager.comms}
        widgets = frozenset(comm_id for comm_id, name in unknown.items() if name == WIDGET)
        states = self._questions.ask({connection}).get(connection, States()) if widgets else States()
        states = self._localised(connection, states.only(widgets))
        sink = self.output.cell(self.session_of(connection))
        done = threading.Event()
        connection.pump.call(lambda: self._shown(connection, unknown, states, sink))
        connection.pump.call(done.set)
        done.wait(_ANSWER)

    def _shown(self, connection: Connection, comms: Mapping[str, str], states: States, sink: NotebookSink) -> None:
        for comm_id in _ordered((*states.parts_first(), *comms)):
            if comm_id in self.manager.comms:
                continue
            made = self._made(connection, comm_id, comms[comm_id], sink)
            if comm_id in states.states:
                made.state = states.widget(comm_id)
                state, binary = made.state.now()
                data = {"state": state, "buffer_paths": [list(path) for path, _ in binary]}
                content = {"comm_id": comm_id, "target_name": WIDGET, "data": data}
                sink.publish(_message("comm_open", content, {"version": WIDGET_VERSION}, [buffer for _, buffer in binary]))

    def close(self) -> None:
        """The magics are taken out of the shell, and the pump's thread has ended."""
        if self._opened is not None:
            self._handlers.update(comm_open=self._opened, comm_info_request=self._listed)
        for connection in tuple(self._names):
            self.forget(connection)


def _ordered(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def _message(kind: str, content: dict[str, Any], metadata: Mapping[str, Any] | None = None, buffers: Sequence[Any] = ()) -> Message:
    raw = (json.dumps(metadata or {}).encode(), json.dumps(content).encode())
    return Message("iopub", kind, "", "", content, raw, tuple(buffers))
