"""The real supervisor and a real kernel, while the attach process is killed again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import sys
from contextlib import asynccontextmanager

from tests.fakes.client import Client

from jupyter_remote_gpu.front import Front
from jupyter_remote_gpu.link import Link
from remote_gpu.folders import node_folder
from remote_gpu.streams import CommandStream

CUTS = 50
LINES = 20_000
CELL = f"""
from IPython.display import display
import time
handle = display("start", display_id=True)
for number in range({LINES}):
    print(number)
    if number % 100 == 99:
        handle.update(str(number))
        time.sleep(0.02)
"""
COMM = """
import comm
def opened(here, message):
    here.on_msg(lambda message: here.send({"echo": message["content"]["data"]}))
get_ipython().kernel.comm_manager.register_target("echo", opened)
"""


async def _node(verb, *words, question=None):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remote_gpu.node", verb, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate(json.dumps(question).encode() if question else b"")
    line = next(line for line in answer.decode().splitlines() if line.startswith("JRG "))
    return json.loads(line[4:])


@asynccontextmanager
async def session():
    """(a link to a real session, the streams that it opened)."""
    sid = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(10))
    question = {"session": sid, "env": {}, "cwd": None, "idle_timeout": 60, "unattended_timeout": 60, "journal_limit": 1 << 28}
    answer = await _node("start", question=question)
    assert answer["ok"], answer
    streams = []

    async def open_stream():
        stream = await CommandStream.open([sys.executable, "-m", "remote_gpu.node", "attach", sid], dict(os.environ), "/")
        streams.append(stream)
        return stream

    link = Link(open_stream, on_event=lambda _: None, on_state=lambda *_: None)
    try:
        await link.start()
        yield link, streams
    finally:
        await link.aclose()
        await _node("stop", sid)


async def run(client, code):
    """The iopub messages of one cell, until it is idle, and its reply."""
    msg_id = await client.send(
        "shell",
        "execute_request",
        {"code": code, "silent": False, "store_history": False, "allow_stdin": True, "user_expressions": {}, "stop_on_error": True},
    )
    messages = []
    while True:
        message = await client.receive("iopub", 60)
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        messages.append(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    return messages, await reply_to(client, msg_id)


async def reply_to(client, msg_id):
    while True:
        reply = await client.receive("shell", 60)
        if reply["parent_header"]["msg_id"] == msg_id:
            return reply["content"]


async def _kill_again_and_again(streams, chance):
    killed = 0
    while killed < CUTS:
        known = len(streams)
        await asyncio.sleep(chance.uniform(0, 0.05))
        os.kill(streams[-1].pid, signal.SIGKILL)
        killed += 1
        while len(streams) == known:
            await asyncio.sleep(0.002)


async def test_fifty_kills_of_the_attach_process_lose_and_double_nothing():
    async with session() as (link, streams):
        front = await Front.open(link, id="cutsfrnt", folder=node_folder("f") / "cutsfrnt", after=0)
        client = Client(front.connection_info)
        try:
            await _survives(client, streams)
        finally:
            client.close()
            await front.aclose()


async def _survives(client, streams):
    killer = asyncio.create_task(_kill_again_and_again(streams, random.Random(7)))
    lines, updates, replies = [], [], []
    while not killer.done() or not replies:
        messages, reply = await run(client, CELL)
        text = "".join(message["content"]["text"] for message in messages if message["msg_type"] == "stream")
        lines.append(text.split())
        updates.append([message["content"]["data"] for message in messages if message["msg_type"] == "update_display_data"])
        replies.append(reply["status"])
        numbers = [int(message["topic"].partition(b".")[2]) for message in messages]
        assert numbers == sorted(set(numbers))
    await killer
    for had, shown in zip(lines, updates, strict=True):
        assert had == [str(number) for number in range(LINES)]
        assert len(shown) == LINES // 100
    assert set(replies) == {"ok"}
    await _counts_once(client, streams)
    await _asks(client)
    await _is_interrupted(client)
    await _talks_by_comm(client)


async def _counts_once(client, streams):
    await run(client, "count = 0")
    for _ in range(5):
        os.kill(streams[-1].pid, signal.SIGKILL)
        assert (await run(client, "count += 1"))[1]["status"] == "ok"
    messages, _ = await run(client, "print(count)")
    assert [message["content"]["text"] for message in messages if message["msg_type"] == "stream"] == ["5\n"]


async def _asks(client):
    asked = asyncio.create_task(run(client, "print(input('name?'))"))
    prompt = await client.receive("stdin")
    assert prompt["content"]["prompt"] == "name?"
    await client.send("stdin", "input_reply", {"value": "Ada"})
    messages, _ = await asked
    assert [message["content"]["text"] for message in messages if message["msg_type"] == "stream"] == ["Ada\n"]


async def _is_interrupted(client):
    cell = asyncio.create_task(run(client, "print('on', flush=True)\nimport time\ntime.sleep(60)"))
    await asyncio.sleep(0.3)
    await client.send("control", "interrupt_request", {})
    _, reply = await cell
    assert reply["ename"] == "KeyboardInterrupt"


async def _talks_by_comm(client):
    await run(client, COMM)
    await client.send("shell", "comm_open", {"comm_id": "c1", "target_name": "echo", "data": {}})
    await client.send("shell", "comm_msg", {"comm_id": "c1", "data": {"n": 1}})
    while True:
        message = await client.receive("iopub")
        if message["msg_type"] == "comm_msg":
            assert message["content"]["data"] == {"echo": {"n": 1}}
            return
