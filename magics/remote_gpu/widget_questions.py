"""Asks remote kernels for the states of all their widgets, as a frontend does: by a control comm of our own."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field

from remote_gpu.kernel import Connection
from remote_gpu.messages import Message
from remote_gpu.widgets import CONTROL, CONTROL_VERSION, States

__all__ = ["WidgetQuestions"]

_PATIENCE = 1.5  # seconds for all kernels together; JupyterLab waits 4 for the whole answer


@dataclass(slots=True)
class _Question:
    connection: Connection
    states: States | None = None
    done: threading.Event = field(default_factory=threading.Event)


class WidgetQuestions:
    """The questions that are on their way, by the ids of their comms.

    The kernel is asked, and not only what passed by is told, because it alone knows: states change without a message (a
    list changed in place, a frontend's value that is not echoed), and widgets may be older than this connection.
    """

    def __init__(self) -> None:
        self._questions: dict[str, _Question] = {}

    def ask(self, connections: Collection[Connection]) -> dict[Connection, States]:
        """What each says; a kernel that does not answer in time is left out. A kernel that runs a cell is asked on a subshell."""
        deadline = time.monotonic() + _PATIENCE
        asked = [self._sent(each) for each in connections if each.death is None and each.lives()]
        answers: dict[Connection, States] = {}
        for comm_id, question in asked:
            question.done.wait(max(0.0, deadline - time.monotonic()))
            del self._questions[comm_id]
            question.connection.send_comm("comm_close", {"comm_id": comm_id, "data": {}}, {}, (), None)
            if question.states is not None:
                answers[question.connection] = question.states
        return answers

    def _sent(self, connection: Connection) -> tuple[str, _Question]:
        comm_id, question = uuid.uuid4().hex, _Question(connection)
        self._questions[comm_id] = question
        content = {"comm_id": comm_id, "target_name": CONTROL, "data": {}}
        connection.send_comm("comm_open", content, {"version": CONTROL_VERSION}, (), None)
        connection.send_comm("comm_msg", {"comm_id": comm_id, "data": {"method": "request_states"}}, {}, (), None)
        return comm_id, question

    def answered(self, comm_id: str, message: Message) -> bool:
        """Take in a message of a comm (on the pump's thread); False when it is none of these."""
        question = self._questions.get(comm_id)
        if question is None:
            return False
        data = message.content.get("data") or {}
        if message.msg_type == "comm_msg" and data.get("method") == "update_states":
            question.states = States.read(data, message.buffers)
        if question.states is not None or message.msg_type == "comm_close":
            question.done.set()
        return True

    def fail(self, connection: Connection) -> None:
        """No answer will come from there."""
        for question in tuple(self._questions.values()):
            if question.connection is connection:
                question.done.set()
