"""What a front publishes: in order, nothing before a subscriber is there, nothing dropped, at a pace if asked for.

The queue is bounded by the link's window: a message is acknowledged when ZMQ took it, and the node sends no more than
8 MiB ahead of that. A subscriber that does not read therefore stalls its own attachment and nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jupyter_remote_gpu.front_sockets import DELIMITER, Signer, Sockets

__all__ = ["Item", "Output", "Pace", "merge"]

_TURN = 200  # messages published before the loop has another turn
_RETRY = 0.02  # seconds after which a full socket is tried again, should its descriptor stay silent
_MERGED = 256 * 1024  # bytes of text in a merged message
_SIGNATURE = 64  # bytes
_PARTS = 4  # of a message without buffers
_TYPE = re.compile(rb'"msg_type":\s*"(\w+)"')
_IDLE = re.compile(rb'"execution_state":\s*"idle"')
_FREE = frozenset({b"status", b"comm_open", b"execute_input"})  # jupyter_server does not count these


@dataclass(slots=True)
class Item:
    """One message to publish. `number` is the last journal number in it, `size` the bytes of all that is in it."""

    number: int
    parts: list[bytes | memoryview]
    size: int

    def kind(self) -> bytes:
        """The message's type."""
        found = _TYPE.search(bytes(self.parts[0]))
        return found[1] if found else b""


class Pace:
    """How fast a subscriber may be fed: at most so many messages and bytes of stream text in any window.

    jupyter_server drops what exceeds 1,000 messages or 1 MB of text a second, over a window of 3 s, and starts to count
    anew at each idle status. The defaults stay a fifth below, and over a longer window: a busy server takes in a burst later than it was sent.
    """

    def __init__(self, messages: int = 2400, text: int = 2_400_000, window: float = 4.0) -> None:
        self._messages = messages
        self._text = text
        self._window = window
        self._past: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def wait(self, item: Item, now: float) -> float:
        """Seconds until `item` may go; 0 when it may go now."""
        past = self._past
        while past and past[0][0] + self._window <= now:
            self._bytes -= past.popleft()[1]
        if not past or item.kind() in _FREE:
            return 0.0
        if len(past) < self._messages and self._bytes + _text_size(item) <= self._text:
            return 0.0
        return max(past[0][0] + self._window - now, 0.001)

    def count(self, item: Item, now: float) -> None:
        """`item` went."""
        kind = item.kind()
        if kind not in _FREE:
            size = _text_size(item)
            self._past.append((now, size))
            self._bytes += size
        elif kind == b"status" and _IDLE.search(bytes(item.parts[3])):
            self._past.clear()
            self._bytes = 0


def _text_size(item: Item) -> int:
    return item.size + _SIGNATURE if item.kind() == b"stream" else 0


def merge(items: deque[Item]) -> None:
    """Make one message of the pieces of text at the front of `items` that follow each other: one stream, one parent."""
    first = items[0]
    pieces: list[str] = []
    size, name = 0, None
    while items and _is_text(items[0]) and items[0].parts[1] == first.parts[1] and size + items[0].size <= _MERGED:
        content = _content(items[0])
        if content is None or (pieces and content[0] != name):
            break
        name = content[0]
        pieces.append(content[1])
        last = items.popleft()
        size += last.size
    if len(pieces) > 1:
        items.appendleft(_text_item(last.number, last, name or "", "".join(pieces)))
    elif pieces:
        items.appendleft(first)


def split(item: Item) -> list[Item]:
    """A long text in pieces that follow each other: a single message above the limit would be dropped whole.

    Only with the last piece has the item been taken.
    """
    content = _content(item) if item.size > 2 * _MERGED and _is_text(item) else None
    if content is None:
        return [item]
    name, text = content
    step = max(len(text) * _MERGED // item.size, 1)
    texts = [text[start : start + step] for start in range(0, len(text), step)]
    pieces = [_text_item(item.number - 1, item, name, each) for each in texts]
    pieces[-1].number = item.number
    return pieces


def _text_item(number: int, like: Item, name: str, text: str) -> Item:
    content = {"name": name, "text": text}
    try:
        body = json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair: it has no other form
        body = json.dumps(content).encode()
    parts = [*like.parts[:3], body]
    return Item(number, parts, sum(len(part) for part in parts))


def _is_text(item: Item) -> bool:
    return len(item.parts) == _PARTS and item.kind() == b"stream"


def _content(item: Item) -> tuple[str, str] | None:
    try:
        content = json.loads(bytes(item.parts[3]))
        return (content["name"], content["text"]) if set(content) == {"name", "text"} else None
    except (ValueError, KeyError, TypeError):
        return None


class Output:
    """The iopub side of a front. `on_taken(number)` is called when subscribers took everything up to `number`."""

    def __init__(
        self,
        sockets: Sockets,
        signer: Signer,
        on_taken: Callable[[int], None],
        *,
        coalesce: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._signer = signer
        self._on_taken = on_taken
        self._coalesce = coalesce
        self._pace = pace
        self._queue: deque[Item] = deque()
        self._held = True
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._paced = False

    @property
    def waiting(self) -> int:
        """Messages that no subscriber took yet."""
        return len(self._queue)

    def add(self, item: Item) -> None:
        """Publish after everything that came before."""
        self._queue.extend(split(item) if self._pace else (item,))
        if self._timer is None and not self._held:
            self._pump()

    def add_first(self, item: Item) -> None:
        """Publish before everything that waits; its number is the last one that was taken."""
        self._queue.appendleft(item)
        if self._timer is None and not self._held:
            self._pump()

    def hold(self, held: bool) -> None:
        """Stop publishing while nobody listens, or go on."""
        self._held = held
        if not held:
            self.retry()

    def retry(self) -> None:
        """Something changed at the socket: go on now."""
        if self._timer is not None and not self._paced:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and not self._held:
            self._pump()

    def close(self) -> None:
        """Publish no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()
        self._held = True

    def _pump(self) -> None:
        self._timer = None
        self._paced = False
        for _ in range(_TURN):
            if not self._queue or self._held:
                break
            if not self._step():
                break
        else:
            self._timer = self._loop.call_soon(self._pump)
        self._sockets.look_again("iopub")

    def _step(self) -> bool:
        if self._coalesce and len(self._queue) > 1:
            merge(self._queue)
        item = self._queue[0]
        now = self._loop.time()
        wait = self._pace.wait(item, now) if self._pace else 0.0
        if wait:
            self._paced = True
            self._timer = self._loop.call_later(wait, self._pump)
            return False
        frames = [b"iopub.%d" % item.number, DELIMITER, self._signer.sign(item.parts), *item.parts]
        if not self._sockets.send("iopub", frames, item.size):
            self._timer = self._loop.call_later(_RETRY, self._pump)
            return False
        if self._pace:
            self._pace.count(item, now)
        self._queue.popleft()
        self._on_taken(item.number)
        return True
