"""A Python that is made on a host, by the real pip from a folder of wheels."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.fakes.ssh import FakeHost, FakeSsh

from jupyter_remote_gpu.clusters.logins import Logins
from jupyter_remote_gpu.looking.environment import bootstrap
from remote_gpu.errors import NotWritable, StartFailed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def wheel(folder: Path, name: str, version: str) -> None:
    """A wheel that says its name and version, and nothing else."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


@pytest.fixture
def host(places, monkeypatch) -> FakeHost:
    wheels = places.base / "wheels"
    wheels.mkdir()
    for name, version in (("ipykernel", "7.9.9"), ("ipykernel", "8.0.0"), ("extra", "1.0")):
        wheel(wheels, name, version)
    ssh = FakeSsh(places.base / "ssh", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    monkeypatch.setenv("PATH", ssh.path)
    made = ssh.host("box")
    made.command("python3", f'exec {sys.executable} "$@"')
    return made


@pytest.fixture
async def login(host):
    logins = Logins()
    yield logins.of("box")
    await logins.of("box").end()
    await logins.aclose()


async def test_a_python_is_made_and_made_again_and_is_then_brought_up_to_date(host, login):
    said: list[str] = []
    made = await bootstrap(login, {}, said.append)
    python = host.home / ".local/share/jupyter-remote-gpu/env/bin/python"
    assert made == {"python": str(python), "version": ".".join(map(str, sys.version_info[:3])), "ipykernel": "7.9.9", "prologue": []}
    assert any(line.startswith("Making an environment in") for line in said)
    assert said[-1].endswith("with ipykernel 7.9.9.")
    again: list[str] = []
    await bootstrap(login, {}, again.append, packages=["extra"])
    assert any("already" in line for line in again)
    assert list(python.parent.parent.glob("lib/python*/site-packages/extra-1.0.dist-info"))
    python.unlink()  # as one that was cut short, or whose Python is gone
    assert (await bootstrap(login, {}, said.append))["ipykernel"] == "7.9.9"


async def test_an_environment_that_works_stays_when_another_cannot_be_made_in_its_place(host, login):
    made = await bootstrap(login, {}, lambda _: None)
    other = host.command(
        "python3", """[ "$2" = -c ] && echo "JRG-PYTHON|$4|3.10.1||yes|$4 /usr" || { echo "Error: no such luck." >&2; exit 1; }"""
    )
    assert other.exists()
    with pytest.raises(StartFailed, match="no such luck"):
        await bootstrap(login, {}, lambda _: None, version="3.10")
    assert subprocess.run([made["python"], "-c", "pass"]).returncode == 0
    assert sorted(os.listdir(host.home / ".local/share/jupyter-remote-gpu")) == ["env"]


async def test_a_package_that_cannot_be_had_is_told_with_pips_words(host, login):
    with pytest.raises(StartFailed, match="cannot be had from box") as caught:
        await bootstrap(login, {}, lambda _: None, packages=["nothing-of-the-kind"])
    assert "nothing-of-the-kind" in caught.value.message


async def test_a_full_disk_is_told(host, login):
    host.command(
        "python3",
        f'case "$*" in *venv*env) echo "OSError: [Errno 28] No space left on device" >&2; exit 1 ;; esac; exec {sys.executable} "$@"',
    )
    with pytest.raises(NotWritable, match="box is full"):
        await bootstrap(login, {}, lambda _: None)


async def test_cancelling_ends_pip_over_there(host, login, wait_until):
    host.command(
        "python3",
        f'case "$*" in *-m\\ venv*) echo $$ > {host.folder}/pid; exec sleep 60 ;; esac; exec {sys.executable} "$@"',
    )
    making = asyncio.create_task(bootstrap(login, {}, lambda _: None))
    pid = host.folder / "pid"
    async with asyncio.timeout(30):
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.02)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert wait_until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), 10)
