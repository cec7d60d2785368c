from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from remote_gpu import discovery
from remote_gpu.errors import GatewayUnavailable, NotAllowed

IS_ROOT = os.getuid() == 0


@pytest.fixture
def listening(places):
    """A socket file, as a gateway's would be."""
    path = places.folder / "g.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        yield path
    for file in places.runtime.glob("*.json"):  # they name this very process, which nobody shall tell to end
        file.unlink()


def announced(listening: Path, kind: str = "headless") -> Path:
    return discovery.announce(socket_path=listening, secret="s3cret", kind=kind, version="1.2")


def changed(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def ended_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_there_is_no_gateway_where_none_announced_itself():
    assert discovery.find_gateway() is None


def test_an_announced_gateway_is_found_with_all_that_it_said(listening):
    file = announced(listening)
    found = discovery.find_gateway()
    assert found is not None
    assert (found.file, found.socket, found.secret, found.pid, found.kind) == (file, listening, "s3cret", os.getpid(), "headless")


def test_a_runtime_file_is_for_its_owner_alone(listening):
    assert announced(listening).stat().st_mode & 0o777 == 0o600


def test_the_secret_is_not_in_what_a_log_would_show(listening):
    announced(listening)
    assert "s3cret" not in repr(discovery.find_gateway())


def test_the_gateway_that_the_environment_names_comes_first(listening, monkeypatch):
    announced(listening)
    other = discovery.runtime_folder() / "named.json"
    other.write_text((discovery.runtime_folder() / f"remote-gpu-gateway-{os.getpid()}.json").read_text())
    other.chmod(0o600)
    changed(other, kind="server", secret="named")
    monkeypatch.setenv("JUPYTER_REMOTE_GPU_GATEWAY", str(other))
    assert discovery.find_gateway().secret == "named"


def test_a_kernel_finds_the_server_that_started_it(listening, monkeypatch):
    announced(listening, kind="server")
    assert discovery.find_gateway() is None
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    assert discovery.find_gateway().kind == "server"


def test_a_name_in_the_environment_that_is_out_of_date_is_passed_over(listening, monkeypatch):
    announced(listening)
    monkeypatch.setenv("JUPYTER_REMOTE_GPU_GATEWAY", str(discovery.runtime_folder() / "remote-gpu-gateway-1.json"))
    assert discovery.find_gateway().kind == "headless"


def test_the_file_of_a_dead_process_is_removed(listening):
    file = announced(listening)
    changed(file, pid=ended_process())
    assert discovery.find_gateway() is None
    assert not file.exists()


def test_the_file_of_a_process_whose_number_was_used_again_is_removed(listening):
    file = announced(listening)
    changed(file, start_time=1)
    assert discovery.find_gateway() is None
    assert not file.exists()


def test_a_gateway_without_its_socket_is_gone(listening):
    file = announced(listening)
    listening.unlink()
    assert discovery.find_gateway() is None
    assert not file.exists()


def test_a_zombie_is_not_a_gateway():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        discovery.process_start_time(child.pid)
    child.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"socket": 3}'])
def test_a_file_that_nobody_could_have_written_whole_is_removed(places, content):
    file = places.runtime / "remote-gpu-gateway-7.json"
    file.write_text(content)
    file.chmod(0o600)
    assert discovery.find_gateway() is None
    assert not file.exists()


def test_a_file_of_another_machine_on_a_shared_home_is_left_alone(listening):
    file = announced(listening)
    changed(file, host="elsewhere", pid=ended_process())
    assert discovery.find_gateway() is None
    assert file.exists()


def test_a_file_that_others_can_read_is_refused_in_words(listening, monkeypatch):
    file = announced(listening)
    file.chmod(0o644)
    assert list(discovery.live_gateways()) == []
    monkeypatch.setenv("JUPYTER_REMOTE_GPU_GATEWAY", str(file))
    with pytest.raises(NotAllowed, match="can be read by others"):
        discovery.find_gateway()


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
def test_another_users_file_is_refused_in_words_and_left_alone(listening, monkeypatch):
    file = announced(listening)
    os.chown(file, 12345, 12345)
    assert list(discovery.live_gateways()) == []
    monkeypatch.setenv("JUPYTER_REMOTE_GPU_GATEWAY", str(file))
    with pytest.raises(NotAllowed, match="belongs to another user"):
        discovery.find_gateway()
    assert file.exists()


def test_a_link_to_a_file_is_refused(listening, monkeypatch):
    link = discovery.runtime_folder() / "link.json"
    link.symlink_to(announced(listening))
    monkeypatch.setenv("JUPYTER_REMOTE_GPU_GATEWAY", str(link))
    with pytest.raises(NotAllowed):
        discovery.find_gateway()


def test_without_the_servers_half_it_says_what_to_install(monkeypatch):
    real = discovery.importlib.util.find_spec
    monkeypatch.setattr(discovery.importlib.util, "find_spec", lambda name: None if name == "jupyter_server" else real(name))
    with pytest.raises(GatewayUnavailable, match=r"no jupyter_server.*pip install jupyter-remote-gpu"):
        discovery.find_or_start_gateway()


def test_a_live_process_has_the_same_start_time_at_each_look():
    first = discovery.process_start_time(os.getpid())
    assert first == discovery.process_start_time(os.getpid())
