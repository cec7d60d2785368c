"""Who gets in, and what crosses to a node."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from tests.fakes.server import running_server

from jupyter_remote_gpu.handlers import ROUTES

VERBS = ("get", "post", "put", "delete", "patch")


def calls() -> list[tuple[str, str]]:
    """Every method of every route of ours, with names filled in."""
    found = []
    for route, handler in ROUTES.items():
        path = re.sub(r"\{\w+\}", "x", route)
        found += [(verb.upper(), path) for verb in VERBS if any(verb in vars(base) for base in handler.__mro__[:-4])]
    return found


STRANGERS = {
    "nobody": {},
    "another's token": {"Authorization": "token somebody-else"},
    "another gateway's secret": {"Authorization": "remote-gpu somebody-else"},
    "an empty secret": {"Authorization": "remote-gpu "},
    "a secret that is no ASCII": {"Authorization": "remote-gpu ü"},
}


@pytest.fixture
async def server(places):
    async with running_server(places.base) as running:
        yield running


def test_the_walk_covers_the_routes():
    assert ("POST", "/remote-gpu/sessions/x/attachments") in calls()
    assert len(calls()) >= len(ROUTES)


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_no_route_lets_a_stranger_in_by_either_door(server, stranger):
    for method, path in calls():
        for door in (server.tcp, server.unix):
            answer = await door(method, path, {} if method in ("POST", "PUT") else None, headers=STRANGERS[stranger])
            assert answer.status == 403, f"{method} {path}"
            assert set(answer.json) == {"type", "title", "status", "reason", "hint", "details", "message"}


async def test_the_secret_of_the_unix_socket_opens_nothing_on_tcp(server):
    for method, path in calls():
        answer = await server.tcp(method, path, {} if method in ("POST", "PUT") else None, headers=server.secret)
        assert answer.status == 403, f"{method} {path}"


async def test_the_secret_opens_our_routes_only(server):
    assert (await server.unix("GET", "/api/kernels")).status == 403
    assert (await server.unix("GET", "/remote-gpu")).status == 200


async def login_cookies(server) -> str:
    answer = await server.tcp("GET", f"/remote-gpu?token={server.token['Authorization'].split()[1]}", headers={})
    assert answer.status == 200
    return answer.headers["Set-Cookie"].split(";")[0]


async def test_a_cookie_alone_changes_nothing_because_another_site_could_send_it(server):
    cookie = await login_cookies(server)
    assert (await server.tcp("GET", "/remote-gpu", headers={"Cookie": cookie, "Referer": "http://localhost/lab"})).status == 200
    for method, path in calls():
        if method != "GET":
            answer = await server.tcp(method, path, {}, headers={"Cookie": cookie})
            assert answer.status == 403, f"{method} {path}"
    assert server.parts.registry.sessions() == []


async def test_a_header_of_ours_does_not_get_a_cookie_around_the_check(server):
    cookie = await login_cookies(server)
    answer = await server.tcp("POST", "/remote-gpu/sessions", {}, headers={"Cookie": cookie, "Authorization": "remote-gpu x"})
    assert answer.status == 403


async def test_an_authorizer_of_the_server_is_asked_and_obeyed(server):
    asked = []

    class Nobody:
        def is_authorized(self, handler, user, action, resource):
            asked.append((action, resource))
            return False

    server.app.web_app.settings["authorizer"] = Nobody()
    assert (await server.tcp("GET", "/remote-gpu/sessions")).status == 403
    assert (await server.tcp("POST", "/remote-gpu/sessions", {})).status == 403
    assert asked == [("read", "remote_gpu"), ("write", "remote_gpu")]


async def test_sockets_and_secrets_are_this_users_alone(server, places):
    for folder in (places.folder, places.folder / "g", server.parts.registry.path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    for file in (server.parts.socket, server.parts.registry.path, *places.runtime.glob("remote-gpu-gateway-*.json")):
        assert file.stat().st_mode & 0o077 == 0, file


def listening(pid: int) -> set[str]:
    """The inodes of the TCP sockets on which a process listens."""
    owned = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            owned.add(str(entry.readlink()))
        except OSError:
            continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in owned}


def processes(places) -> list[int]:
    """Every process below us that lives in the folders of this test."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(places.base) in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def test_nothing_listens_on_tcp_but_the_server_itself(server, places):
    await server.unix("POST", "/remote-gpu/sessions", {"name": "digits"})
    await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})
    others = processes(places)
    assert others
    assert {pid: listening(pid) for pid in others} == {pid: set() for pid in others}
    assert len(listening(os.getpid())) == 1
    await server.unix("DELETE", "/remote-gpu/sessions/digits")


async def test_a_canary_in_the_servers_environment_is_found_nowhere_on_the_node(places, monkeypatch):
    canary = "canary-5f1e"
    for name in ("MY_API_TOKEN", "JUPYTERHUB_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "JPY_SOMETHING"):
        monkeypatch.setenv(name, canary)
    async with running_server(places.base) as server:
        wish = {"name": "digits", "env": {"MY_API_TOKEN": canary, "OMP_NUM_THREADS": "3"}}
        started = (await server.unix("POST", "/remote-gpu/sessions", wish)).json
        await server.unix("POST", "/remote-gpu/sessions/digits/attachments", {})
        async with asyncio.timeout(30):
            while (await server.unix("GET", "/remote-gpu/sessions/digits")).json["kernel"]["state"] != "idle":
                await asyncio.sleep(0.02)
        pids = processes(places)
        kernel = (await server.unix("GET", "/remote-gpu/sessions/digits")).json["kernel"]["pid"]
        assert kernel in pids
        assert b"OMP_NUM_THREADS=3\0" in Path(f"/proc/{kernel}/environ").read_bytes() or not started["warm"]
        for pid in pids:
            for name in ("environ", "cmdline"):
                assert canary.encode() not in Path(f"/proc/{pid}/{name}").read_bytes(), f"{pid} {name}"
        for file in [*places.folder.rglob("*"), *server.parts.registry.path.parent.rglob("*")]:
            if file.is_file():
                assert canary.encode() not in file.read_bytes(), file
        await server.unix("DELETE", "/remote-gpu/sessions/digits")
