"""What a front sends to single clients: replies and requests for input."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from jupyter_remote_gpu.front_sockets import DELIMITER, Signer, Sockets
from remote_gpu.frames import Lane, Message

__all__ = ["CHANNELS", "Replies"]

CHANNELS = {Lane.SHELL: "shell", Lane.CONTROL: "control", Lane.STDIN: "stdin"}
_RETRY = 0.05  # seconds until an absent client is tried again
_ABSENT = 3.0  # seconds that a client has to connect, after the front opened or while it is asked for input


class Replies:
    """Replies in order, each to the client that asked; one whose client is gone for good is dropped.

    A front that `claimed` replies got them from a client that is gone together with its front: they go to the first
    client that spoke on this one, and wait for it. `on_sent(lane, number)` is called for each when it is done with.
    """

    def __init__(self, sockets: Sockets, signer: Signer, on_sent: Callable[[Lane, int], None], *, claimed: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._signer = signer
        self._on_sent = on_sent
        self._claimed = claimed
        self._heir: bytes | None = None
        self._queue: deque[tuple[Lane, int, Message]] = deque()
        self._started = False
        self._give_up = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The front is attached."""
        self._started = True
        self._give_up = self._loop.time() + _ABSENT
        self._send()

    def meet(self, identity: bytes) -> None:
        """A client spoke on shell."""
        if self._heir is None:
            self._heir = identity
            if self._queue:
                self._loop.call_soon(self._send)

    def add(self, lane: Lane, number: int, message: Message) -> None:
        """Send after everything that came before."""
        self._queue.append((lane, number, message))
        if self._started and len(self._queue) == 1:
            self._send()

    def close(self) -> None:
        """Send no more."""
        self._started = False
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        while self._started and self._queue:
            lane, number, message = self._queue[0]
            if not self._reply(lane, message):
                return
            self._queue.popleft()
            self._on_sent(lane, number)

    def _reply(self, lane: Lane, message: Message) -> bool:
        """Whether a reply was sent, or dropped; False when it must wait."""
        channel = CHANNELS[lane]
        frames = [DELIMITER, self._signer.sign(message.parts), *message.parts]
        sent = self._sockets.send(channel, [*message.identities[-1:], *frames])
        if not sent and self._claimed:
            if self._heir is None:
                return False  # `meet` goes on
            sent = self._sockets.send(channel, [self._heir, *frames])
        self._sockets.look_again(channel)
        return sent or not self._is_awaited(lane)

    def _is_awaited(self, lane: Lane) -> bool:
        """Whether an absent client may still come; if so, it is tried again soon."""
        now = self._loop.time()
        if lane is Lane.STDIN and now > self._give_up + 2 * _RETRY:  # a new prompt, not one that was tried till now
            self._give_up = now + _ABSENT
        if now > self._give_up:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_RETRY, self._send)
        return True
