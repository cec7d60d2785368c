"""The test cell, run in a session by a client of its own, as any Jupyter client would: through a front."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient

from jupyter_remote_gpu.live import Terms
from jupyter_remote_gpu.models import Session
from jupyter_remote_gpu.sessions import Sessions
from remote_gpu.errors import KernelDied, StartTimedOut

__all__ = ["Cell", "run_cell"]

_MARK = "JRG-CELL "
_KERNEL, _CELL = 120.0, 60.0  # seconds that the kernel has to answer, and the cell
_ROUNDS = 5

Step = Callable[[str, str], AbstractContextManager[None]]
"""(name, sentence) → what times whatever is done within."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What `node_look` saw, and the median time of a round trip with a cell that does nothing."""

    seen: dict[str, Any]
    round_trip_ms: float


async def run_cell(sessions: Sessions, session: Session, scratch: str, step: Step) -> Cell:
    """Run it; its steps are ``kernel`` (until it answers) and ``cell`` (until its output is there).

    Raises `StartTimedOut` when nothing answers in time, `KernelDied` with the cell's own words, `LinkProblem`.
    """
    async with AsyncExitStack() as stack:
        with step("kernel", f"It runs on {session.allocation.node or session.cluster}; waiting for its kernel."), _in_time(session):
            client = await stack.enter_async_context(_client(sessions, session))
            await client.kernel_info(reply=True, timeout=_KERNEL)
        with step("cell", "Running a cell."), _in_time(session):
            printed = await _run(client, _text(scratch))
        seen = next(json.loads(line.removeprefix(_MARK)) for line in printed.splitlines() if line.startswith(_MARK))
        times = []
        with _in_time(session):
            for _ in range(_ROUNDS):
                began = time.perf_counter()
                await _run(client, "pass")
                times.append(time.perf_counter() - began)
        return Cell(seen, round(1000 * statistics.median(times), 1))


@asynccontextmanager
async def _client(sessions: Sessions, session: Session) -> AsyncIterator[AsyncKernelClient]:
    attachment, _ = await sessions.attach(session.id, Terms(name="test"))
    client = AsyncKernelClient()
    try:
        client.load_connection_file(str(attachment.front.connection_file))
        client.start_channels()
        yield client
    finally:
        client.stop_channels()
        await sessions.detach(session.id, attachment.id)


@contextmanager
def _in_time(session: Session) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        message = f"The kernel of the test's session on {session.cluster} did not answer in time."
        raise StartTimedOut(message, hint=f"`jupyter remote-gpu logs {session.name}` may say why.") from error


async def _run(client: AsyncKernelClient, code: str) -> str:
    """What `code` prints. Raises `KernelDied` with its error."""
    printed: list[str] = []

    def shown(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = await client.execute_interactive(code, store_history=False, allow_stdin=False, timeout=_CELL, output_hook=shown)
    content = reply["content"]
    if content["status"] != "ok":
        message = f"The test cell failed: {content.get('ename')}: {content.get('evalue')}."
        raise KernelDied(message, hint="Is the Python there a sound one?")
    return "".join(printed)


def _text(scratch: str) -> str:
    own = Path(__file__).with_name("node_look.py").read_text(encoding="utf-8")
    return f"{own}\nprint({_MARK!r} + node_look({scratch!r}))"
