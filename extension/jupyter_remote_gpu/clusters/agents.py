"""The gateway's end of an agent (`remote_gpu.node.agent`): lines of JSON to and from a command that runs on another machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from jupyter_remote_gpu.clusters.commands import answer_in
from jupyter_remote_gpu.clusters.machines import Done, Hello
from remote_gpu.errors import LinkProblem, RemoteGpuError, from_problem

__all__ = ["Agent", "boot_text"]

_LINE_LIMIT = 64 << 20
_PING_EVERY = 30.0
_GRACE = 10.0  # seconds beyond a command's own limit until its answer must be here
_NOISE = 4096
_LEAVE = 2.0


def boot_text() -> bytes:
    """The program that fetches the node's half and becomes the agent."""
    return Path(str(import_module("remote_gpu").__file__)).with_name("node").joinpath("boot.py").read_bytes()


class Agent:
    """One agent, open. It is over when its command is; `run` then raises `LinkProblem`."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, why: Callable[[str], RemoteGpuError], unused: float) -> None:
        self.hello: Hello | None = None
        self.heard = 0.0
        """When it last said something, by the loop's clock."""
        self._process = process
        self._name = name
        self._why = why
        self._unused = unused
        self._used = 0.0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._noise = b""
        self._ended = False
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        name: str,
        bundle: Callable[[], Awaitable[bytes]],
        why: Callable[[str], RemoteGpuError],
        limit: float,
        unused: float = float("inf"),
    ) -> Agent:
        """Run `argv`, which becomes an agent once it was given `boot_text` and, if it asks, the `bundle`; it ends when it was `unused` for seconds.

        `why` makes an error of what the command said on its way out. Raises that, what the machine says of itself, or `LinkProblem` after
        `limit` seconds.
        """
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(env), cwd="/", limit=_LINE_LIMIT, start_new_session=True
        )
        agent = cls(process, name, why, unused)
        try:
            async with asyncio.timeout(limit):
                await agent._begin(bundle)
        except TimeoutError as error:
            await agent.aclose()
            raise LinkProblem(f"{name} did not begin to answer within {limit:g} s.", hint="Is it overloaded? Try again.") from error
        except BaseException:
            await agent.aclose()
            raise
        return agent

    @property
    def ended(self) -> bool:
        """Whether it cannot be asked any more."""
        return self._ended or self._process.returncode is not None

    async def run(self, argv: Sequence[str], *, given: str, limit: float, env: Mapping[str, str] | None) -> Done:
        """Run a command over there. Raises `LinkProblem` when no answer comes."""
        self._used = asyncio.get_running_loop().time()
        answer = await self._ask({"run": list(argv), "given": given, "limit": limit, "env": dict(env or {})}, limit + _GRACE)
        return Done(answer["status"], str(answer["out"]), str(answer["err"]))

    async def appears(self, path: str, limit: float) -> bool:
        """Whether there is such a file within `limit` seconds; returns as soon as it is seen. Raises `LinkProblem` when no answer comes."""
        self._used = asyncio.get_running_loop().time()
        return bool((await self._ask({"await": path, "limit": limit}, limit + _GRACE))["there"])

    async def ping(self, limit: float) -> None:
        """Hear something of it. Raises `LinkProblem` after `limit` seconds."""
        await self._ask({}, limit)

    async def aclose(self) -> None:
        """End it."""
        self._end(LinkProblem(f"The connection to {self._name} was closed."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await self._process.wait()
                    break
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()

    async def _begin(self, bundle: Callable[[], Awaitable[bytes]]) -> None:
        self._tasks.append(asyncio.create_task(self._listen(), name=f"errors of the agent on {self._name}"))
        await self._put(boot_text())
        while self.hello is None:
            line = await self._line()
            if not line:
                await asyncio.wait(self._tasks, timeout=1)
                raise self._why(self._noise.decode(errors="replace"))
            answer = answer_in(line)
            if answer is None:
                self._noise = (self._noise + line)[-_NOISE:]
            elif "need" in answer:
                data = await bundle()
                await self._put(f"{len(data)}\n".encode() + data)
            elif "problem" in answer:
                raise from_problem(answer["problem"])
            else:
                self.hello = Hello.of(answer["hello"])
        self.heard = self._used = asyncio.get_running_loop().time()
        self._tasks += [asyncio.create_task(self._read(), name=f"agent on {self._name}"), asyncio.create_task(self._keep_alive())]

    async def _ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        if self.ended:
            raise LinkProblem(f"The connection to {self._name} is gone.")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit):
                await self._put(json.dumps({"id": number, **request}).encode() + b"\n")
                found: dict[str, Any] = await answer
        except TimeoutError as error:
            raise LinkProblem(f"{self._name} did not answer within {limit:g} s.") from error
        finally:
            del self._waiting[number]
        if "problem" in found:
            raise from_problem(found["problem"])
        return found

    async def _put(self, data: bytes) -> None:
        stdin = self._process.stdin
        if stdin is None:
            return
        try:
            stdin.write(data)
            await stdin.drain()
        except ConnectionError as error:
            await asyncio.wait(self._tasks, timeout=1)
            raise self._why(self._noise.decode(errors="replace")) from error

    async def _line(self) -> bytes:
        stdout = self._process.stdout
        return await stdout.readline() if stdout is not None else b""

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while line := await self._line():
            self.heard = loop.time()
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found = json.loads(line)
                waiting = self._waiting.get(found["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(found)
        self._end(self._why(self._noise.decode(errors="replace")))

    async def _listen(self) -> None:
        stderr = self._process.stderr
        while stderr is not None and (data := await stderr.read(_NOISE)):
            self._noise = (self._noise + data)[-_NOISE:]

    async def _keep_alive(self) -> None:
        while not self.ended:
            await asyncio.sleep(min(_PING_EVERY, self._unused))
            if asyncio.get_running_loop().time() - self._used > self._unused and not self._waiting:
                self._end(LinkProblem(f"The connection to {self._name} was not used and is closed."))
                if self._process.stdin is not None:
                    self._process.stdin.close()
                return
            with contextlib.suppress(RemoteGpuError):
                await self.ping(_PING_EVERY)

    def _end(self, problem: RemoteGpuError) -> None:
        self._ended = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(problem)
