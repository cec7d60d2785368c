from __future__ import annotations

import os
import subprocess
import time

import pytest

from jupyter_remote_gpu.clusters import openssh
from remote_gpu.errors import AccessRefused, LinkProblem

CONFIG = """\
host bristol
user alice
hostname login.example
port 2222
controlpath /home/alice/.ssh/cm-abc
identityfile ~/.ssh/id_ed25519
identityfile ~/.ssh/id_rsa
certificatefile ~/.ssh/isambard-cert.pub
proxyjump gate.example,second
"""


def test_what_ssh_makes_of_a_host_is_read():
    found = openssh.parse_config("bristol", CONFIG)
    assert (found.hostname, found.port, found.user, found.proxy) == ("login.example", 2222, "alice", "gate.example,second")
    assert found.control_path == "/home/alice/.ssh/cm-abc"
    assert found.identities[:2] == ("~/.ssh/isambard-cert.pub", "~/.ssh/id_ed25519-cert.pub")


def test_a_user_without_a_control_path_or_jump_host_has_none():
    found = openssh.parse_config("box", "hostname box\nport 22\ncontrolpath none\nproxyjump none\n")
    assert (found.control_path, found.proxy) == ("", "")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("alice@host: Permission denied (publickey,keyboard-interactive).", AccessRefused, "refused"),
        ("Received disconnect from ::1: Too many authentication failures", AccessRefused, "refused"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", AccessRefused, "not the host that it was"),
        ("Host key verification failed.", AccessRefused, "not the host that it was"),
        ("mux_client_request_session: session request failed: Session open refused by peer", LinkProblem, "no more channels"),
        ("Connection closed by UNKNOWN port 65535", LinkProblem, "is gone"),
        ("ssh: Could not resolve hostname nowhere: Name or service not known", LinkProblem, "cannot be reached"),
        ("ssh: connect to host h port 22: Connection refused", LinkProblem, "Nothing listens"),
        ("ssh: connect to host h port 22: Connection timed out", LinkProblem, "does not answer"),
        ("client_loop: send disconnect: Broken pipe", LinkProblem, "closed the connection"),
        ("something new", LinkProblem, "something new"),
        ("", LinkProblem, "closed the connection without a word"),
    ],
)
def test_what_ssh_says_becomes_an_error_that_says_it(said, kind, words):
    problem = openssh.problem("bristol", said)
    assert type(problem) is kind
    assert words in problem.message
    assert "bristol" in problem.message


def test_a_channel_can_use_the_login_only_and_a_login_without_questions_asks_nobody():
    channel = openssh.channel("box", "/m/box", ["cat", "a b"])
    assert channel[-1] == "exec cat 'a b'"
    assert {"ProxyCommand=false", "BatchMode=yes", "ControlMaster=no"} <= set(channel)
    assert "BatchMode=yes" in openssh.log_in("box", "/m/box", asks=False)
    assert "BatchMode=no" in openssh.log_in("box", "/m/box", asks=True)
    assert all(argv[argv.index("--") + 1] == "box" for argv in (channel, openssh.log_in("box", "/m", asks=True)))


def test_the_end_of_a_certificate_is_read_from_ssh_keygen(tmp_path):
    for name in ("ca", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    subprocess.run(["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "x", "-n", "a", "-V", "+1h", tmp_path / "key.pub"], check=True)
    text = subprocess.run(["ssh-keygen", "-L", "-f", tmp_path / "key-cert.pub"], capture_output=True, text=True, check=True).stdout
    assert abs(openssh.valid_until(text) - time.time() - 3600) < 120
    assert openssh.valid_until("Valid: forever") is None


def test_an_ssh_of_ours_has_no_token_in_its_environment():
    source = {
        "HOME": "/h",
        "PATH": "/bin",
        "JUPYTER_TOKEN": "x",
        "JUPYTERHUB_API_TOKEN": "y",
        "SSH_AUTH_SOCK": "/s",
        **dict.fromkeys(os.environ, "z"),
    }
    found = openssh.environment(source, {"SSH_ASKPASS": "/a"})
    assert found["SSH_AUTH_SOCK"]
    assert found["SSH_ASKPASS"] == "/a"
    assert not [name for name in found if "TOKEN" in name]
