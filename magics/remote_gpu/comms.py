"""Widgets: carries comm messages between the frontend and remote kernels, with the same ids on both sides.

A remote comm is registered in the local comm manager as a plain proxy that publishes nothing itself. So ipykernel hands it the
frontend's messages on whichever thread (JupyterLab's subshells, too) they came, also while a remote cell blocks the main thread.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from remote_gpu.kernel import Connection
from remote_gpu.messages import Message
from remote_gpu.output import NotebookOutput, NotebookSink
from remote_gpu.running import Sink

__all__ = ["Comms", "RemoteComm"]

_ANSWER_TIME = 10.0  # seconds that a widget's message may keep the frontend's "busy" up; the answer itself is never lost


class RemoteComm:
    """The local face of one remote comm."""

    def __init__(self, comms: Comms, connection: Connection, comm_id: str, target_name: str, sink: NotebookSink) -> None:
        self.comm_id = comm_id
        self.target_name = target_name
        self.connection = connection
        self.sink = sink
        self.primary = False
        self._closed = False
        self._comms = comms

    def handle_msg(self, message: Mapping[str, Any]) -> None:
        """The frontend says something to the remote comm. Returns when the remote kernel has dealt with it, so that output
        comes before the frontend hears that this message is done with.
        """
        self._forward("comm_msg", message).wait(_ANSWER_TIME)

    def handle_close(self, message: Mapping[str, Any]) -> None:
        """The frontend closed the comm."""
        self._closed = True
        self._forward("comm_close", message)

    def _forward(self, msg_type: str, message: Mapping[str, Any]) -> Any:
        content = {**message["content"], "comm_id": self.comm_id}
        sink = self._comms.output.sink(self._comms.session_of(self.connection), parent=message)
        return self.connection.send_comm(msg_type, content, message.get("metadata") or {}, message.get("buffers") or (), sink)


class Comms:
    """All remote comms of one notebook kernel."""

    def __init__(self, output: NotebookOutput) -> None:
        self.output = output
        self._names: dict[Connection, str] = {}
        self._manager: Any = None

    def name(self, connection: Connection, session_id: str) -> None:
        """Note which session a connection belongs to."""
        self._names[connection] = session_id

    def session_of(self, connection: Connection) -> str:
        """The id of a connection's session."""
        return self._names.get(connection, "")

    @property
    def manager(self) -> Any:
        """The local comm manager; looked up late, because ipykernel puts its own in place when it is imported."""
        if self._manager is None:
            self._manager = getattr(self.output.kernel, "comm_manager", None) or importlib.import_module("comm").get_comm_manager()
        return self._manager

    def relay(self, connection: Connection, message: Message, sink: Sink | None) -> None:
        """See `Relay`."""
        comm_id = str(message.content.get("comm_id", ""))
        known = self.manager.comms.get(comm_id)
        mine = known if isinstance(known, RemoteComm) else None
        if message.msg_type == "comm_open":
            if not isinstance(sink, NotebookSink):
                return  # opened for another client of the same session
            mine = RemoteComm(self, connection, comm_id, str(message.content.get("target_name", "")), sink)
            self.manager.comms[comm_id] = mine
        if mine is None:
            return
        if message.msg_type == "comm_close":
            self.manager.comms.pop(comm_id, None)
        target = sink if isinstance(sink, NotebookSink) else mine.sink
        target.publish(_captured(message, target))

    def forget(self, connection: Connection) -> None:
        """See `Relay`."""
        for comm_id, each in tuple(self.manager.comms.items()):
            if isinstance(each, RemoteComm) and each.connection is connection:
                del self.manager.comms[comm_id]
                content = json.dumps({"comm_id": comm_id, "data": {}}).encode()
                each.sink.publish(Message("iopub", "comm_close", "", "", {"comm_id": comm_id}, (b"{}", content)))

    def moved(self, old: Connection, new: Connection) -> None:
        """A session got another connection: its comms go with it."""
        self._names[new] = self._names.pop(old, "")
        for each in self.manager.comms.values():
            if isinstance(each, RemoteComm) and each.connection is old:
                each.connection = new


def _captured(message: Message, sink: NotebookSink) -> Message:
    """An Output widget captures what comes of one request, which it names in `msg_id`; here, that request is the local cell's."""
    data = message.content.get("data") or {}
    state = data.get("state") or {}
    if message.msg_type != "comm_msg" or not message.parent_id or state.get("msg_id") != message.parent_id:
        return message
    local = (sink.parent.get("header") or {}).get("msg_id", "")
    return message.with_content({**message.content, "data": {**data, "state": {**state, "msg_id": local}}})
