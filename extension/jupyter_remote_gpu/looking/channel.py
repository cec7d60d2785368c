"""Runs a program on a host that may have nothing but a shell: over a login, by a channel of its own, with what it prints handed on line by line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from jupyter_remote_gpu.clusters import openssh
from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.clusters.prologue import failure, with_prologue

__all__ = ["Said", "run_program"]

_LINE_LIMIT = 1 << 20
_KEPT = 8192
_LEAVE = 3.0  # seconds that an ssh has to end
_LOST = 255
"""The exit status of ssh(1) itself, when it has no connection."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program printed, and how it ended; `status` None: it was ended at its limit."""

    out: str
    err: str
    status: int | None


async def run_program(
    login: Login, program: str, *, prologue: Sequence[str] = (), limit: float, heard: Callable[[str], None] = lambda _: None
) -> Said:
    """Run `program` (see `programs`) in a ``sh`` on the login's host, after the lines of `prologue`.

    `heard` gets each line as it comes. Asks nobody. Whatever ends this call ends the program over there, too. Raises
    `StartFailed` for a line of the prologue that fails, and `LinkProblem` when the host is not reached (any more).
    """
    path = await login.ensure()
    argv = openssh.channel(login.host, path, with_prologue(prologue, ["sh", "-s"]))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=login.environment, cwd="/", limit=_LINE_LIMIT, start_new_session=True
    )
    lines: list[str] = []
    errors = asyncio.create_task(_tail(process.stderr))
    try:
        async with asyncio.timeout(limit):
            await _put(process, program)
            async for line in _lines(process.stdout):
                lines.append(line)
                heard(line)
            status: int | None = await process.wait()
            said = await errors
    except TimeoutError:
        status, said = None, ""
    finally:
        await _end(process)
        errors.cancel()
    if (failed := failure(said, login.host)) is not None:
        raise failed
    if status == _LOST:
        raise openssh.problem(login.host, said)
    return Said("\n".join(lines), said, status)


async def _put(process: asyncio.subprocess.Process, text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):  # what it says on its way out tells more
            process.stdin.write(text.encode())
            await process.stdin.drain()


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    while stream is not None:
        try:
            line = await stream.readline()
        except ValueError:  # longer than any line of ours
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip("\r\n")


async def _tail(stream: asyncio.StreamReader | None) -> str:
    kept = b""
    while stream is not None and (data := await stream.read(_KEPT)):
        kept = (kept + data)[-_KEPT:]
    return kept.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close what it reads; an ssh that does not end by that is ended."""
    if process.stdin is not None:
        process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None and number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE):
                await process.wait()
                break
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
