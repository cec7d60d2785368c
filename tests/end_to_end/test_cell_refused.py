"""What cannot be done is said in one clear message, and nothing of the notebook's is lost."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import find_gateway, find_or_start_gateway

pytestmark = pytest.mark.slow

LOAD = "%load_ext remote_gpu"


def configure(places, **settings) -> None:
    folder = places.base / "config"
    folder.mkdir(exist_ok=True)
    (folder / "jupyter_server_config.json").write_text(json.dumps({"RemoteGpu": settings}))


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def nodes(places) -> list[str]:
    folder = places.folder / "s"
    return [each.name for each in folder.iterdir()] if folder.is_dir() else []


def refused(notebook: Notebook, *words: str, options: str = "") -> str:
    """The message that a cell gets; what was there before the cell is there after it."""
    notebook.run("kept = 'still here'")
    cell = notebook.run(f"%%remote_gpu {options}\n1")
    said = cell.traceback + cell.text
    assert cell.reply["status"] == "error"
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert notebook.run("kept").result == "'still here'"
    return said


def test_a_cluster_that_does_not_exist_gets_a_suggestion(places):
    configure(places, clusters={"local": {"kind": "local"}, "workstation": {"kind": "local"}})
    with Notebook(LOAD) as notebook:
        refused(notebook, "worksation", "Did you mean", "workstation", options="--cluster worksation")
        assert notebook.run("%%remote_gpu --cluster workstation\n1").record["cluster"] == "workstation"


def test_a_node_python_without_ipykernel_is_said_to_lack_it(places, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    configure(places, local_python=str(tmp_path / "bare/bin/python"))
    with Notebook(LOAD) as notebook:
        refused(notebook, "NoKernelPackage", "ipykernel", "install")
    assert not nodes(places)


@pytest.mark.parametrize(
    ("text", "words"),
    [("echo 'quota exceeded' >&2; exit 4", ("StartFailed", "quota exceeded")), ("exec sleep 600", ("StartTimedOut", "longer than 6 s"))],
)
def test_a_launch_that_fails_or_hangs_is_told_in_its_own_words_and_can_be_tried_again(places, tmp_path, text, words):
    python = tmp_path / "python"
    configure(places, local_python=script(python, text), start_timeout=6)
    with Notebook(LOAD) as notebook:
        refused(notebook, *words)
        assert not nodes(places)
        script(python, f'exec {shlex.quote(sys.executable)} "$@"')
        cell = notebook.run("%%remote_gpu --cluster local\n'mended'")
        assert cell.result == "'mended'", cell.text


def test_a_session_folder_that_cannot_be_written_is_named(places):
    with Notebook(LOAD) as notebook:
        find_or_start_gateway()
        (places.folder / "s").write_text("in the way")
        refused(notebook, "NotWritable", str(places.folder / "s"))
        (places.folder / "s").unlink()
        assert notebook.run("%%remote_gpu\n'mended'").result == "'mended'"


def test_a_folder_for_sockets_that_cannot_be_made_is_named(places):
    with Notebook(LOAD, environment={"JUPYTER_REMOTE_GPU_FOLDER": "/proc/nowhere"}) as notebook:
        refused(notebook, "/proc/nowhere")


def test_a_connection_file_that_was_changed_is_not_used(places):
    spoil = (
        "from remote_gpu.gateway import Gateway\nhonest = Gateway.attach\n"
        "def attach(*names, **more):\n    made = honest(*names, **more)\n"
        '    text = made.connection_file.read_text()\n    made.connection_file.write_text(text.replace(\'"key": "\', \'"key": "0\'))\n    return made\n'
        "Gateway.attach = attach"
    )
    with Notebook(LOAD, spoil) as notebook:
        refused(notebook, "NotAllowed", "is not what the gateway wrote")
        notebook.run("Gateway.attach = honest")
        assert notebook.run("%%remote_gpu\n'honest'").result == "'honest'"


def test_a_runtime_file_of_a_dead_gateway_is_passed_over_and_removed(places):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    stale = places.runtime / f"remote-gpu-gateway-{child.pid}.json"
    stale.write_text(
        json.dumps(
            {
                "socket": str(places.folder / "g/1.sock"),
                "secret": "s",
                "pid": child.pid,
                "start_time": 1,
                "version": "0",
                "kind": "headless",
            }
        )
    )
    stale.chmod(0o600)
    with Notebook(LOAD, environment={"JUPYTER_REMOTE_GPU_GATEWAY": str(stale)}) as notebook:
        assert notebook.run("%%remote_gpu\n'found another'").result == "'found another'"
    assert not stale.exists()
    assert find_gateway().pid != child.pid


def test_a_runtime_file_that_others_can_read_is_refused(places):
    record = find_or_start_gateway()
    record.file.chmod(0o644)
    with Notebook(LOAD, environment={"JUPYTER_REMOTE_GPU_GATEWAY": str(record.file)}) as notebook:
        refused(notebook, "NotAllowed", "can be read by others")
        os.chmod(record.file, 0o600)
        assert notebook.run("%%remote_gpu\n'trusted'").result == "'trusted'"
