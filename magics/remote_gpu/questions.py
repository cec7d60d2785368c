"""Questions to a remote kernel that are not executions: completion, inspection, and when a comm message has been dealt with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote_gpu.messages import Message, Signer

__all__ = ["Asked", "Questions", "Send"]

Send = Callable[[int, Sequence[Any]], None]
"""Has frames sent on the socket of that index (0 shell, 1 control); may be called from any thread."""


@dataclass(slots=True, frozen=True)
class Asked:
    """A request whose answer is what it causes: `begun` and `done` are set when the kernel says that it is busy with it, and idle again."""

    msg_id: str
    begun: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Waiter:
    done: threading.Event = field(default_factory=threading.Event)
    content: dict[str, Any] | None = None


class Questions:
    """Those of one connection. Asked on any thread; `answered` and `status` are called on the pump's."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._waiters: dict[str, _Waiter] = {}
        self._idlers: dict[str, Callable[[], None]] = {}
        self._asked: dict[str, Asked] = {}
        self._subshell: str | None = None
        self._subshell_asked = False

    def ask(
        self, send: Send, msg_type: str, content: Mapping[str, Any], *, timeout: float, beside: bool = False, control: bool = False
    ) -> dict[str, Any] | None:
        """The reply's content, or None after `timeout` s. `beside` a running cell the question goes to a subshell, if there is one."""
        deadline = time.monotonic() + timeout
        subshell = self.subshell(send, timeout) if beside else None
        if beside and subshell is None:
            return None
        msg_id, waiter = self._signer.next_id(), _Waiter()
        self._waiters[msg_id] = waiter
        send(1 if control else 0, self._signer.pack(msg_type, content, msg_id=msg_id, subshell=subshell))
        waiter.done.wait(max(0.0, deadline - time.monotonic()))
        self._waiters.pop(msg_id, None)
        return waiter.content

    def subshell(self, send: Send, timeout: float) -> str | None:
        """A subshell of the remote kernel for questions beside a running cell; None where there is none (yet)."""
        if self._subshell is None and not self._subshell_asked:
            self._subshell_asked = True
            reply = self.ask(send, "create_subshell_request", {}, timeout=timeout, control=True) or {}
            self._subshell = reply.get("subshell_id")
        return self._subshell

    def forget(self) -> None:
        """The kernel is another one now: there is no subshell, and what the old one was asked is over."""
        self._subshell, self._subshell_asked = None, False
        for asked in tuple(self._asked.values()):
            asked.done.set()
        self._asked.clear()

    def expect(self) -> Asked:
        """An id for a message, and what is set once the kernel has begun with it and is done."""
        asked = Asked(self._signer.next_id())
        self._asked[asked.msg_id] = asked
        return asked

    def inherit(self, old: Questions) -> None:
        """What `old` expects is heard here now: the session got another front."""
        self._asked |= old._asked

    def when_idle(self, action: Callable[[], None]) -> str:
        """An id for a message; `action` is called, on the pump's thread, once the kernel is idle after it."""
        msg_id = self._signer.next_id()
        self._idlers[msg_id] = action
        return msg_id

    def answered(self, message: Message) -> None:
        """A reply came."""
        waiter = self._waiters.get(message.parent_id)
        if waiter is not None:
            waiter.content = message.content
            waiter.done.set()

    def status(self, message: Message, state: Any) -> None:
        """The kernel is busy with some request, or idle again."""
        asked = self._asked.get(message.parent_id)
        if asked is not None:
            asked.begun.set()
        if state != "idle":
            return
        if asked is not None:
            del self._asked[message.parent_id]
            asked.done.set()
        action = self._idlers.pop(message.parent_id, None)
        if action is not None:
            action()
