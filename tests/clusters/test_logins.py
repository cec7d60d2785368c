"""Logins that ask: through the REST API, as the panel, a terminal and a cell use it. Real sshd, real prompts."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clusters.gateways import attached, gateway, running, started, until
from tests.clusters.ways import configuration, forget, use_lab
from tests.lab.lab import Lab

from jupyter_remote_gpu.clusters.login import Login, LoginState
from jupyter_remote_gpu.gateway import GatewayParts
from jupyter_remote_gpu.models import AllocationState, LinkState
from remote_gpu.errors import AccessRefused, LinkProblem

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PENDING, RUNNING, ENDED, FAILED = AllocationState


@pytest.fixture
def lab_here(lab, monkeypatch) -> Iterator[Lab]:
    cache = use_lab(lab, monkeypatch)
    yield lab
    forget(cache)


def box(lab: Lab, host: str) -> dict:
    return {**configuration("ssh", lab), "host": host}


async def asked(login: Login, seconds: float = 30) -> dict:
    """The question that a login asks now."""
    async with asyncio.timeout(seconds):
        while not (prompts := login.json()["prompts"]):
            await asyncio.sleep(0.02)
    return prompts[0]


def attempts(lab: Lab, server: str) -> int:
    """How many connections the server has taken."""
    return lab.sshd[server].log().count("Connection from")


@pytest.mark.parametrize(("host", "question"), [("guarded", "password"), ("asking", "Password:")])
async def test_a_second_factor_is_asked_once_and_serves_all_sessions_of_its_host(places, lab_here, host, question):
    async with gateway(places.base, {"one": box(lab_here, host), "two": box(lab_here, host)}) as parts:
        login = parts.clusters["one"].login
        session = await started(parts, "first", "one")
        prompt = await asked(login)
        assert question in prompt["text"]
        assert prompt["kind"] == "secret"
        assert [each["id"] for each in (await parts.sessions.get(session.id)).json()["prompts"]] == [prompt["id"]]
        parts.logins.prompts.answer(prompt["id"], lab_here.password)
        await until(parts, session.id, RUNNING)
        assert login.state is LoginState.IN
        await running(parts, "second", "two")
        async with attached(parts, "second") as client:
            assert (await client.run("print(6 * 7)")).out == "42\n"
        assert parts.clusters["two"].login is login
        found = subprocess.run(["grep", "-rlF", lab_here.password, str(places.base)], capture_output=True, text=True)
        assert not found.stdout, "the answer rests somewhere"


async def test_a_wrong_answer_fails_the_start_and_is_not_tried_again(places, lab_here):
    async with gateway(places.base, {"one": box(lab_here, "guarded")}) as parts:
        login = parts.clusters["one"].login
        session = await started(parts, "first", "one")
        parts.logins.prompts.answer((await asked(login))["id"], "wrong")
        failed = await until(parts, session.id, FAILED)
        assert "refused" in failed.detail
        assert failed.problem["reason"] == "access_refused"
        with pytest.raises(AccessRefused):
            await login.ensure()
        assert not login.json()["prompts"]


async def test_nobody_is_asked_and_nothing_is_tried_again_without_a_users_wish(places, lab_here):
    async with gateway(places.base, {"one": box(lab_here, "guarded")}) as parts:
        login = parts.clusters["one"].login
        with pytest.raises(AccessRefused, match="wants you to log in"):
            await parts.clusters["one"].snapshot()
        before = attempts(lab_here, "guarded")
        for _ in range(3):
            with pytest.raises(AccessRefused):
                await parts.clusters["one"].snapshot()
        assert attempts(lab_here, "guarded") == before
        assert login.state is LoginState.REFUSED
        assert not login.json()["prompts"]


async def test_an_answer_that_is_refused_by_the_user_ends_the_start(places, lab_here):
    async with gateway(places.base, {"one": box(lab_here, "guarded")}) as parts:
        session = await started(parts, "first", "one")
        parts.logins.prompts.answer((await asked(parts.clusters["one"].login))["id"], None)
        assert "refused" in (await until(parts, session.id, FAILED)).detail


async def test_stopping_a_session_that_waits_for_its_login_takes_the_question_back(places, lab_here):
    async with gateway(places.base, {"one": box(lab_here, "guarded")}) as parts:
        login = parts.clusters["one"].login
        session = await started(parts, "first", "one")
        await asked(login)
        await parts.sessions.stop(session.id)
        assert not login.json()["prompts"]
        assert (await parts.sessions.get(session.id)).state is ENDED


async def test_an_unknown_host_key_is_shown_and_taken_only_when_the_user_says_so(places, lab_here):
    lab_here.forget_stranger()
    async with gateway(places.base, {"one": box(lab_here, "stranger")}) as parts:
        login = parts.clusters["one"].login
        session = await started(parts, "first", "one")
        prompt = await asked(login)
        assert prompt["kind"] == "confirm"
        assert "SHA256:" in prompt["text"]
        parts.logins.prompts.answer(prompt["id"], "no")
        assert "not the host" in (await until(parts, session.id, FAILED)).detail
        session = await started(parts, "second", "one")
        parts.logins.prompts.answer((await asked(login))["id"], "yes")
        await until(parts, session.id, RUNNING)
    lab_here.forget_stranger()


async def test_another_host_key_than_the_known_one_is_refused_without_a_question(places, lab_here):
    async with gateway(places.base, {"one": box(lab_here, "impostor")}) as parts:
        session = await started(parts, "first", "one")
        failed = await until(parts, session.id, FAILED)
        assert "not the host that it was" in failed.detail
        assert "known_hosts" in failed.problem["hint"]


async def test_a_host_that_does_not_exist_or_answer_is_told_from_a_refusal(places, lab_here):
    clusters = {"one": box(lab_here, "no-such-host.invalid"), "two": box(lab_here, "alice@127.0.0.1")}
    async with gateway(places.base, clusters) as parts:
        session = await started(parts, "first", "one")
        failed = await until(parts, session.id, FAILED)
        assert "cannot be reached" in failed.detail
        assert failed.problem["reason"] == "link"
        with pytest.raises(LinkProblem):
            await parts.clusters["two"].login.ensure()


async def test_a_certificate_that_ended_is_named_and_a_new_one_brings_everything_back_by_itself(places, lab_here):
    lab_here.sign_certificate(3600)
    async with gateway(places.base, {"one": box(lab_here, "certified")}) as parts:
        session = await running(parts, "first", "one")
        login = parts.clusters["one"].login
        assert login.expires
        async with attached(parts, session.id) as client:
            msg_id = await client.send("import time\nfor n in range(150):\n    print(n, flush=True)\n    time.sleep(0.1)")
            lab_here.sign_certificate(-60)
            await login.end()
            await linked(parts, session.id, LinkState.LOST)
            assert "certificate" in login.detail
            assert (await parts.sessions.get(session.id)).state is RUNNING
            lab_here.sign_certificate(3600)
            await linked(parts, session.id, LinkState.CONNECTED)
            cell = await client.run("", msg_id=msg_id)
        assert cell.out.split() == [str(n) for n in range(150)]


async def test_a_login_of_the_users_own_in_a_terminal_is_found_and_used(places, lab_here, monkeypatch):
    own = places.base / "own"
    own.mkdir(mode=0o700)
    config = own / "config"
    config.write_text(f"Host guarded\n  ControlPath {own}/cm\nInclude {lab_here.ssh_config}\n")
    program = own / "ssh"
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    async with gateway(places.base, {"one": box(lab_here, "guarded")}) as parts:
        with pytest.raises(AccessRefused):
            await parts.clusters["one"].snapshot()
        in_a_terminal(lab_here, own)
        login = parts.clusters["one"].login
        async with asyncio.timeout(30):
            while login.state is not LoginState.IN:
                await asyncio.sleep(0.1)
        assert (await parts.clusters["one"].snapshot()).pools
        await running(parts, "first", "one")


def in_a_terminal(lab: Lab, folder: Path) -> None:
    """What a user does in a terminal: log in as a master that others may use."""
    answers = folder / "answers"
    answers.write_text(f"#!/bin/sh\necho '{lab.password}'\n")
    answers.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(answers), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    subprocess.run(["ssh", "-M", "-N", "-f", "guarded"], env=env, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def linked(parts: GatewayParts, key: str, state: LinkState, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while parts.sessions.peek(key).link is not state:
            await parts.sessions.wait(key, parts.sessions.peek(key).stamp, 0.5)


async def test_more_sessions_than_a_login_has_channels_are_told_so_or_get_another_login(places, lab_here):
    async with gateway(places.base, {"one": box(lab_here, "box")}) as parts:
        for number in range(12):
            session = await running(parts, f"s{number}", "one")
            async with attached(parts, session.id) as client:
                assert (await client.run("print(1)")).out == "1\n"
