"""Every hop between the kernel and its client, stopped for five seconds while 20,000 displays pass: none is lost.

Rule 1 of the wire: a default PUB or SUB drops without a word when the other side stalls.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from tests.fakes.client import Client

from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.gateway import Gateway

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(180)]
DISPLAYS = 20_000
STALL = 5.0
CELL = f"from IPython.display import display, JSON\nfor n in range({DISPLAYS}): display(JSON({{'n': n}}))"


@pytest.fixture(scope="module")
def gateway(module_places):
    with Gateway(find_or_start_gateway()) as gateway:
        yield gateway


@asynccontextmanager
async def client_of(gateway, name):
    """(the session, a client on a front of its own)."""
    session = await asyncio.to_thread(gateway.start_session, name=name)
    attachment = await asyncio.to_thread(gateway.attach, session.id)
    info = json.loads(Path(attachment.connection_file).read_text())
    client = Client({**info, "key": info["key"].encode()})
    try:
        yield session, client
    finally:
        client.close()
        await asyncio.to_thread(gateway.stop_session, session.id)


def attach_process(session_id: str) -> int:
    """The pid of the command that carries the session's stream."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if "attach" in words and session_id in words:
            return int(process.info["pid"])
    raise AssertionError("no attach command runs")


def stalled(hop: str, gateway: Gateway, session_id: str, supervisor: int) -> int:
    """The process to stop; 0 = the client itself, which then reads nothing."""
    return {
        "the supervisor": lambda: supervisor,
        "the attach command": lambda: attach_process(session_id),
        "the gateway": lambda: gateway.record.pid,
        "the client": lambda: 0,
    }[hop]()


@pytest.mark.parametrize("hop", ["the supervisor", "the attach command", "the gateway", "the client"])
async def test_a_stalled_hop_loses_none_of_20000_displays(gateway, hop):
    async with client_of(gateway, hop.replace(" ", "-")) as (session, client):
        supervisor = await _printed(client, "import os; print(os.getppid())")
        pid = stalled(hop, gateway, session.id, int(supervisor))
        msg_id = await client.send("shell", "execute_request", {"code": CELL, "silent": False, "store_history": False})
        first = await _next_display(client, msg_id)
        if pid:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(STALL)  # this is the stall itself, not a wait for something to happen
        if pid:
            os.kill(pid, signal.SIGCONT)
        numbers = [first, *[await _next_display(client, msg_id) for _ in range(DISPLAYS - 1)]]
        assert numbers == list(range(DISPLAYS))


async def _printed(client, code):
    msg_id = await client.send("shell", "execute_request", {"code": code, "silent": False, "store_history": False})
    while True:
        message = await client.receive("iopub")
        if message["msg_type"] == "stream" and message["parent_header"]["msg_id"] == msg_id:
            return message["content"]["text"]


async def _next_display(client, msg_id):
    while True:
        message = await client.receive("iopub", 60)
        if message["msg_type"] == "display_data" and message["parent_header"]["msg_id"] == msg_id:
            return message["content"]["data"]["application/json"]["n"]
