"""Who ends a session, with a real supervisor: and that the gateway notices and says why."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from jupyter_client.asynchronous import AsyncKernelClient
from tests.fakes.server import Server, running_server

from remote_gpu import frames
from remote_gpu.discovery import process_start_time


async def until_over(server: Server, key: str) -> dict:
    async with asyncio.timeout(30):
        while (found := (await server.unix("GET", f"/remote-gpu/sessions/{key}?wait=5&seen=running")).json)["state"] == "running":
            pass
    return found


def supervisor(server: Server, key: str) -> int:
    return server.parts.registry.session(key).allocation.pid


async def test_a_session_whose_supervisor_is_killed_is_shown_as_ended_and_the_next_wish_starts_anew(places):
    async with running_server(places.base) as server:
        first = (await server.unix("POST", "/remote-gpu/sessions", {})).json
        os.kill(supervisor(server, first["id"]), signal.SIGKILL)
        ended = await until_over(server, first["id"])
        assert (ended["state"], ended["link"]) == ("ended", "lost")
        assert ended["detail"]
        second = await server.unix("POST", "/remote-gpu/sessions", {})
        assert (second.status, second.json["state"]) == (201, "running")
        assert second.json["id"] != first["id"]
        await server.unix("DELETE", f"/remote-gpu/sessions/{second.json['id']}")
        assert not [path for path in (places.folder / "s").iterdir() if path.name == second.json["id"]]


async def test_a_session_that_nobody_attached_to_ends_itself_and_the_gateway_says_so(places):
    async with running_server(places.base, idle_timeout=3) as server:
        session = (await server.unix("POST", "/remote-gpu/sessions", {})).json
        ended = await until_over(server, session["id"])
        assert (ended["state"], ended["detail"]) == ("ended", "Nobody used the session for 3 s.")
        assert not Path(session["folder"]).exists()
        assert not server.parts.sessions._live


async def test_a_server_that_stops_detaches_and_the_next_one_goes_on_with_the_same_kernel(places):
    async with running_server(places.base) as server:
        first = (await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})).json
        pid = supervisor(server, "digits")
    os.kill(pid, 0)
    async with running_server(places.base) as server:
        again = await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
        assert (again.status, again.json["id"], again.json["kernel_id"]) == (200, first["id"], first["kernel_id"])
        assert supervisor(server, "digits") == pid
        assert (await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})).status == 201
        await server.unix("DELETE", "/remote-gpu/sessions/digits")


async def test_a_kernel_that_had_ended_is_started_again_for_the_next_wish_and_the_answer_says_so(places):
    async with running_server(places.base) as server:
        await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
        await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})
        async with asyncio.timeout(30):
            while (kernel := (await server.unix("GET", "/remote-gpu/sessions/digits")).json["kernel"])["state"] != "idle":
                await asyncio.sleep(0.02)
            os.kill(kernel["pid"], signal.SIGKILL)
            while (await server.unix("GET", "/remote-gpu/sessions/digits")).json["kernel"]["state"] != "ended":
                await asyncio.sleep(0.02)
        again = (await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})).json
        assert again["kernel"]["incarnation"] == kernel["incarnation"] + 1
        assert "empty memory" in again["why"]
        await server.unix("DELETE", "/remote-gpu/sessions/digits")


async def test_two_gateways_of_one_user_share_sessions_and_each_has_a_link_of_its_own(places):
    async with running_server(places.base) as server:
        session = (await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})).json
        code = (
            "from remote_gpu.discovery import find_or_start_gateway\nfrom remote_gpu.gateway import Gateway\n"
            "gateway = Gateway(find_or_start_gateway())\nprint(gateway.info().kind if hasattr(gateway, 'info') else '')\n"
            "found, = gateway.sessions()\nprint(found.id)\nprint(gateway.attach('digits').session.link)\ngateway.stop_session('digits')"
        )
        environment = {name: value for name, value in os.environ.items() if name != "JUPYTER_REMOTE_GPU_GATEWAY"}
        process = await asyncio.create_subprocess_exec(
            str(server.parts.settings.local_python), "-c", code, stdout=asyncio.subprocess.PIPE, env=environment
        )
        said = (await process.communicate())[0].decode().split()
        assert said[-2:] == [session["id"], "connected"]
        assert (await until_over(server, "digits"))["state"] == "ended"


async def test_a_kernel_is_shown_idle_as_soon_as_its_cell_is_over(places):
    async with running_server(places.base) as server:
        await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
        front = (await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})).json
        client = AsyncKernelClient()
        client.load_connection_file(front["connection_file"])
        client.start_channels()
        await client.wait_for_ready(timeout=30)
        for _ in range(10):
            await client.execute_interactive("1", timeout=30, output_hook=lambda _: None)
            (shown,) = (await server.unix("GET", "/remote-gpu/sessions")).json["sessions"]
            assert shown["kernel"]["state"] == "idle"
        client.stop_channels()
        await server.unix("DELETE", "/remote-gpu/sessions/digits")


async def test_a_session_of_a_version_too_old_is_listed_says_why_it_is_not_reached_and_can_be_stopped(places, monkeypatch):
    async with running_server(places.base) as server:
        await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
        pid = supervisor(server, "digits")
    monkeypatch.setattr(frames, "OLDEST", frames.PROTOCOL + 1)
    monkeypatch.setattr(frames, "PROTOCOL", frames.PROTOCOL + 1)
    async with running_server(places.base) as server:
        refused = await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})
        assert refused.status == 502
        assert "link protocol 1 to 1, this one 2 to 2" in refused.text
        (shown,) = (await server.unix("GET", "/remote-gpu/sessions")).json["sessions"]
        assert (shown["name"], shown["state"]) == ("digits", "running")
        assert (await server.unix("DELETE", "/remote-gpu/sessions/digits")).status == 204
        assert (await server.unix("GET", "/remote-gpu/sessions/digits")).json["state"] == "ended"
    with pytest.raises(ProcessLookupError):
        process_start_time(pid)


async def test_a_server_takes_back_its_own_kernels_and_not_those_of_another_root_folder(places):
    async def kernels(server):
        return [kernel["id"] for kernel in (await server.tcp("GET", "/api/kernels")).json]

    for name in ("one", "two"):
        (places.base / name).mkdir()
    async with running_server(places.base / "one") as server:
        mine = (await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})).json["kernel_id"]
        assert await kernels(server) == [mine]
    async with running_server(places.base / "two") as server:
        assert await kernels(server) == []
        assert [each["name"] for each in (await server.unix("GET", "/remote-gpu/sessions")).json["sessions"]] == ["digits"]
    async with running_server(places.base / "one") as server:
        assert await kernels(server) == [mine]
        await server.unix("DELETE", "/remote-gpu/sessions/digits")
