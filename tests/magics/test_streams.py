"""Streams over a command: what it says when it fails, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from remote_gpu.errors import AccessRefused, BadFrame, LinkProblem, SessionEnded, VersionMismatch
from remote_gpu.frames import Frame, Kind
from remote_gpu.streams import CommandStream

CAT = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer.raw, sys.stdout.buffer.raw)"


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


async def failing(code, kind, words, **options):
    with pytest.raises(kind, match=words) as caught:
        await CommandStream.open(python(code), None, "/", **options)
    return caught.value


async def test_a_command_that_is_not_there_is_named():
    with pytest.raises(LinkProblem, match="/no/such/thing cannot be run"):
        await CommandStream.open(["/no/such/thing"], {}, "/")


async def test_an_early_exit_quotes_the_commands_own_words():
    await failing("import sys; sys.exit('Host bristol: no route')", LinkProblem, r"exit status 1\. It said: Host bristol: no route")


async def test_a_session_that_is_gone_is_not_a_network_problem():
    await failing("import sys; print('There is no session x.', file=sys.stderr); sys.exit(3)", SessionEnded, "There is no session x")


async def test_a_refused_login_is_told_apart():
    code = "import sys; print('me@host: Permission denied (publickey).', file=sys.stderr); sys.exit(255)"
    await failing(code, AccessRefused, "Permission denied")


async def test_a_command_that_prints_something_else_is_quoted():
    await failing("print('usage: what?')", LinkProblem, "usage: what")
    await failing("print('x' * 100000, flush=True); import time; time.sleep(60)", BadFrame, "does not speak our protocol")


async def test_a_command_that_says_nothing_is_ended_after_its_time():
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.write(2, b'waiting for host'); time.sleep(60)"
    error = await failing(code, LinkProblem, "said nothing for 0.5 s", timeout=0.5)
    assert "waiting for host" in str(error)


async def test_another_version_is_said():
    await failing(r"import os; os.write(1, b'\0JRG\x09\x09\r\n'); import time; time.sleep(60)", VersionMismatch, "9 to 9")


async def test_a_banner_before_the_preamble_is_skipped():
    stream = await CommandStream.open(python(f"print('Welcome to the cluster', flush=True)\n{CAT}"), None, "/")
    await stream.send([Frame(Kind.PING, number=7)])
    assert [frame.number for frame in await stream.receive()] == [7]
    await stream.aclose()


async def test_the_environment_is_exactly_what_was_given(monkeypatch):
    monkeypatch.setenv("CANARY", "secret")
    await failing("import os, sys; sys.exit(os.environ['CANARY'])", LinkProblem, "It said: secret")
    with pytest.raises(LinkProblem) as caught:
        await CommandStream.open(python("import os, sys; sys.exit(repr(os.environ))"), {"A": "1"}, "/")
    assert "'A': '1'" in str(caught.value)
    assert "CANARY" not in str(caught.value)


async def test_a_killed_command_is_told_to_the_receiver_and_reaped():
    before = descriptors()
    stream = await CommandStream.open(python(CAT), None, "/")
    os.kill(stream.pid, signal.SIGKILL)
    with pytest.raises(LinkProblem, match="exit status -9"):
        await stream.receive()
    await stream.aclose()
    with pytest.raises(ChildProcessError):
        os.waitpid(stream.pid, os.WNOHANG)
    assert descriptors() == before


async def test_closing_ends_a_command_that_ignores_everything_together_with_its_children():
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b'\\0JRG\\x01\\x01\\r\\n')
os.fork()
time.sleep(60)
"""
    stream = await CommandStream.open(python(code), None, "/")
    group = stream.pid
    await stream.aclose()
    async with asyncio.timeout(5):
        while _group_lives(group):
            await asyncio.sleep(0.01)


def _group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return any(_state(pid) not in {"Z", ""} and _group(pid) == group for pid in os.listdir("/proc") if pid.isdigit())


def _stat(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid):
    return (_stat(pid) or [""])[0]


def _group(pid):
    found = _stat(pid)
    return int(found[2]) if found else 0


async def test_many_streams_leave_no_descriptor():
    before = descriptors()
    for _ in range(5):
        stream = await CommandStream.open(python(CAT), None, "/")
        await stream.send([Frame(Kind.PING)])
        await stream.aclose()
    assert descriptors() == before


async def test_what_was_sent_before_closing_arrives():
    path = "/tmp/" + os.urandom(6).hex()
    code = f"import sys, shutil; sys.stdout.buffer.raw.write(sys.stdin.buffer.raw.read(8)); shutil.copyfileobj(sys.stdin.buffer.raw, open({path!r}, 'wb'))"
    stream = await CommandStream.open(python(code), None, "/")
    try:
        await stream.send([Frame(Kind.DATA, payload=b"x" * 200_000)] * 3)
        await stream.aclose()
        assert os.path.getsize(path) == 3 * 200_016
    finally:
        os.unlink(path)
