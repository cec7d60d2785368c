"""Keeps the session's kernel: starts it, holds requests until it listens, carries messages both ways, tells how it ended."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from remote_gpu.frames import Lane, Message
from remote_gpu.node import wire
from remote_gpu.node.attachments import Attachments
from remote_gpu.node.cancels import NOT_BEGUN, Cancels, cell_of, target_of
from remote_gpu.node.kernel_process import KernelProcess, KernelState

__all__ = ["Keeper"]

GRACE = 2.0
"""Seconds that a kernel has to end in order before it is killed."""

_PROBE_EVERY = 0.05
_BATCH = 500
_QUIET_EVENT = 0.05
_STATUS_MARK = b'"status"'
_WELCOME_MARK = b'"iopub_welcome"'


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
        self._requests: dict[str, wire.Request] = {}
        self._busy: dict[str, float] = {}
        self._kill_at = self._probe_at = self._tell_at = float("inf")
        self._restarting = False
        self._cancels = Cancels()
        self._told_state = ""
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
        asked = wire.Request(lane, routed.identities, raw, kind, metadata, time.time())
        if not wire.allowed(role, lane, kind):
            self._answer(asked, "NotAllowed", f"A {role} of this session may not send {kind or 'this message'}.")
        elif not self.process.running and not self._restarting:
            self._answer(asked, "KernelDied", self.state.text or "The remote kernel has ended.")
        elif target := target_of(kind, message.parts[3]):
            self.cancel(target, asked)
        else:
            self._take(asked, header, routed)

    def queue(self) -> list[dict[str, Any]]:
        """The cells that run and wait, in their order, as `cell_of` describes them."""
        cells = [(identity, asked) for identity, asked in self._requests.items() if asked.kind == "execute_request"]
        return [cell_of(name, asked.identities[0], asked.since, self._busy.get(name), asked.metadata) for name, asked in cells]

    def cancel(self, identity: str, client: wire.Request | None = None) -> str:
        """Have one cell of the queue not run, or interrupt it; returns what it seems to be: ``waiting``, ``running`` or ``over``.

        The kernel has the last word; a `client` that asked is told what it says.
        """
        asked = self._requests.get(identity)
        if asked is not None and asked.kind == "execute_request" and not any(each[0] == identity for each in self._held):
            self.process.send(Lane.CONTROL, Message([], self._cancels.ask(identity, client)))
            return "running" if identity in self._busy else "waiting"
        was = "over" if asked is not None and asked.kind != "execute_request" else self._cancels.early(identity)
        if asked is not None and was == "waiting":
            self._held = deque(each for each in self._held if each[0] != identity)
            self._answer_cancelled(identity)
        self._tell_client(client, was)
        return was

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
            if self.json["state"] != self._told_state:
                self._on_change()
        if self._busy:
            self.quiet_since = now
        return min(self._kill_at, self._probe_at, self._tell_at)

    def told(self) -> None:
        """Note that everybody knows the present state."""
        self._told_state = self.json["state"]

    def close(self) -> None:
        """Close the sockets and what else is open; the kernel's process group is killed by that."""
        self.process.close()
        self._context.destroy(linger=0)

    def _take(self, asked: wire.Request, header: dict[str, Any], routed: Message) -> None:
        identity = str(header.get("msg_id", ""))
        if asked.kind == "shutdown_request":
            self.process.asked = "The remote kernel was asked to end."
        if asked.lane is Lane.STDIN:
            self._attachments.answered()
        elif wire.reply_type(asked.kind):
            self._requests[identity] = asked
        if self._cancels.is_early(identity):
            self._answer_cancelled(identity)
            return
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
        state = _STATUS_MARK in header and wire.header_of(message.parts[3]).get("execution_state")
        if _WELCOME_MARK in header or wire.OUR_MARK in bytes(parent) or self._cancels.is_old_news(parent, str(state)):
            return
        if self.process.asked and wire.is_interrupt(message.parts):
            self._cut_short(str(wire.header_of(parent).get("msg_id", "")))
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
        if not message.identities:  # the answer to a question of our own
            self._told(parent, message)
            return
        if lane is Lane.STDIN:
            self._attachments.ask(message, parent)
            return
        if self._cancels.is_old_news(message.parts[1], "reply"):
            return
        if self.process.asked and wire.is_interrupt(message.parts):
            self._cut_short(parent)
            return
        self._requests.pop(parent, None)
        self._cancels.over(parent)
        self._attachments.reply(lane, message, parent)

    def _cut_short(self, identity: str) -> None:
        """A cell is interrupted because its kernel ends: it is told that instead, now."""
        if identity in self._requests:
            self._cancels.answered(identity)
            self._answer(self._requests.pop(identity), "KernelDied", self.process.asked)

    def _told(self, question: str, message: Message) -> None:
        """The kernel said what a cell was that is cancelled: one that waited is answered here, now."""
        identity, was, client = self._cancels.told(question, message.parts[3])
        if was == "waiting" and identity in self._requests:
            self._cancels.answered(identity)
            self._answer_cancelled(identity)
        self._tell_client(client, was)

    def _answer_cancelled(self, identity: str) -> None:
        asked = self._requests.pop(identity)
        self._cancels.over(identity)
        error = {"ename": "Cancelled", "evalue": NOT_BEGUN, "traceback": [f"\x1b[31mCancelled\x1b[39m: {NOT_BEGUN}"]}
        self._attachments.publish(wire.make_parts("error", error, asked.header))
        self._answer(asked, "Cancelled", NOT_BEGUN)

    def _tell_client(self, client: wire.Request | None, was: str) -> None:
        if client is None:
            return
        parts = wire.make_parts("remote_gpu_reply", {"status": "ok", "was": was}, client.header)
        parent = str(wire.header_of(client.header).get("msg_id", ""))
        self._attachments.reply(client.lane, Message(client.identities, parts), parent)
        self._attachments.publish(wire.status_parts("idle", client.header))

    def _answer(self, asked: wire.Request, ename: str, text: str) -> None:
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
        for client in self._cancels.clear():
            self._tell_client(client, "over")
        extra = {"reason": state.reason, "text": state.text, "exit_code": state.exit_code, "signal": state.signal}
        self._attachments.publish(wire.status_parts("restarting" if self._restarting else "dead", extra=extra))
