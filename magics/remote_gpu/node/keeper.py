"""Keeps the session's kernel: starts it, holds requests until it listens, carries messages both ways, tells how it ended."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from remote_gpu.frames import Lane, Message
from remote_gpu.node import wire
from remote_gpu.node.attachments import Attachments
from remote_gpu.node.kernel_process import KernelProcess, KernelState

__all__ = ["Keeper"]

GRACE = 2.0
"""Seconds that a kernel has to end in order before it is killed."""

_PROBE_EVERY = 0.05
_BATCH = 500
_QUIET_EVENT = 0.05
_STATUS_MARK = b'"status"'
_WELCOME_MARK = b'"iopub_welcome"'


class _Request(NamedTuple):
    """A request that the kernel has not answered: enough to answer it in its place."""

    lane: Lane
    identities: list[bytes]
    header: bytes
    kind: str
    metadata: bytes
    since: float


class Keeper:
    """The kernel of one session, over all its incarnations. `on_change` is called when its state changed.

    The supervisor's loop calls `receive`, `on_ready`, `reap` and `tick`; nothing blocks.
    """

    def __init__(self, folder: Path, environment: dict[str, str], attachments: Attachments, on_change: Callable[[], None]) -> None:
        self._folder = folder
        self._environment = environment
        self._attachments = attachments
        self._on_change = on_change
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._held: deque[tuple[str, Lane, Message]] = deque()
        self._requests: dict[str, _Request] = {}
        self._busy: dict[str, float] = {}
        self._kill_at = self._probe_at = self._tell_at = float("inf")
        self._restarting = False
        self._told = ""
        self._seen = 0
        self.quiet_since = time.monotonic()
        """When the kernel was last seen busy."""
        self.process = KernelProcess(self._context, folder, 1, environment)

    @property
    def state(self) -> KernelState:
        """The kernel's state, for EVENT and ATTACHED."""
        return self.process.state

    @property
    def json(self) -> dict[str, Any]:
        """The kernel's state as JSON; "busy" while it works on anything."""
        value = self.state.json()
        if value["state"] == "idle" and self._busy:
            value["state"] = "busy"
        return value

    @property
    def busy(self) -> bool:
        """Whether the kernel works on a request, or starts."""
        return self.process.running and (bool(self._busy) or not self.process.ready)

    @property
    def restarting(self) -> bool:
        """Whether a restart was asked for and the next incarnation does not serve yet."""
        return self._restarting

    def start(self) -> None:
        """Fork the kernel."""
        self.process.start()
        self._on_change()

    def request(self, owner: str, role: str, lane: Lane, message: Message) -> None:
        """Take in a client's message: check it, and hand it to the kernel, hold it, or answer it."""
        if len(message.parts) < 4:  # noqa: PLR2004  header, parent, metadata, content
            return
        raw = bytes(message.parts[0])
        header = wire.header_of(raw)
        kind = str(header.get("msg_type", ""))
        routed = Message([owner.encode(), *message.identities], message.parts)
        metadata = bytes(message.parts[2]) if kind == "execute_request" else b""
        asked = _Request(lane, routed.identities, raw, kind, metadata, time.time())
        if not wire.allowed(role, lane, kind):
            self._answer(asked, "NotAllowed", f"A {role} of this session may not send {kind or 'this message'}.")
        elif not self.process.running and not self._restarting:
            self._answer(asked, "KernelDied", self.state.text or "The remote kernel has ended.")
        else:
            self._take(asked, header, routed)

    def queue(self) -> list[dict[str, Any]]:
        """The cells that run and wait, in their order: times in seconds since the epoch, `begun` None for one that waits.

        `owner` is the attachment that sent it; `cell` and `job` are the numbers that its client gave it, if it did. No code.
        """
        cells = []
        for identity, asked in self._requests.items():
            if asked.kind == "execute_request":
                about = wire.header_of(asked.metadata).get("remote_gpu")
                about = about if isinstance(about, dict) else {}
                owner = asked.identities[0].decode(errors="replace")
                told = {"cell": about.get("execution_count"), "job": about.get("job")}
                cells.append({"id": identity, "owner": owner, "since": asked.since, "begun": self._busy.get(identity), **told})
        return cells

    def cancel(self, identity: str) -> str:
        """Have one cell of the queue not run, or interrupt it; returns what it was: ``waiting``, ``running`` or ``over``."""
        asked = self._requests.get(identity)
        if asked is None or asked.kind != "execute_request":
            return "over"
        held = [each for each in self._held if each[0] == identity]
        if held:
            self._held.remove(held[0])
            del self._requests[identity]
            self._answer(asked, "Cancelled", "The cell was cancelled before it began.")
        else:
            parts = wire.make_parts("remote_gpu_request", {"ask": "cancel", "id": identity})
            self.process.send(Lane.CONTROL, Message([], parts))
        return "running" if identity in self._busy else "waiting"

    def warn(self, text: str) -> None:
        """Say something on the error stream of the cells that run, or of nobody's when none does."""
        cells = [asked.header for asked in self._requests.values() if asked.kind == "execute_request"]
        for header in cells or [wire.EMPTY]:
            self._attachments.publish(wire.make_parts("stream", {"name": "stderr", "text": text + "\n"}, header))

    def receive(self, lane: Lane) -> None:
        """Take in what the kernel sent on a channel, a batch at most."""
        for _ in range(_BATCH):
            message = self.process.receive(lane)
            if message is None:
                return
            if lane is Lane.IOPUB:
                self._publish(message)
            else:
                self._route(lane, message)

    def on_ready(self) -> bool:
        """The ready pipe has news; True while it stays open."""
        open_still = self.process.on_ready()
        if self.process.sockets and not self.process.ready:
            self._probe_at = time.monotonic() + _PROBE_EVERY
        self._check_ready()
        return open_still

    def reap(self) -> bool:
        """Look whether the kernel ended (after a SIGCHLD). True when it did, and its sockets are closed."""
        if not self.process.reap():
            return False
        for lane in tuple(self.process.sockets):
            before = -1
            while self._seen != before:
                before = self._seen
                self.receive(lane)
        self.process.close()
        self._kill_at = self._probe_at = float("inf")
        if not self.process.asked:  # the next incarnation died by itself: no third one
            self._restarting = False
        self._bury()
        if self._restarting:
            self.process = KernelProcess(self._context, self._folder, self.state.incarnation + 1, self._environment)
            self.process.start()
        self._on_change()
        return True

    def end(self, why: str, *, kill: bool = False) -> None:
        """End the kernel; in order first, unless `kill`."""
        if not self.process.running:
            return
        self._restarting = False
        self.process.asked = self.process.asked or why
        if kill:
            self.process.signal(signal.SIGKILL)
        else:
            self.process.ask_to_end(why, restart=False)
            self._kill_at = min(self._kill_at, time.monotonic() + GRACE)

    def restart(self) -> None:
        """End the kernel and start its next incarnation; `restarting` stays true until that serves."""
        if self._restarting:
            return
        self._restarting = True
        if self.process.running:
            self.process.ask_to_end("The remote kernel was restarted.", restart=True)
            self._kill_at = min(self._kill_at, time.monotonic() + GRACE)
            return
        self.process = KernelProcess(self._context, self._folder, self.state.incarnation + 1, self._environment)
        self.process.start()
        self._on_change()

    def tick(self, now: float) -> float:
        """Do what is due; returns when to call again at the latest."""
        if now >= self._kill_at:
            self._kill_at = float("inf")
            self.process.signal(signal.SIGKILL)
        if now >= self._probe_at:
            self._probe_at = float("inf")
            if self.process.sockets and not self.process.ready:
                self.process.probe()
                self._probe_at = now + _PROBE_EVERY
        if now >= self._tell_at:
            self._tell_at = float("inf")
            if self.json["state"] != self._told:
                self._on_change()
        if self._busy:
            self.quiet_since = now
        return min(self._kill_at, self._probe_at, self._tell_at)

    def told(self) -> None:
        """Note that everybody knows the present state."""
        self._told = self.json["state"]

    def close(self) -> None:
        """Close the sockets and what else is open; the kernel's process group is killed by that."""
        self.process.close()
        self._context.destroy(linger=0)

    def _take(self, asked: _Request, header: dict[str, Any], routed: Message) -> None:
        identity = str(header.get("msg_id", ""))
        if asked.kind == "shutdown_request":
            self.process.asked = "The remote kernel was asked to end."
        if asked.lane is Lane.STDIN:
            self._attachments.answered()
        elif wire.reply_type(asked.kind):
            self._requests[identity] = asked
        if self.process.ready and not self._restarting:
            self.process.send(asked.lane, routed)
        else:
            self._held.append((identity, asked.lane, routed))

    def _check_ready(self) -> None:
        process = self.process
        if not process.ready or self.state.state != "starting":
            return
        self._probe_at = float("inf")
        self._restarting = False
        process.serves()
        self._attachments.publish(wire.status_parts("idle"))
        while self._held:
            process.send(*self._held.popleft()[1:])
        self._on_change()

    def _publish(self, message: Message) -> None:
        self._seen += 1
        header, parent = bytes(message.parts[0]), message.parts[1]
        if self.state.state == "starting":
            self.process.subscribed()
            self._check_ready()
        if _WELCOME_MARK in header or wire.OUR_MARK in bytes(parent):
            return
        if _STATUS_MARK in header:
            self._note_status(message)
        self._attachments.publish(message.parts)

    def _note_status(self, message: Message) -> None:
        state = wire.header_of(message.parts[3]).get("execution_state")
        parent = str(wire.header_of(message.parts[1]).get("msg_id", ""))
        if state == "busy":
            self._busy[parent] = time.time()
        elif state == "idle":
            self._busy.pop(parent, None)
            self._attachments.settled(parent)
            self.quiet_since = time.monotonic()
        self._tell_at = min(self._tell_at, time.monotonic() + _QUIET_EVENT)

    def _route(self, lane: Lane, message: Message) -> None:
        self._seen += 1
        parent = str(wire.header_of(message.parts[1]).get("msg_id", ""))
        if not message.identities:  # the answer to a probe or a shutdown request of our own
            return
        if lane is Lane.STDIN:
            self._attachments.ask(message, parent)
            return
        self._requests.pop(parent, None)
        self._attachments.reply(lane, message, parent)

    def _answer(self, asked: _Request, ename: str, text: str) -> None:
        """Answer a request in the kernel's place, and say that it is over."""
        if asked.lane is Lane.STDIN:
            return
        parent = str(wire.header_of(asked.header).get("msg_id", ""))
        if wire.reply_type(asked.kind):
            parts = wire.error_reply(asked.kind, asked.header, ename, text)
            self._attachments.reply(asked.lane, Message(asked.identities, parts), parent)
        self._attachments.publish(wire.status_parts("idle", asked.header))

    def _bury(self) -> None:
        """Answer what the dead kernel left unanswered and tell everybody how it ended."""
        state = self.state
        for header in self._busy:
            self._attachments.settled(header)
        for_the_next = {identity for identity, _, _ in self._held} if self._restarting else set()
        for identity in [identity for identity in self._requests if identity not in for_the_next]:
            self._answer(self._requests.pop(identity), "KernelDied", state.text)
        if not self._restarting:
            self._held.clear()
        self._busy.clear()
        extra = {"reason": state.reason, "text": state.text, "exit_code": state.exit_code, "signal": state.signal}
        self._attachments.publish(wire.status_parts("restarting" if self._restarting else "dead", extra=extra))
