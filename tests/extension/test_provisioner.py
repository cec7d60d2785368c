from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import types

import pytest
from jupyter_client.kernelspec import KernelSpec

from jupyter_remote_gpu import provisioner as module
from jupyter_remote_gpu.kernelspecs import describe
from jupyter_remote_gpu.provisioner import RemoteGpuProvisioner, connection_info
from remote_gpu.errors import GatewayUnavailable, StartFailed, StartTimedOut, UnknownSession, UsageProblem
from remote_gpu.gateway import AttachmentInfo, SessionInfo


class FakeGateway:
    """A gateway with one session, whose state the test sets; `fails` raises at the named call."""

    def __init__(self, folder) -> None:
        self.record = types.SimpleNamespace(pid=1, start_time=1, file=None)
        self.calls: list[str] = []
        self.wanted: dict = {}
        self.attached: dict = {}
        self.lives = True
        self.state = "running"
        self.detail = ""
        self.kernel: dict = {"state": "idle"}
        self.fails: dict[str, Exception] = {}
        self.threads: set[int] = set()
        self.file = folder / "c.json"
        ports = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}
        info = {"transport": "ipc", "ip": str(folder / "k"), "key": "abc", "signature_scheme": "hmac-sha256", "kernel_name": "x", **ports}
        self.file.write_text(json.dumps(info))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def _note(self, name: str) -> SessionInfo:
        self.calls.append(name)
        self.threads.add(threading.get_ident())
        if name in self.fails:
            raise self.fails[name]
        return SessionInfo(id="s1", name="digits", cluster="local", state=self.state, detail=self.detail, kernel=self.kernel)

    def start_session(self, **body):
        self.wanted = body
        return self._note("start")

    def session(self, _session, *, wait=None, seen=None):
        return self._note("session")

    def restart(self, _session):
        return self._note("restart")

    def interrupt(self, _session):
        return self._note("interrupt")

    def stop_session(self, _session):
        self._note("stop")

    def attach(self, _session, **terms):
        self.attached = terms
        return AttachmentInfo("a1", self.file, self._note("attach"))

    def detach(self, _session, _attachment):
        self._note("detach")

    def rebind(self, _session, _attachment):
        self._note("rebind")


@pytest.fixture
def gateway(places, monkeypatch):
    fake = FakeGateway(places.folder)
    monkeypatch.setattr(module, "find_gateway", lambda: fake.record)
    monkeypatch.setattr(module, "find_or_start_gateway", lambda: fake.record)
    monkeypatch.setattr(module, "read_record", lambda _file: fake.record if fake.lives else None)
    monkeypatch.setattr(module, "Gateway", lambda _record: fake)
    return fake


@pytest.fixture
def provisioner(gateway):
    return RemoteGpuProvisioner(kernel_id="k-1", kernel_spec=KernelSpec(**describe("local")), cluster="local")


async def launched(provisioner: RemoteGpuProvisioner, **kwargs):
    kwargs = await provisioner.pre_launch(**kwargs)
    return await provisioner.launch_kernel(kwargs.pop("cmd"), **kwargs)


async def test_a_launch_starts_a_session_of_its_own_and_says_how_to_connect(provisioner, gateway, places):
    info = await launched(provisioner, cwd="/tmp")
    assert (info["transport"], info["key"], info["ip"]) == ("ipc", b"abc", str(places.folder / "k"))
    assert (gateway.wanted["own_kernel_id"], gateway.wanted["cluster"], gateway.wanted["cwd"]) == ("k-1", "local", "/tmp")
    assert gateway.attached == {"role": "owner", "own_kernel_id": "k-1"}
    assert provisioner.has_process
    assert provisioner.owner


async def test_only_what_was_set_for_this_kernel_crosses(provisioner, gateway, monkeypatch):
    monkeypatch.setenv("CANARY_TOKEN", "secret")
    await launched(provisioner, env={**os.environ, "SEED": "7", "JPY_SESSION_NAME": "/n/digits.ipynb"})
    assert gateway.wanted["env"] == {"SEED": "7"}
    assert gateway.wanted["notebook"] == "/n/digits.ipynb"


async def test_the_event_loop_is_never_held_up(provisioner, gateway):
    await launched(provisioner)
    await provisioner.poll()
    assert threading.get_ident() not in gateway.threads


async def test_a_restart_keeps_the_allocation_and_binds_the_front_again(provisioner, gateway):
    first = dict(await launched(provisioner))
    await provisioner.shutdown_requested(restart=True)
    await provisioner.kill(restart=True)
    assert await provisioner.poll() == 0
    await provisioner.cleanup(restart=True)
    second = await launched(provisioner)
    assert second == first
    assert gateway.calls[-2:] == ["restart", "rebind"]
    assert "stop" not in gateway.calls
    assert await provisioner.poll() is None


async def test_a_shutdown_ends_a_session_that_it_owns_once(provisioner, gateway):
    await launched(provisioner)
    await provisioner.shutdown_requested()
    await provisioner.terminate()
    await provisioner.cleanup()
    await provisioner.cleanup()
    assert gateway.calls.count("stop") == 1
    assert not provisioner.has_process
    assert await provisioner.poll() == 0


async def test_who_only_joined_leaves_and_ends_nothing(provisioner, gateway):
    provisioner.session = "digits"
    await launched(provisioner)
    assert gateway.attached["role"] == "editor"
    await provisioner.shutdown_requested()
    assert await provisioner.poll() == 0
    await provisioner.cleanup()
    assert gateway.calls[-1] == "detach"
    assert "stop" not in gateway.calls


async def test_a_session_that_is_over_already_can_be_cleaned_up(provisioner, gateway):
    await launched(provisioner)
    gateway.fails["stop"] = UnknownSession("gone")
    await provisioner.cleanup()
    assert not provisioner.has_process


async def test_a_gateway_that_is_away_is_not_a_dead_kernel(provisioner, gateway):
    await launched(provisioner)
    gateway.fails["session"] = GatewayUnavailable("away")
    assert await provisioner.poll() is None


async def test_when_the_gateway_is_gone_it_attaches_once_through_the_next_one_under_the_same_id(provisioner, gateway):
    await launched(provisioner)
    gateway.lives, gateway.record = False, types.SimpleNamespace(pid=2, start_time=2, file=None)
    calls = len(gateway.calls)
    assert await asyncio.gather(*(provisioner.poll() for _ in range(3))) == [None] * 3
    gateway.lives = True
    assert await provisioner.poll() is None
    assert gateway.calls[calls:].count("attach") == 1
    assert gateway.attached == {"role": "owner", "own_kernel_id": "k-1"}


@pytest.mark.parametrize(
    ("kernel", "code"),
    [
        ({"state": "busy"}, None),
        ({"state": "starting"}, None),
        ({}, None),
        ({"state": "ended", "exit_code": 3}, 3),
        ({"state": "ended", "signal": 9}, 0),
    ],
)
async def test_poll_says_whether_the_kernel_has_ended(provisioner, gateway, kernel, code):
    await launched(provisioner)
    gateway.kernel = kernel
    assert await provisioner.poll() == code


async def test_poll_sees_a_session_that_is_over(provisioner, gateway):
    await launched(provisioner)
    gateway.state = "ended"
    assert await provisioner.poll() == 0


async def test_waiting_ends_with_the_kernel(provisioner, gateway):
    await launched(provisioner)
    waiting = asyncio.create_task(provisioner.wait())
    await provisioner.poll()
    gateway.kernel = {"state": "ended", "exit_code": 0}
    assert await asyncio.wait_for(waiting, 5) == 0


async def test_a_start_that_is_still_queued_fails_with_its_place_and_keeps_the_request(provisioner, gateway):
    gateway.state, gateway.detail, provisioner.start_timeout = "pending", "place 4 in the queue", 0.05
    with pytest.raises(StartTimedOut, match=r"place 4 in the queue.*kept as session digits"):
        await launched(provisioner)
    assert "stop" not in gateway.calls
    assert not provisioner.has_process


async def test_a_start_that_failed_says_why(provisioner, gateway):
    gateway.state, gateway.detail = "failed", "no ipykernel there"
    with pytest.raises(StartFailed, match="no ipykernel there"):
        await launched(provisioner)


async def test_an_interrupt_goes_to_the_session(provisioner, gateway):
    await launched(provisioner)
    await provisioner.send_signal(signal.SIGINT)
    assert gateway.calls[-1] == "interrupt"


async def test_a_signal_that_cannot_be_sent_is_refused(provisioner, gateway):
    await launched(provisioner)
    await provisioner.send_signal(0)
    with pytest.raises(UsageProblem, match="signal 10"):
        await provisioner.send_signal(10)


async def test_another_process_can_go_on_with_the_session(provisioner, gateway):
    await launched(provisioner)
    other = RemoteGpuProvisioner(kernel_id="k-1", kernel_spec=provisioner.kernel_spec)
    await other.load_provisioner_info(await provisioner.get_provisioner_info())
    assert await other.poll() is None
    await other.cleanup()
    assert gateway.calls[-1] == "stop"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 3}'])
def test_a_connection_file_that_was_tampered_with_is_refused(places, content):
    file = places.folder / "c.json"
    file.write_text(content)
    with pytest.raises(StartFailed, match="cannot be used"):
        connection_info(file)
