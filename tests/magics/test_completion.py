"""Completion on the magics' own lines, in a shell without any session."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from remote_gpu.completion import Completion


@pytest.fixture
def offered():
    """What is offered at the end of a line."""
    shell = SimpleNamespace(user_ns={"apple": 1, "avocado": 2, "banana": 3, "_a": 4, "hidden": 5}, user_ns_hidden={"hidden": 5})
    clusters = [SimpleNamespace(name=name) for name in ("alps", "box")]
    gateway = SimpleNamespace(clusters=lambda: clusters, sessions=list)
    sessions = SimpleNamespace(gateway_if_any=lambda: gateway)
    completion = Completion(shell, lambda: sessions, lambda: None)

    def ask(line):
        found = completion.match(SimpleNamespace(full_text=line, cursor_line=0, cursor_position=len(line)))
        return found["matched_fragment"], [each.text for each in found["completions"]]

    return ask


@pytest.mark.parametrize(
    ("line", "fragment", "words"),
    [
        ("%%remote_gpu -i a", "a", ["apple", "avocado"]),
        ("%%remote_gpu -o apple,ba", "ba", ["banana"]),
        ("%%remote_gpu --input=apple, b", "b", ["banana"]),
        ("%%remote_gpu --back", "--back", ["--background"]),
        ("%%remote_gpu --no-sync --na", "--na", ["--name"]),
        ("%%remote_gpu --gpu", "--gpu", ["--gpus", "--gpu", "--gpu-memory"]),
        ("%remote_gpu start --time 1h --ex", "--ex", ["--exclusive", "--exclude"]),
        ("%remote_gpu on --par", "--par", ["--partition"]),
        ("%remote_gpu log", "log", ["logs", "login", "logout"]),
        ("%remote_gpu extend --", "--", ["--session", "--time"]),
        ("%remote_gpu login ", "", ["alps", "box", "--cluster"]),
        ("%remote_gpu logout --cluster b", "b", ["box"]),
        ("%remote_gpu pu", "pu", ["push", "pull", "put"]),
        ("%remote_gpu push ", "", ["apple", "avocado", "banana", "--session"]),
        ("%remote_gpu pull apple b", "b", ["banana"]),
        ("%remote_gpu cancel --", "--", ["--session"]),
    ],
)
def test_options_commands_and_variables_are_offered(offered, line, fragment, words):
    assert offered(line) == (fragment, words)
