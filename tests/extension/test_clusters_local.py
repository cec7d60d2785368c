from __future__ import annotations

import os
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from jupyter_remote_gpu.clusters import bundle as bundle_module
from jupyter_remote_gpu.clusters.bundle import Bundle
from jupyter_remote_gpu.clusters.commands import ask, redact, words
from jupyter_remote_gpu.clusters.environment import allowed, is_allowed, refuse_others
from jupyter_remote_gpu.clusters.local import LocalCluster
from jupyter_remote_gpu.models import KernelLaunch, ResourceRequest, SessionId
from jupyter_remote_gpu.settings import Settings
from remote_gpu.errors import NoKernelPackage, NotWritable, StartFailed, StartTimedOut, UnknownCluster, UsageProblem


async def run(code: str, timeout: float = 20, question=None):
    return await ask([sys.executable, "-I", "-S", "-c", code], step="Trying", env={}, timeout=timeout, question=question)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


async def launch(cluster: LocalCluster) -> None:
    async for _ in cluster.launch(ResourceRequest(), KernelLaunch(SessionId("abcdefghij"))):
        pass


async def test_an_answer_is_found_among_the_noise_of_a_login_shell():
    code = "print('Welcome!\\nYou have mail.'); print('\\x1b[0mJRG {\"ok\": true, \"pid\": 7}'); print('bye')"
    assert await run(code) == {"ok": True, "pid": 7}


async def test_the_question_goes_by_stdin():
    code = "import json, sys; print('JRG', json.dumps({'got': json.load(sys.stdin)}))"
    assert (await run(code, question={"secret": "x"}))["got"] == {"secret": "x"}


async def test_a_problem_comes_back_as_the_error_that_it_names():
    code = 'print(\'JRG {"ok": false, "problem": {"reason": "no_ipykernel", "title": "There is no ipykernel."}}\')'
    with pytest.raises(NoKernelPackage, match="no ipykernel"):
        await run(code)


async def test_a_command_that_fails_is_quoted():
    with pytest.raises(StartFailed, match=r"status 3 and said:\nquota exceeded"):
        await run("import sys; sys.exit(sys.stderr.write('quota exceeded\\n') and 3)")


async def test_a_command_without_a_word_is_said_to_be_silent():
    with pytest.raises(StartFailed, match="without a word"):
        await run("pass")


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path, wait_until):
    pids = tmp_path / "pids"
    code = f"import os, time; p = os.fork(); open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    with pytest.raises(StartTimedOut, match="longer than 1 s"):
        await run(code, timeout=1)
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in started), 5)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_command_that_answers_and_then_hangs_does_not_hang_us(monkeypatch):
    monkeypatch.setattr("jupyter_remote_gpu.clusters.commands._EXIT_LIMIT", 0.1)
    begin = time.monotonic()
    assert await run("import time; print('JRG {}', flush=True); time.sleep(600)") == {}
    assert time.monotonic() - begin < 20


async def test_a_command_that_is_not_there_is_named():
    with pytest.raises(StartFailed, match="/nowhere/python"):
        await ask(["/nowhere/python"], step="Starting", env={}, timeout=5)


def test_what_looks_like_a_secret_is_not_quoted():
    text = redact("ACCESS_TOKEN=abc password: hunter2 Authorization: Bearer xyz --api-key=123 plain=ok")
    for secret in ("abc", "hunter2", "xyz", "123"):
        assert secret not in text
    assert "plain=ok" in text
    assert words(["run", "--token=abc", "a b"]) == "run --token=… 'a b'"


async def test_a_launch_that_fails_leaves_nothing_and_says_why_in_the_launchers_words(places, tmp_path):
    python = script(tmp_path / "python", "echo 'cannot allocate memory' >&2; exit 4")
    with pytest.raises(StartFailed, match="cannot allocate memory"):
        await launch(LocalCluster("local", {"python": python}, Settings()))


async def test_a_launch_that_hangs_is_ended_and_says_so(places, tmp_path):
    python = script(tmp_path / "python", "exec sleep 600")
    with pytest.raises(StartTimedOut, match="Starting a session on local took longer than 1 s"):
        await launch(LocalCluster("local", {"python": python}, Settings(start_timeout=1)))


async def test_a_python_without_ipykernel_is_said_to_lack_it(places, tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    with pytest.raises(NoKernelPackage, match="ipykernel"):
        await launch(LocalCluster("local", {"python": str(tmp_path / "bare/bin/python")}, Settings()))


async def test_a_folder_that_is_not_writable_is_said_to_be(places, monkeypatch):
    monkeypatch.setenv("JUPYTER_REMOTE_GPU_FOLDER", "/proc/nowhere")
    with pytest.raises(NotWritable, match="/proc/nowhere"):
        await launch(LocalCluster("local", {}, Settings()))


def test_a_setting_that_a_local_cluster_does_not_know_is_refused():
    with pytest.raises(UsageProblem, match="pyhton"):
        LocalCluster("local", {"kind": "local", "pyhton": "x"}, Settings())


def test_an_unknown_cluster_or_kind_is_named_with_what_there_is():
    from jupyter_remote_gpu.clusters import Clusters

    clusters = Clusters(Settings(clusters={"isambard": {"kind": "slrum"}}))
    with pytest.raises(UnknownCluster) as caught:
        clusters["isambart"]
    assert caught.value.hint == "Did you mean 'isambard'?"
    with pytest.raises(UsageProblem, match="slrum"):
        clusters["isambard"]


def test_the_environment_is_an_allow_list():
    source = {"PATH": "/bin", "LC_ALL": "C", "MY_TOKEN": "x", "JPY_PARENT_PID": "1", "WANTED_A": "1", "JUPYTER_REMOTE_GPU_GATEWAY": "f"}
    assert allowed((), source) == {"PATH": "/bin", "LC_ALL": "C"}
    assert allowed(("WANTED_*",), source) == {"PATH": "/bin", "LC_ALL": "C", "WANTED_A": "1"}
    assert not is_allowed("JPY_PARENT_PID", ("*",))
    assert refuse_others({"TZ": "UTC"}) == {"TZ": "UTC"}
    for name in ("MY_TOKEN", "A=B", ""):
        with pytest.raises(UsageProblem):
            refuse_others({name: "x"})


def test_the_bundle_is_built_once_for_its_content_and_again_when_it_was_removed(places):
    first = Bundle()
    path = first.path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert Bundle().path() == path
    before = path.read_bytes()
    path.unlink()
    assert first.path() == path
    assert path.read_bytes() == before


def test_the_bundle_has_each_module_as_source_and_compiled(places):
    names = zipfile.ZipFile(Bundle().path()).namelist()
    sources = {name for name in names if name.endswith(".py")}
    assert {"__main__.py", "remote_gpu/__init__.py", "remote_gpu/node/__main__.py"} <= sources
    assert {f"{name}c" for name in sources} == set(names) - sources


async def test_the_bundle_runs_without_anything_of_ours_installed(places):
    environment = {"JUPYTER_REMOTE_GPU_FOLDER": os.environ["JUPYTER_REMOTE_GPU_FOLDER"]}
    answer = await ask([sys.executable, "-I", "-S", str(Bundle().path()), "list"], step="Listing", env=environment, timeout=20)
    assert answer["sessions"] == []


def test_other_sources_make_another_bundle(places, tmp_path):
    package = tmp_path / "remote_gpu"
    for name in (*bundle_module._SHARED, "node/__init__.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    one = Bundle(package).digest
    (package / "node/__init__.py").write_text("x = 1\n")
    assert Bundle(package).digest != one
