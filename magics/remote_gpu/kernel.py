"""One raw ZMQ connection to one remote kernel, through its front, for all cells that run there.

There is no handshake: a front keeps what is published until it sees a subscription, so a connection may be used at once.
The methods that say so run on the pump's thread; the others may be called from any thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from remote_gpu.asides import Asides, gap_in
from remote_gpu.execution import AskInput, Effect, Execution, Finished, Outcome, Publish, Result, joined
from remote_gpu.messages import Message, Signer
from remote_gpu.pump import Pump
from remote_gpu.questions import Asked, Questions
from remote_gpu.replay import LastExecution
from remote_gpu.running import GatewayGone, Relay, Running, Sink
from remote_gpu.sinks import Sinks
from remote_gpu.sockets import Sockets

__all__ = ["Connection"]

_PROMPT_AFTER = 0.02  # seconds without output before a prompt is shown: input requests travel faster than output
_LOOK_AFTER = 1.0  # seconds between two looks at whether the gateway lives
_COMMS = frozenset({"comm_open", "comm_msg", "comm_close"})
_LATE = frozenset({"stream", "display_data", "update_display_data", "execute_result", "clear_output", "error"})


class Connection:
    """Shell, control, stdin and iopub of one front.

    `seq` is the last journal number seen; `state` what the kernel last said of cells (idle or busy); `death` is set once it ended;
    `lives` says whether the gateway does; `sinks` where the output of which request goes; `asides` whether the node is reached.
    """

    def __init__(
        self,
        file: Path | str,
        pump: Pump,
        *,
        relay: Relay | None = None,
        lives: Callable[[], bool] = lambda: True,
        after: int | None = None,
        seen: int = 0,
        claims: Sequence[str] = (),
        cursor: Callable[[int | None], None] | None = None,
    ) -> None:
        info = json.loads(Path(file).read_text(encoding="utf-8"))
        self.info = info
        self.signer = Signer(str(info.get("key", "")).encode(), info.get("signature_scheme", "hmac-sha256"))
        self.pump = pump
        self.seq = after
        self.death: Outcome | None = None
        self.running: dict[str, Running] = {}
        self.state = ""
        self._wires = Sockets(info, self.signer)
        self._send = self._wires.send
        self._questions = Questions(self.signer)
        self._relay = relay
        self.lives = lives
        self._seen, self._claims = seen, frozenset(claims)
        self._cursor = cursor
        self.sinks, self.asides = Sinks(), Asides()
        self._last_sink: Sink | None = None
        self._prompts: list[tuple[float, Running, AskInput]] = []
        self._paced_until = self._look = 0.0
        self._replay: tuple[LastExecution, Running] | None = None
        pump.start()
        pump.call(lambda: self._wires.open(pump.context))

    # any thread

    def begin(self) -> None:
        """Hear the kernel; what is to be inherited, followed or replayed was said before, so that it misses nothing."""
        self.pump.call(lambda: self.pump.add(self))

    def execute(self, code: str, running: Running, *, allow_stdin: bool, about: Mapping[str, Any], buffers: Sequence[Any] = ()) -> None:
        """Send `code`; what comes of it arrives in `running`. `about` is for our kernel: the cell's number, the names that cross."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": False,
        }
        frames = self.signer.pack("execute_request", content, msg_id=running.msg_id, metadata={"remote_gpu": about}, buffers=buffers)
        self.pump.call(lambda: (self._follow(running), self._send(0, frames)))  # type: ignore[arg-type, func-returns-value]

    def follow(self, running: Running) -> None:
        """Take up an execution that was sent through another front: it is over at its idle, with its reply or without.

        A front hands a claimed reply to the first client that speaks on its shell channel, so this one speaks. The kernel takes
        requests in order: once it is idle after this one and has said nothing of `running`, it never got it (`NeverArrived`).
        """
        running.execution.claimed = True
        marker = self._questions.when_idle(running.doubt)
        frames = self.signer.pack("kernel_info_request", {}, msg_id=marker)
        self.pump.call(lambda: (self._follow(running), self._send(0, frames)))  # type: ignore[arg-type, func-returns-value]

    def leave(self, running: Running) -> None:
        """Let an execution run on, unheard; `Running.left_at` is the last number that its cell has shown."""

        def leave() -> None:
            running.detached, running.left_at = True, self.seq
            running.sink.record(running, final=True)

        self.pump.call(leave)

    def replay_last(self, running: Running) -> None:
        """Follow the last execution in the journal, of which this connection reads all, as `running`."""

        def begin() -> None:
            msg_id = self.signer.next_id()
            self._replay = (LastExecution(msg_id), running)
            self._send(1, self.signer.pack("kernel_info_request", {}, msg_id=msg_id))

        self.pump.call(begin)

    def inherit(self, old: Connection) -> None:
        """Take over from `old`, which is closed: ended cells' late output goes where it went before."""

        def inherit() -> None:
            self.sinks, self._last_sink = old.sinks, old._last_sink
            self._questions.inherit(old._questions)
            self._seen = max(self._seen, old.seq or 0) if self.seq is not None else 0
            self.pump.remove(old)

        self.pump.call(inherit)

    def interrupt(self, running: Running | None = None) -> None:
        """Interrupt what runs in the remote kernel; or just `running`, which may still wait for its turn behind other cells."""
        if running is None or (running.began and len(self.running) == 1):
            frames = self.signer.pack("interrupt_request", {})
        else:
            frames = self.signer.pack("remote_gpu_request", {"ask": "cancel", "id": running.msg_id})
        self.pump.call(lambda: self._send(1, frames))

    def answer(self, value: str) -> None:
        """Answer the remote code's question for input."""
        frames = self.signer.pack("input_reply", {"status": "ok", "value": value})
        self.pump.call(lambda: self._send(2, frames))

    def request(
        self, msg_type: str, content: Mapping[str, Any], *, timeout: float, control: bool = False, beside: bool = False
    ) -> dict[str, Any] | None:
        """Ask the kernel and wait at most `timeout` s; None when no answer came. `beside` (or during) a cell, a subshell is asked."""
        beside = (beside or self.busy) and not control
        return self._questions.ask(self._later, msg_type, content, timeout=timeout, beside=beside, control=control)

    def send_comm(
        self, msg_type: str, content: Mapping[str, Any], metadata: Mapping[str, Any], buffers: Sequence[Any], sink: Sink | None
    ) -> Asked:
        """Send a comm message; output that it causes goes to `sink`. What comes back says when the kernel has dealt with it."""
        subshell = self._questions.subshell(self._later, 1.0) if self.busy or self.state == "busy" else None
        asked = self._questions.expect()
        whole = [bytes(each) for each in buffers]
        frames = self.signer.pack(msg_type, content, msg_id=asked.msg_id, metadata=metadata, buffers=whole, subshell=subshell)
        self.pump.call(lambda: (self.sinks.note_comm(asked.msg_id, sink), self._send(0, frames)))  # type: ignore[arg-type, func-returns-value]
        return asked

    def _later(self, index: int, frames: Sequence[Any]) -> None:
        self.pump.call(lambda: self._send(index, frames))

    @property
    def busy(self) -> bool:
        """True while an execution of ours runs there, followed or detached."""
        return bool(self.running)

    def close(self) -> None:
        """Close the sockets (pump's thread)."""
        self._wires.close()

    def leave_front(self) -> None:
        """Disconnect for good."""
        self.pump.call(lambda: self.pump.remove(self))

    # the pump's thread

    def _follow(self, running: Running) -> None:
        self.running[running.msg_id] = running
        self.sinks.note(running.msg_id, running.sink)
        self.asides.tell(running)
        self._last_sink = running.sink
        if self.death is not None:
            self._apply(running, (Finished(self.death),))

    def wanted(self) -> tuple[zmq.Socket[bytes], ...]:
        """See `Member`."""
        sockets = self._wires.sockets
        return sockets[:3] if self._paced_until else sockets

    def tick(self, now: float) -> float | None:
        """See `Member`."""
        due = [self._paced_until] if self._paced_until else []
        for prompt in tuple(self._prompts):
            if prompt[0] <= now:
                self._prompts.remove(prompt)
                prompt[1].events.put(prompt[2])
            else:
                due.append(prompt[0])
        for running in tuple(self.running.values()):
            if not running.recorded and not running.detached:
                if running.record_due <= now:
                    self._record(running)
                else:
                    due.append(running.record_due)
        if self.running:
            self._look_for_gateway(now)
            due.append(self._look)
        return min(due) if due else None

    def _look_for_gateway(self, now: float) -> None:
        if now < self._look:
            return
        first, self._look = self._look == 0.0, now + _LOOK_AFTER
        if not first and not self.lives():
            for running in tuple(self.running.values()):
                if not running.detached:
                    running.events.put(GatewayGone())
            self.running.clear()

    def receive(self, now: float) -> None:
        """See `Member`."""
        self._paced_until = 0.0
        ready = self.pump.pace.ready_at(now)
        if ready > now:
            self._paced_until = ready
        else:
            arrived = joined(self._wires.arrived(3, "iopub"))
            for message in arrived:
                self._iopub(message, now)
            if arrived and self._cursor is not None:
                self._cursor(self.seq)
        for index, channel in ((0, "shell"), (1, "control"), (2, "stdin")):
            for message in self._wires.arrived(index, channel):
                self._answered(message, now)

    def _iopub(self, message: Message, now: float) -> None:
        if self.asides.heard(message, self.running.values()):
            return
        if message.seq is not None:
            if self.seq is not None and message.seq <= self.seq:
                return
            self.seq = message.seq
        self.asides.goes_on(self.running.values())
        if self._replay is not None:
            self._replayed(message, now)
            return
        if message.seq is not None and message.seq <= self._seen and message.parent_id not in self._claims:
            return
        if message.msg_type == "status":
            self._status(message)
        running = self.running.get(message.parent_id)
        if running is not None:
            if self._prompts:
                self._prompts = [(now + _PROMPT_AFTER, *rest) for _, *rest in self._prompts]  # type: ignore[misc]
            self._apply(running, running.heard(message))
        elif message.msg_type in _COMMS:
            if self._relay is not None:
                self._relay.relay(self, message, self.sinks.get(message.parent_id))
        elif message.msg_type in _LATE:
            self._late(message)

    def _replayed(self, message: Message, now: float) -> None:
        last, running = self._replay or (None, None)
        if last is None or running is None or not last.feed(message):
            return
        self._replay = None
        if not last.msg_id:
            running.execution.finished = True
            self._finish(running, Finished(Outcome(Result.OK)))
            return
        running.execution.msg_id = last.msg_id
        self._follow(running)
        self.seq, self._claims = None, self._claims | {last.msg_id}
        for each in joined(last.messages):
            self._iopub(each, now)

    def _late(self, message: Message) -> None:
        sink = self.sinks.get(message.parent_id) or (None if message.parent_id else self._last_sink)
        if gap := gap_in(message):
            for running in self.running.values():
                running.execution.lost(*gap)
        if sink is not None:
            self._publish(sink, message)

    def _status(self, message: Message) -> None:
        state = message.content.get("execution_state")
        if message.parent.get("msg_type") == "execute_request" or not message.parent_id:
            self.state = str(state)
        self._questions.status(message, state)
        if state not in ("dead", "restarting"):
            return
        self._questions.forget()
        for running in tuple(self.running.values()):
            self._apply(running, running.execution.feed(message))
        if state == "dead" and self.death is None:
            effects = Execution("").feed(message)
            self.death = next(effect.outcome for effect in effects if isinstance(effect, Finished))
        if self._relay is not None:
            self._relay.forget(self)

    def _answered(self, message: Message, now: float) -> None:
        running = self.running.get(message.parent_id)
        if running is not None:
            self._apply(running, running.execution.feed(message), now)
            return
        self._questions.answered(message)

    def _apply(self, running: Running, effects: Sequence[Effect], now: float = 0.0) -> None:
        for effect in effects:
            if isinstance(effect, Finished):
                self._finish(running, effect)
            elif running.detached:
                continue
            elif isinstance(effect, Publish):
                if not running.recorded:
                    self._record(running)
                self._publish(running.sink, effect.message)
            elif isinstance(effect, AskInput):
                self._prompts.append((now + _PROMPT_AFTER, running, effect))
            else:
                running.events.put(effect)

    def _publish(self, sink: Sink, message: Message) -> None:
        self.pump.pace.spend(len(message.raw[1]))
        if message.msg_type not in _COMMS:
            sink.publish(message)
        elif self._relay is not None:
            self._relay.relay(self, message, sink)

    def _record(self, running: Running) -> None:
        running.sink.record(running, final=False)
        running.recorded = True

    def _finish(self, running: Running, effect: Finished) -> None:
        self.running.pop(running.msg_id, None)
        running.ended, running.outcome = time.time(), effect.outcome
        if effect.outcome.reason == "ended":
            self.death = self.death or effect.outcome
        if not running.detached and effect.outcome.ename != "NamesRefused":  # a cell that did not begin is sent again
            running.sink.record(running, final=True)
        running.events.put(effect)
