"""Finds the last execution in a journal that is read from its beginning."""

from __future__ import annotations

from remote_gpu.messages import Message

__all__ = ["LastExecution"]


class LastExecution:
    """Keeps the messages of the latest execution until `marker` (a request sent after attaching) shows up in the output."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self.msg_id = ""
        self.messages: list[Message] = []

    def feed(self, message: Message) -> bool:
        """Take in one message; True once everything from before the marker has been seen."""
        if message.parent_id == self._marker:
            return True
        begins = message.msg_type == "status" and message.content.get("execution_state") == "busy"
        if begins and message.parent.get("msg_type") == "execute_request":
            self.msg_id, self.messages = message.parent_id, []
        if self.msg_id and message.parent_id == self.msg_id:
            self.messages.append(message)
        return False
