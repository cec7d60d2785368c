"""One execution as a state machine: a message in, effects out. No input or output of its own, and no clock.

An execution is over when both its reply and its ``idle`` are in, whichever comes first, or when the remote kernel ended.
A replayed execution (`claimed`) is over at its ``idle``: its reply may have gone to a client that is no more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from remote_gpu.messages import Message

__all__ = ["AskInput", "Effect", "Execution", "Finished", "NextInput", "Outcome", "Page", "Publish", "Result"]

_OUTPUTS = frozenset({
    "stream", "display_data", "update_display_data", "execute_result", "clear_output", "comm_open", "comm_msg", "comm_close",
})  # fmt: skip
_DEATHS = frozenset({"dead", "restarting"})


class Result(StrEnum):
    """How an execution ended."""

    OK = "ok"
    ERROR = "error"
    ABORTED = "aborted"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an execution. `ename`, `evalue` and `traceback` are the remote error's; `reason` is why a kernel died.

    `shown`: the cell has said what went wrong by itself, as text (a mistyped magic) or in the debugger, or output followed the error.
    """

    result: Result
    ename: str = ""
    evalue: str = ""
    traceback: tuple[str, ...] = ()
    reason: str = ""
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish `message` in the calling cell."""

    message: Message


@dataclass(frozen=True, slots=True)
class AskInput:
    """The remote code waits for a line (or a password) from the user."""

    prompt: str
    password: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Show `data` (a mime bundle) in the pager."""

    data: dict[str, Any]
    start: int = 0


@dataclass(frozen=True, slots=True)
class NextInput:
    """Put `text` into the next cell, or into this one."""

    text: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The execution is over."""

    outcome: Outcome


Effect = Publish | AskInput | Page | NextInput | Finished


@dataclass(slots=True)
class Execution:
    """What is known of one execution, by the messages that were fed in."""

    msg_id: str
    claimed: bool = False
    lines: int = 0
    missed: int = 0
    first: int | None = None
    last: int | None = None
    finished: bool = False
    values: Message | None = None
    """What the kernel says of the names that the cell bound (`remote_gpu_values`)."""
    energy: dict[str, Any] | None = None
    """What the node says of the energy that its GPUs took for it (`remote_gpu_energy`)."""
    _idle: bool = False
    _error: Message | None = None
    _reply: Message | None = None
    _others: list[Effect] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """False when the journal could not give some of the output."""
        return self.missed == 0

    def feed(self, message: Message) -> Sequence[Effect]:
        """Take in one message; returns what has to be done, in order. Messages of other executions have no effect."""
        if self.finished:
            return ()
        if message.msg_type == "status" and message.content.get("execution_state") in _DEATHS:
            return self._died(message.content)
        if message.parent_id != self.msg_id:
            return ()
        if message.seq is not None:
            self.first = message.seq if self.first is None else self.first
            self.last = message.seq
        kind = message.msg_type
        if kind in _OUTPUTS:
            return self._output(message)
        if kind == "error":
            effects = self._held_error()
            self._error = message
            return effects
        if kind == "status":
            self._idle = message.content.get("execution_state") == "idle"
            return self._end_if_over() if self._idle else ()
        if kind == "remote_gpu_values":
            self.values = message
            return ()
        if kind == "remote_gpu_energy":
            self.energy = message.content
            return ()
        if kind == "input_request":
            return (AskInput(str(message.content.get("prompt", "")), bool(message.content.get("password"))),)
        if kind == "execute_reply":
            if message.content.get("ename") == "KernelDied":  # the supervisor's own answer, in place of the kernel's
                return self._died({"remote_gpu": {"reason": "ended", "text": message.content.get("evalue")}})
            self._reply = message
            return self._end_if_over()
        return ()

    def lost(self, first: int, last: int) -> None:
        """Note that the journal no longer has the messages `first` to `last`, inclusive."""
        self.missed += last - first + 1

    def _output(self, message: Message) -> Sequence[Effect]:
        if message.msg_type == "stream":
            self.lines += str(message.content.get("text", "")).count("\n")
        return (*self._held_error(), Publish(message))

    def _held_error(self) -> tuple[Effect, ...]:
        """An error that more output follows is no cell's end (a failing formatter, say): it is published in its place."""
        held, self._error = self._error, None
        return (Publish(held),) if held is not None else ()

    def _end_if_over(self) -> Sequence[Effect]:
        if not self._idle or (self._reply is None and not self.claimed):
            return ()
        self.finished = True
        reply = self._reply.content if self._reply is not None else {"status": "error" if self._error else "ok"}
        status = reply.get("status")
        if status == "ok":
            return (*self._held_error(), *_payload(reply), Finished(Outcome(Result.OK)))
        if status in ("aborted", "abort"):
            return (*self._held_error(), Finished(Outcome(Result.ABORTED)))
        error = {**reply, **(self._error.content if self._error is not None else {})}
        traceback = tuple(error.get("traceback") or ())
        shown = self._error is None and "user_expressions" in reply  # a reply that IPython made: it shows what it wants to be seen
        outcome = Outcome(Result.ERROR, str(error.get("ename", "Error")), str(error.get("evalue", "")), traceback, shown=shown)
        return (*_payload(reply), Finished(outcome))

    def _died(self, content: dict[str, Any]) -> Sequence[Effect]:
        self.finished = True
        why = content.get("remote_gpu") or {}
        text = str(why.get("text") or "") or "the remote kernel ended"
        return (*self._held_error(), Finished(Outcome(Result.DIED, evalue=text, reason=str(why.get("reason") or "ended"))))


def _payload(reply: dict[str, Any]) -> list[Effect]:
    effects: list[Effect] = []
    for item in reply.get("payload") or ():
        source = item.get("source")
        if source == "page":
            effects.append(Page(dict(item.get("data") or {}), int(item.get("start") or 0)))
        elif source == "set_next_input":
            effects.append(NextInput(str(item.get("text", "")), bool(item.get("replace"))))
    return effects  # ask_exit and edit would act on the wrong machine


def joined(messages: Sequence[Message], limit: int = 65536) -> list[Message]:
    """`messages` with neighbouring stream texts of one parent and one stream made one, up to about `limit` characters each.

    Order is kept; the joined message bears the last one's number.
    """
    result: list[Message] = []
    texts: list[str] = []
    size = 0
    for message in messages:
        previous = result[-1] if result else None
        if previous is not None and size < limit and _same_stream(previous, message):
            texts.append(message.content["text"])
            size += len(texts[-1])
            result[-1] = message._replace(content={"name": message.content["name"], "text": texts})
            continue
        _close(result)
        result.append(message)
        text = message.content.get("text", "") if message.msg_type == "stream" else ""
        texts, size = [text], len(text)
    _close(result)
    return result


def _same_stream(one: Message, other: Message) -> bool:
    streams = one.msg_type == "stream" == other.msg_type
    return (
        streams and one.parent_id == other.parent_id and one.content.get("name") == other.content.get("name") and one.raw[0] == other.raw[0]
    )


def _close(result: list[Message]) -> None:
    if result and isinstance(result[-1].content.get("text"), list):
        content = {**result[-1].content, "text": "".join(result[-1].content["text"])}
        result[-1] = result[-1]._replace(content=content, raw=(result[-1].raw[0], json.dumps(content).encode()))
