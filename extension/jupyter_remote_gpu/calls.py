"""Questions to the supervisor that wait for their answer, through any number of streams."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from remote_gpu.errors import LinkProblem, RemoteGpuError, from_problem
from remote_gpu.frames import Frame, Kind, encode_json

__all__ = ["Answer", "Calls"]

Answer = asyncio.Future[dict[str, Any]]


class Calls:
    """The CALLs of one link. Methods are idempotent, so a call is sent again on each new stream until it is answered."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Frame, Answer]] = {}

    async def ask(self, method: str, params: Mapping[str, Any], limit: float, put: Callable[[Frame], None]) -> dict[str, Any]:
        """`put` the call on the present stream and wait for its answer; raises the supervisor's error, or `LinkProblem` after `limit` s."""
        with self.open(method, params) as (frame, future):
            put(frame)
            try:
                async with asyncio.timeout(limit):
                    return await future
            except TimeoutError as error:
                raise LinkProblem(f"The session did not answer {method!r} within {limit:g} s.") from error

    @contextmanager
    def open(self, method: str, params: Mapping[str, Any]) -> Iterator[tuple[Frame, Answer]]:
        """A new call: its frame, and where the answer will be; forgotten at the end of the block."""
        key = secrets.token_hex(8)  # the supervisor knows a repeated call by it, whichever gateway sends it
        frame = encode_json(Kind.CALL, {"id": key, "method": method, "params": dict(params)})
        answer: Answer = asyncio.get_running_loop().create_future()
        self._open[key] = (frame, answer)
        try:
            yield frame, answer
        finally:
            self._open.pop(key, None)

    @property
    def waiting(self) -> bool:
        """Whether an answer is to come."""
        return any(not answer.done() for _, answer in self._open.values())

    def frames(self) -> list[Frame]:
        """What is to be sent on a new stream."""
        return [frame for frame, _ in self._open.values()]

    def on_result(self, result: Mapping[str, Any]) -> None:
        """A RESULT came; one that nobody waits for any more is ignored."""
        _, answer = self._open.get(str(result.get("id")), (None, None))
        if answer is None or answer.done():
            return
        if "error" in result:
            answer.set_exception(from_problem(result["error"]))
        else:
            answer.set_result(result.get("result") or {})

    def fail(self, problem: RemoteGpuError) -> None:
        """No answer will come."""
        for _, answer in self._open.values():
            if not answer.done():
                answer.set_exception(problem)
