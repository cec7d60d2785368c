"""A gateway in this process whose clusters are the lab's, and clients of its sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.client import Client

from jupyter_remote_gpu.gateway import GatewayParts, build
from jupyter_remote_gpu.live import Terms
from jupyter_remote_gpu.models import AllocationState, ResourceRequest, Session
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish

__all__ = ["Cell", "attached", "gateway", "running", "started", "until"]


@contextlib.asynccontextmanager
async def gateway(folder: Path, clusters: Mapping[str, Any], **settings: Any) -> AsyncIterator[GatewayParts]:
    """The gateway; at the end all its sessions are stopped and its logins ended."""

    async def notebook_of(_: str) -> None:
        return None

    whole = Settings(clusters=clusters, data_folder=folder / "d", **settings)
    parts = build(whole, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of)
    try:
        yield parts
    finally:
        await asyncio.gather(*(parts.sessions.stop(session.id) for session in parts.registry.sessions()))
        for login in parts.logins.all():
            await login.end()
        await parts.aclose()


async def started(parts: GatewayParts, name: str, cluster: str, **request: Any) -> Session:
    """A new session, as it is right after it was asked for."""
    session, is_new = await parts.sessions.start(Wish(name=name, cluster=cluster, request=ResourceRequest(**request)))
    assert is_new
    return session


async def until(parts: GatewayParts, key: str, *states: AllocationState, seconds: float = 90, detail: str = "") -> Session:
    """The session once it is in one of `states` and its detail has `detail`."""
    seen: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await parts.sessions.get(key)
                if found.detail not in seen[-1:]:
                    seen.append(found.detail)
                if found.state in states and detail in found.detail:
                    return found
                await parts.sessions.wait(key, found.stamp, 1)
    except TimeoutError:
        raise AssertionError(f"{key} is {found.state}, not {states} with {detail!r}; it said {seen}") from None


async def running(parts: GatewayParts, name: str, cluster: str, **request: Any) -> Session:
    """A session that runs."""
    session = await started(parts, name, cluster, **request)
    return await until(parts, session.id, AllocationState.RUNNING)


@dataclass
class Cell:
    """What a cell said: its text on both streams, its reply, and whether its kernel was said to be dead."""

    out: str = ""
    err: str = ""
    status: str = ""
    evalue: str = ""
    dead: str = ""
    numbers: list[int] = field(default_factory=list)

    @property
    def why(self) -> str:
        """What was said of its end, by its kernel's supervisor in its place or by the gateway."""
        return self.dead + self.evalue


class Attached:
    """A client at a front."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def send(self, code: str) -> str:
        """Ask for a cell to be run."""
        content = {
            "code": code,
            "silent": False,
            "store_history": False,
            "allow_stdin": False,
            "user_expressions": {},
            "stop_on_error": True,
        }
        return await self._client.send("shell", "execute_request", content)

    async def run(self, code: str, *, limit: float = 60, msg_id: str = "") -> Cell:
        """Run a cell to its end, or to that of its kernel."""
        msg_id, cell = msg_id or await self.send(code), Cell()
        async with asyncio.timeout(limit):
            while True:
                message = await self._client.receive("iopub", limit)
                content, kind = message["content"], message["msg_type"]
                if kind == "status" and content["execution_state"] == "dead":
                    cell.dead = content["remote_gpu"]["text"]
                    return cell
                if kind == "stream" and not message["parent_header"].get("msg_id"):
                    cell.err += content["text"]
                if message["parent_header"].get("msg_id") != msg_id:
                    continue
                cell.numbers.append(int(message["topic"].partition(b".")[2]))
                if kind == "stream":
                    name = "out" if content["name"] == "stdout" else "err"
                    setattr(cell, name, getattr(cell, name) + content["text"])
                elif kind == "status" and content["execution_state"] == "idle":
                    break
            while (reply := await self._client.receive("shell", limit))["parent_header"]["msg_id"] != msg_id:
                continue
        cell.status, cell.evalue = reply["content"]["status"], reply["content"].get("evalue", "")
        return cell


@contextlib.asynccontextmanager
async def attached(parts: GatewayParts, key: str) -> AsyncIterator[Attached]:
    """A client of a session."""
    attachment, session = await parts.sessions.attach(key, Terms())
    client = Client(attachment.front.connection_info)
    try:
        yield Attached(client)
    finally:
        client.close()
        await parts.sessions.detach(session.id, attachment.id)
