"""One session's resumable link: many attachments over one stream of frames at a time, made whole again after each cut.

`docs/reference/link-protocol.md` is the specification. Three tasks serve a stream (read, write, keep alive); when one
of them fails, the stream is given up and `open_stream` is asked for the next, at once and then later and later. What
waits, what was written and not taken, and what came already is kept per attachment (`lanes`), so nothing is lost and
nothing comes twice. Only errors that trying again cannot mend make the link LOST: the session is over, the two ends
speak different versions, or the login was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from jupyter_remote_gpu.backoff import Backoff
from jupyter_remote_gpu.calls import Calls
from jupyter_remote_gpu.decision import Decision
from jupyter_remote_gpu.keepalive import KeepAlive
from jupyter_remote_gpu.lanes import Deliver, LinkAttachment, Table
from jupyter_remote_gpu.models import LinkState
from remote_gpu import errors
from remote_gpu.errors import LinkProblem, RemoteGpuError
from remote_gpu.frames import Assembler, Frame, Kind, Lane, unpack_message
from remote_gpu.streams import FrameStream, close_surely

__all__ = ["Deliver", "Link", "LinkAttachment"]

_FINAL = (errors.SessionEnded, errors.UnknownSession, errors.VersionMismatch, errors.AccessRefused)
_BATCH = 256 * 1024  # bytes handed to the stream at once; an urgent message waits for no more than these and its buffer
_LAST_WORDS = 1.0  # seconds that a detaching client's messages have to leave, and a leaving node's to be read


class Link:
    """A session's resumable link. `open_stream` gives a new stream or raises `RemoteGpuError`. `on_event` gets each EVENT, `on_state` each change of
    `state` with the reason in words. `ping_after` and `give_up_after` are seconds of silence, ours and the node's.
    """

    def __init__(
        self,
        open_stream: Callable[[], Awaitable[FrameStream]],
        *,
        on_event: Callable[[dict[str, Any]], None],
        on_state: Callable[[LinkState, str], None],
        backoff: Backoff | None = None,
        ping_after: float = 5.0,
        give_up_after: float = 20.0,
    ) -> None:
        self.state = LinkState.RECONNECTING
        self.kernel: dict[str, Any] | None = None
        """The kernel as the node last described it."""
        self._open_stream = open_stream
        self._on_event = on_event
        self._on_state = on_state
        self._backoff = backoff or Backoff()
        self._alive = KeepAlive(ping_after, give_up_after)
        self._attachments = Table()
        self._calls = Calls()
        self._urgent: deque[Frame] = deque()
        self._assembler = Assembler()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._again = asyncio.Event()
        self._problem: RemoteGpuError | None = None
        self._decision = Decision()
        self._waits = self._backoff.waits()
        self._fruitful = self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waits_for_login(self) -> bool:
        """Whether it is LOST because a login was refused: once that works, everything goes on."""
        return self.state is LinkState.LOST and isinstance(self._problem, errors.AccessRefused)

    async def start(self) -> None:
        """Connect; raises the first attempt's failure. From then on the link keeps itself connected."""
        stream = await self._open_stream()
        self._task = asyncio.create_task(self._run(stream), name="link")
        self._on_connected()

    async def attach(
        self,
        *,
        id: str,  # noqa: A002  the protocol's word
        role: str,
        after: int | None,
        deliver: Deliver,
        claims: Sequence[str] = (),
        received: Mapping[Lane, int] | None = None,
    ) -> LinkAttachment:
        """Attach a client; returns once the node has answered, in this stream or a later one.

        `after` is the last journal number of iopub that the client has (0: all, None: from now on), `received` those
        of its replies. Raises what the node answers (`NotAllowed`, …), or why the link is lost.
        """
        self._check()
        attachment = LinkAttachment(
            self._attachments.free_index(),
            id=id,
            role=role,
            after=after,
            claims=claims,
            received=dict(received or {}),
            deliver=deliver,
            poke=self._poke,
        )
        self._attachments.add(attachment)
        if self.state is LinkState.CONNECTED:
            self._put(attachment.hello())
        try:
            await attachment.attached
        except BaseException:
            await self.detach(attachment)
            raise
        return attachment

    async def detach(self, attachment: LinkAttachment) -> None:
        """End an attachment for good, after what it sent has left; harmless when it is gone."""
        if self._attachments.get(attachment.index) is not attachment:
            return
        await self._drained(attachment)
        self._attachments.forget(attachment)
        self._assembler.clear(attachment.index)
        if self.state is LinkState.CONNECTED:
            self._put(Frame(Kind.DETACH, Lane.CONTROL, attachment.index))
            await self._drained(None)

    def forget(self, attachment: LinkAttachment) -> None:
        """Stop serving an attachment without telling the node: its client will come back under the same id."""
        self._attachments.forget(attachment)
        self._assembler.clear(attachment.index)

    async def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30) -> dict[str, Any]:  # noqa: ASYNC109
        """Ask the supervisor; survives reconnections. Raises the supervisor's error, or `LinkProblem` after `timeout` seconds."""
        self._check()
        return await self._calls.ask(method, params or {}, timeout, self._put)

    def reconnect(self) -> None:
        """Try now: ends the present wait, and takes up a LOST link again. The caller knows that something changed."""
        self._again.set()

    async def take_up(self) -> None:
        """Try a LOST link again, and return once that is decided; raises why it is still not connected."""
        self.reconnect()
        await self._decision.wait()

    async def aclose(self) -> None:
        """Give up the stream and everything that waits; the session goes on. Idempotent."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._fail(LinkProblem("The gateway closed its link to the session."))

    # The life of streams

    async def _run(self, stream: FrameStream) -> None:
        current: FrameStream | None = stream
        while True:
            problem = await self._serve(current) if current is not None else self._problem
            current = None
            if isinstance(problem, _FINAL):
                self._lose(problem)
                self._again.clear()
                await self._again.wait()
            self._set_state(LinkState.RECONNECTING, str(problem))
            current = await self._reopen()

    async def _reopen(self) -> FrameStream | None:
        if self._fruitful:  # a stream that broke before it brought anything is one more failed attempt
            self._waits = self._backoff.waits()
        for wait in self._waits:
            self._again.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._again.wait()
            try:
                stream = await self._open_stream()
            except _FINAL as problem:
                self._problem = problem
                return None
            except RemoteGpuError as problem:
                self._decision.make(problem)
                self._on_state(self.state, str(problem))
            else:
                self._on_connected()
                return stream
        return None

    async def _serve(self, stream: FrameStream) -> RemoteGpuError:
        problem: RemoteGpuError = LinkProblem("The stream to the node ended.")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(stream))
                group.create_task(self._write(stream))
                group.create_task(self._alive.watch(self._put))
        except* RemoteGpuError as failures:
            problem = next(each for each in failures.exceptions if isinstance(each, RemoteGpuError))
        finally:
            self._idle.set()
            await close_surely(stream)
        if self._closing:  # a group that fails at the moment of its task's cancellation swallows it
            raise asyncio.CancelledError
        return problem

    def _on_connected(self) -> None:
        self._problem = None
        self._fruitful = False
        self._alive.begin()
        self._assembler.clear()
        self._urgent.clear()
        self._urgent.extend(self._attachments.hello())
        self._urgent.extend(self._calls.frames())
        self._wake.set()
        self._set_state(LinkState.CONNECTED, "")
        self._decision.make(None)

    def _lose(self, problem: RemoteGpuError) -> None:
        self._problem = problem
        self._set_state(LinkState.LOST, str(problem))
        self._fail(problem)

    def _fail(self, problem: RemoteGpuError) -> None:
        self._decision.make(problem)
        self._calls.fail(problem)
        self._attachments.end(problem)

    def _set_state(self, state: LinkState, detail: str) -> None:
        if state is not self.state or detail:
            self.state = state
            self._on_state(state, detail)

    def _check(self) -> None:
        if self.state is LinkState.LOST and self._problem is not None:
            raise self._problem
        if self._task is None or self._task.done():
            raise LinkProblem("The link to the session is closed.")

    # One stream

    async def _read(self, stream: FrameStream) -> None:
        while frames := await stream.receive():
            self._alive.heard()
            try:
                for frame in frames:
                    if frame.kind is Kind.DATA:
                        self._on_data(frame)
                    else:
                        self._on_other(frame)
            except (KeyError, TypeError, ValueError) as error:
                raise errors.BadFrame(f"The node sent a frame that this gateway cannot read: {error!r}.") from error
            if stream.holds_back and self._expects_more and not self._urgent and all(frame.kind is not Kind.DATA for frame in frames):
                self._put(Frame(Kind.PONG))  # it takes TCP's acknowledgement of these along
        raise LinkProblem("The stream to the node ended.")

    @property
    def _expects_more(self) -> bool:
        """Whether the node is to say something next: it was asked, or its kernel is busy."""
        busy = self.kernel is not None and self.kernel.get("state") == "busy"
        return busy or self._calls.waiting or self._attachments.waiting

    async def _write(self, stream: FrameStream) -> None:
        while True:
            frames = self._next_frames()
            if frames:
                try:
                    await stream.send(frames)
                except LinkProblem:
                    await asyncio.sleep(_LAST_WORDS)  # the reader ends first, with what the node said before it went
                    raise
                self._alive.sent()
                continue
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    def _next_frames(self) -> list[Frame]:
        frames = [*self._urgent, *self._attachments.acks()]
        self._urgent.clear()
        size = 0
        while size < _BATCH and (frame := self._attachments.next_data()) is not None:
            frames.append(frame)
            size += len(frame.payload)
        return frames

    def _on_data(self, frame: Frame) -> None:
        attachment = self._attachments.get(frame.attachment)
        if attachment is None:
            return
        body = self._assembler.feed(frame)
        if body is not None and attachment.is_new(frame.lane, frame.number):
            attachment.deliver.message(frame.lane, frame.number, unpack_message(body))

    def _on_other(self, frame: Frame) -> None:
        self._fruitful = self._fruitful or frame.kind is not Kind.EVENT
        if frame.kind is Kind.PING:
            self._put(Frame(Kind.PONG, number=frame.number))
        elif frame.kind is Kind.EVENT:
            self._on_kernel(frame.json())
        elif frame.kind is Kind.RESULT:
            self._calls.on_result(frame.json())
        elif frame.kind is Kind.BYE and frame.attachment == 0:
            raise errors.from_problem(frame.json())
        else:
            attachment = self._attachments.get(frame.attachment)
            if attachment is not None:
                self._on_attachment(attachment, frame)

    def _on_attachment(self, attachment: LinkAttachment, frame: Frame) -> None:
        if frame.kind is Kind.ACK:
            attachment.on_taken(frame.lane, frame.number)
        elif frame.kind is Kind.ATTACHED:
            attachment.on_attached(frame.json())
            self._wake.set()
        elif frame.kind is Kind.GAP:
            gap = frame.json()
            attachment.on_gap(int(gap["first"]), int(gap["last"]))
        elif frame.kind is Kind.BYE:
            self.forget(attachment)
            attachment.end(errors.from_problem(frame.json()))

    def _on_kernel(self, event: dict[str, Any]) -> None:
        if event.get("event", "kernel") == "kernel":
            self.kernel = {name: value for name, value in event.items() if name != "event"}
        self._on_event(event)

    # Small things

    def _put(self, frame: Frame) -> None:
        self._urgent.append(frame)
        self._poke()

    def _poke(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _drained(self, attachment: LinkAttachment | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while self.state is LinkState.CONNECTED and (not self._idle.is_set() or (attachment is not None and attachment.waits)):
                    self._idle.clear()
                    self._wake.set()
                    await self._idle.wait()
