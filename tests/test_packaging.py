"""What an installation promises: entry points that resolve, and both halves enabled for Jupyter."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest


def _jupyter(*words):
    done = subprocess.run([sys.executable, "-m", "jupyter", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("console_scripts", "jupyter-remote-gpu"),
        ("jupyter_client.kernel_provisioners", "remote-gpu-provisioner"),
        ("jupyter_remote_gpu.clusters", "local"),
    ],
)
def test_entry_points_resolve(group, name):
    (entry,) = [found for found in importlib.metadata.entry_points(group=group) if found.name == name]
    assert callable(entry.load())


def test_the_server_extension_is_enabled_and_valid():
    assert re.search(r"jupyter_remote_gpu [\d.]+ +OK", _jupyter("server", "extension", "list"))


def test_the_panel_is_enabled_and_compatible_with_this_jupyterlab():
    assert re.search(r"jupyter-remote-gpu v[\d.]+ enabled +OK", _jupyter("labextension", "list"))


def test_jupyter_offers_the_command_line_and_the_kernel():
    assert "usage: jupyter remote-gpu" in _jupyter("remote-gpu", "--help")
    assert "remote-gpu-local" in _jupyter("kernelspec", "list")
