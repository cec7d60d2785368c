"""Runs the commands of a cluster: an argument vector, never a shell; a time limit; an error in the command's own words.

A node command prints one line ``JRG {json}`` among whatever a login shell prints. Its answer counts as soon as that
line is there. A command that outlives its limit is ended with its whole process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from remote_gpu.errors import StartFailed, StartTimedOut, from_problem

__all__ = ["ANSWER", "answer_in", "answer_of", "ask", "redact", "words"]

ANSWER = b"JRG "
"""What a node command's line of answer begins with."""

_LINE_LIMIT = 1 << 20
_TAIL = 4000
_EXIT_LIMIT = 5.0
_SECRET = re.compile(
    r"(?i)\b((?:\w*(?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|authorization|credential)\w*)[\"']?\s*[=:]\s*)"
    r"(?:(?:bearer|basic|token)\s+)?[^\s,;\"']+",
)


async def ask(
    argv: Sequence[str],
    *,
    step: str,
    env: Mapping[str, str],
    question: Mapping[str, Any] | None = None,
    timeout: float,  # noqa: ASYNC109  the limit of the command, whose process group must be ended with it
) -> dict[str, Any]:
    """Run `argv` with `question` as JSON on its stdin; returns the object of its ``JRG`` line.

    `step` names it in errors: "Starting the session". Raises the error that the answer describes, `StartTimedOut`
    after `timeout` seconds, and `StartFailed` when there is no such command or no answer.
    """
    process = await _spawn(argv, step, env)
    patience = 0.0
    try:
        async with asyncio.timeout(timeout):
            answer, noise, errors = await _converse(process, question)
        patience = _EXIT_LIMIT
    except TimeoutError as error:
        message = f"{step} took longer than {timeout:g} s and was ended: {words(argv)}"
        raise StartTimedOut(message, hint="The machine may be overloaded, or the command waits for an answer.") from error
    finally:
        await _end(process, patience)
    if answer is None:
        raise _no_answer(argv, step, process.returncode, noise, errors)
    return _checked(answer)


def answer_of(argv: Sequence[str], step: str, status: int | None, out: str, err: str) -> dict[str, Any]:
    """The object of the ``JRG`` line in what a command printed; raises as `ask` does."""
    for line in out.splitlines():
        if (answer := answer_in(line.encode())) is not None:
            return _checked(answer)
    raise _no_answer(argv, step, status, out[-_TAIL:], err[-_TAIL:])


def answer_in(line: bytes) -> dict[str, Any] | None:
    """The object of a ``JRG`` line, None for any other line."""
    position = line.find(ANSWER)
    if position >= 0:
        with contextlib.suppress(ValueError):
            value = json.loads(line[position + len(ANSWER) :])
            if isinstance(value, dict):
                return value
    return None


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer.get("ok", True):
        raise from_problem(answer.get("problem") or {})
    return answer


async def _spawn(argv: Sequence[str], step: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(env), limit=_LINE_LIMIT, start_new_session=True, cwd="/"
        )
    except OSError as error:
        message = f"{step} failed: cannot run {argv[0]!r}: {error.strerror}."
        raise StartFailed(message, hint="Is the path of the command right?", step=step) from error


async def _converse(process: asyncio.subprocess.Process, question: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str, str]:
    errors = asyncio.create_task(_tail(process.stderr))
    try:
        await _put(process.stdin, question)
        answer, noise = await _read_answer(process.stdout)
        if answer is not None:
            return answer, noise, ""
        return None, noise, await errors
    finally:
        errors.cancel()


async def _put(stdin: asyncio.StreamWriter | None, question: Mapping[str, Any] | None) -> None:
    if stdin is None:
        return
    with contextlib.suppress(ConnectionError):  # it ended without reading; what it printed says why
        if question is not None:
            stdin.write(json.dumps(question).encode() + b"\n")
            await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _read_answer(stdout: asyncio.StreamReader | None) -> tuple[dict[str, Any] | None, str]:
    noise: list[bytes] = []
    while stdout is not None:
        try:
            line = await stdout.readline()
        except ValueError:  # a line beyond the limit is not ours; the stream goes on behind it
            continue
        if not line:
            break
        if (value := answer_in(line)) is not None:
            return value, _text(noise)
        noise = [*noise[-40:], line]
    return None, _text(noise)


async def _tail(stream: asyncio.StreamReader | None) -> str:
    kept = b""
    while stream is not None and (data := await stream.read(65536)):
        kept = (kept + data)[-_TAIL:]
    return kept.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process, patience: float) -> None:
    """Wait `patience` seconds for the end of a command; kill its group when it does not come."""
    if process.returncode is None and patience:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


def _no_answer(argv: Sequence[str], step: str, code: int | None, noise: str, errors: str) -> StartFailed:
    said = redact("\n".join(text for text in (noise.strip(), errors.strip()) if text))
    ending = f"ended with status {code}" if code else "ended without an answer"
    message = f"{step} failed: {words(argv)} {ending}" + (f" and said:\n{said}" if said else ", without a word.")
    return StartFailed(message, step=step, status=code)


def _text(lines: Sequence[bytes]) -> str:
    return b"".join(lines)[-_TAIL:].decode(errors="replace")


def words(argv: Sequence[str]) -> str:
    """A command as a user would type it, without what looks like a secret."""
    return redact(shlex.join(argv))


def redact(text: str) -> str:
    """`text` with the values of what is named like a secret replaced by an ellipsis."""
    return _SECRET.sub(r"\1…", text)
