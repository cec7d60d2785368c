from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_remote_gpu.cli import main
from jupyter_remote_gpu.cli_parser import make_parser
from jupyter_remote_gpu.doctor import Verdict, examine
from remote_gpu.discovery import find_gateway

pytestmark = pytest.mark.shared_places


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "jupyter_remote_gpu", *words], capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sesions"], "Did you mean 'sessions'?"),
        (["sessions", "--al"], "Did you mean '--all'?"),
        (["stop"], "name the sessions to stop"),
        (["stop", "x", "--all"], "name the sessions to stop"),
        (["clusters", "ad"], "Did you mean 'add'?"),
        (["clusters", "add", "x", "--shh", "y"], "Did you mean '--ssh'?"),
        (["clusters", "add", "x"], "name the host: --ssh HOST"),
        (["clusters", "bootstrap"], "or else a host"),
        (["clusters", "bootstrap", "x", "--ssh", "y"], "or else a host"),
        (["clusters", "add", "x", "--ssh", "y", "--time", "soon"], "'soon' is no time"),
        (["clusters", "add", "x", "--ssh", "y", "--gpus", "all"], "'all' is no number"),
        (["extend", "x", "--time", "0"], "'0' is no time"),
    ],
)
def test_a_mistyped_command_line_is_told_with_a_suggestion(capsys, words, said):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_without_a_verb_it_shows_the_help(capsys):
    assert main([]) == 0
    assert "sessions" in capsys.readouterr().out


def test_a_program_that_ignores_provisioners_is_told_what_to_do(capsys):
    assert main(["kernel", "c.json"]) == 1
    assert "%%remote_gpu" in capsys.readouterr().err


def test_two_starts_at_once_give_one_gateway(places):
    command = [sys.executable, "-m", "jupyter_remote_gpu", "serve", "--background"]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [start.communicate(timeout=90)[0] for start in starts]
    assert said[0] == said[1]
    assert len(list(places.runtime.glob("remote-gpu-gateway-*.json"))) == 1
    assert find_gateway().kind == "headless"


def test_a_second_gateway_in_the_foreground_is_refused_in_words(places):
    run("serve", "--background")
    done = run("serve")
    assert done.returncode == 1
    assert "runs already" in done.stderr


def test_clusters_and_sessions_are_listed_as_json(places):
    assert [cluster["name"] for cluster in json.loads(run("clusters", "--json").stdout)] == ["local"]
    assert json.loads(run("sessions", "--json").stdout) == []


def test_stopping_what_is_not_there_fails_in_words(places):
    done = run("stop", "nothing")
    assert done.returncode == 1
    assert "no remote session 'nothing'" in done.stderr


def test_the_doctor_finds_a_gateway_and_says_what_the_cluster_has(places):
    findings = {finding["what"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["gateway"]["verdict"] == "ok"
    assert findings["folder"]["verdict"] == "ok"
    assert "ipykernel" in findings["Python of local sessions"]["found"]


def test_an_unused_gateway_ends_itself(places, wait_until):
    first = find_gateway()
    if first is not None:
        os.kill(first.pid, signal.SIGTERM)
        assert wait_until(lambda: find_gateway() is None, 20)
    run("serve", "--background", "--unused", "1")
    assert wait_until(lambda: find_gateway() is None, 30)


def test_the_reference_has_each_verb_with_each_option_and_each_check_of_the_doctor(places):
    text = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text()
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    _, verbs = make_parser()
    assert list(parts) == list(verbs)
    for name, parser in verbs.items():
        for action in parser._actions:
            words = [word for word in action.option_strings if word.startswith("--") and word != "--help"]
            assert all(word in parts[name] for word in words), f"{name} {words}"
    found = [finding.what for finding in examine()]
    checks = {"cluster NAME" if what.startswith("cluster ") else "login HOST" if what.startswith("login ") else what for what in found}
    assert [check for check in sorted(checks) if f"`{check}`" not in parts["doctor"]] == []
    assert all(f"`{verdict}`" in parts["doctor"] for verdict in Verdict)
