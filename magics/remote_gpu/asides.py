"""What a front says itself, beside the kernel's messages: that output is gone, and that the node is not reached any more."""

from __future__ import annotations

import json
from collections.abc import Collection

from remote_gpu.messages import Message
from remote_gpu.running import LinkLost, Running

__all__ = ["Asides", "gap_in"]

_AGAIN = "Connected again.\n"


def gap_in(message: Message) -> tuple[int, int] | None:
    """The first and last journal number of output that a front says is gone; None for any other message."""
    if message.parent_id or message.msg_type != "stream":
        return None
    gap = (json.loads(message.raw[0]).get("remote_gpu") or {}).get("gap")
    return (int(gap["first"]), int(gap["last"])) if gap else None


class Asides:
    """Whether a front is cut off from its node; each cell that runs is told once. On the pump's thread, but for `outage`."""

    def __init__(self) -> None:
        self.outage: LinkLost | None = None
        """Why nothing comes; None while all is well, as far as is known."""
        self._told: set[str] = set()

    def heard(self, message: Message, running: Collection[Running]) -> bool:
        """Take in a front's own word that its node is not reached; False for any other message."""
        if message.msg_type != "status" or message.parent_id or message.content.get("execution_state") != "unknown":
            return False
        why = message.content.get("remote_gpu") or {}
        text = str(why.get("text") or "The connection to the node is lost.")
        self.outage = LinkLost(str(why.get("reason") or "link"), text)
        for each in running:
            self.tell(each)
        return True

    def tell(self, running: Running) -> None:
        """Let a cell know, unless it knows already."""
        if self.outage is not None and not running.detached and running.msg_id not in self._told:
            self._told.add(running.msg_id)
            running.events.put(self.outage)

    def goes_on(self, running: Collection[Running]) -> None:
        """The kernel is heard again, or can be: say so in the cells that were told."""
        for each in running if self.outage is not None else ():
            if each.msg_id in self._told and not each.detached:
                content = {"name": "stderr", "text": _AGAIN}
                each.sink.publish(Message("iopub", "stream", "", each.msg_id, content).with_content(content))
        self.outage = None
        self._told.clear()
