"""One execution on its way, between the pump's thread and the cell's."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from remote_gpu.execution import AskInput, Effect, Execution, Finished, NextInput, Outcome, Page
from remote_gpu.messages import Message

if TYPE_CHECKING:
    from remote_gpu.kernel import Connection

__all__ = ["Event", "GatewayGone", "LinkLost", "NeverArrived", "Relay", "Running", "Sink"]

_WAITED = 1.0  # seconds of waiting that are worth telling
_RECORD_AFTER = 0.15  # seconds after which a running cell says where it runs


class Sink(Protocol):
    """Where one cell's output goes. Called on the pump's thread."""

    def publish(self, message: Message) -> None:
        """Show a message in the cell."""

    def record(self, running: Running, *, final: bool) -> None:
        """Show or update the cell's run record."""


class Relay(Protocol):
    """What carries comms to the frontend. Called on the pump's thread."""

    def relay(self, connection: Connection, message: Message, sink: Sink | None) -> None:
        """Pass a comm message on."""

    def forget(self, connection: Connection) -> None:
        """The remote kernel is gone, and its comms with it."""


@dataclass(frozen=True, slots=True)
class GatewayGone:
    """The gateway's process is no more; the session itself lives on. `interrupted`: the user pressed stop meanwhile."""

    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class NeverArrived:
    """The remote kernel has answered what was asked after the request, and has said nothing of the request: it was lost on its way."""


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The gateway does not reach the node any more, and does not try again by itself; the cell runs on there. `reason` is an error's
    (``access_refused``: somebody must log in), `text` the sentence for the user.
    """

    reason: str
    text: str


Event = AskInput | Page | NextInput | Finished | GatewayGone | NeverArrived | LinkLost


@dataclass(slots=True, eq=False)
class Running:
    """One execution on its way: `events` is what the cell's thread has to do, in order."""

    execution: Execution
    sink: Sink
    facts: Mapping[str, Any] = field(default_factory=dict)
    crossing: Any = None
    """The names that go with it (`sync.Crossing`)."""
    started: float = field(default_factory=time.time)
    began: bool = False
    """Whether the kernel has said anything of it: until then it waits for its turn."""
    ended: float | None = None
    outcome: Outcome | None = None
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    detached: bool = False
    left_at: int | None = None
    send: Callable[[Connection], None] | None = None
    """Sends the request once more; None for one that another kernel sent."""
    recorded: bool = False
    record_due: float = field(default_factory=lambda: time.monotonic() + _RECORD_AFTER)

    @property
    def msg_id(self) -> str:
        """The request's id, on the remote side."""
        return self.execution.msg_id

    def heard(self, message: Message) -> Sequence[Effect]:
        """Take in a message of this execution; what is to be done about it. A cell that waited for its turn tells how long."""
        if not self.began:
            self.began = True
            waited = time.time() - self.started
            if waited >= _WAITED and not self.execution.claimed:
                self.facts = {**self.facts, "queued_s": round((self.facts.get("queued_s") or 0) + waited, 3)}
                self.started += waited
            if self.recorded and not self.detached:
                self.sink.record(self, final=False)
        return self.execution.feed(message)

    def doubt(self) -> None:
        """The kernel is done with what was asked after this request: if it has said nothing of it, it never got it."""
        if self.outcome is None and self.execution.first is None:
            self.events.put(NeverArrived())
