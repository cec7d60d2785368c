"""Neither the server's token nor a gateway's secret is in a log, a command line or a file that others need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.server import TOKEN, running_server

from remote_gpu.discovery import find_gateway, find_or_start_gateway, headless_log
from remote_gpu.gateway import Gateway


def command_lines() -> dict[int, bytes]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def files_with(needle: str, *folders: Path) -> list[Path]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if needle.encode() in path.read_bytes()]


def test_a_headless_gateway_writes_no_token_and_no_secret_from_its_start_to_its_end(places, wait_until):
    record = find_or_start_gateway()
    with Gateway(record) as gateway:
        session = gateway.start_session(name="digits", wait=60)
        gateway.attach(session.id)
        with pytest.raises(Exception, match="no remote session"):
            gateway.session("other")
        assert not [pid for pid, line in command_lines().items() if record.secret.encode() in line]
        assert files_with(record.secret, places.base) == [record.file]
        gateway.stop_session(session.id)
    os.kill(record.pid, signal.SIGTERM)
    assert wait_until(lambda: find_gateway() is None and not record.socket.exists(), 20)
    said = headless_log().read_text()
    assert "ready" in said
    assert "token" not in said
    assert "http" not in said
    assert record.secret not in said


async def test_a_servers_token_and_secret_are_in_no_command_line_and_no_file_of_ours(places):
    async with running_server(places.base) as server:
        await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
        await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})
        for secret in (TOKEN, server.parts.secret):
            assert not [pid for pid, line in command_lines().items() if secret.encode() in line]
        assert files_with(TOKEN, places.folder, server.parts.registry.path.parent) == []
        (record,) = files_with(server.parts.secret, places.base)
        assert record.stat().st_mode & 0o777 == 0o600
        assert server.parts.secret not in json.dumps((await server.tcp("GET", "/remote-gpu")).json)
        await server.unix("DELETE", "/remote-gpu/sessions/digits")


def test_what_the_command_line_prints_holds_no_secret(places):
    record = find_or_start_gateway()
    for verb in (["doctor"], ["clusters", "--json"], ["sessions", "--json"]):
        done = subprocess.run([sys.executable, "-m", "jupyter_remote_gpu", *verb], capture_output=True, text=True, timeout=90)
        assert done.stdout
        assert record.secret not in done.stdout + done.stderr
