"""``jupyter remote-gpu doctor``: look at each part of the set-up, and say what to mend.

Each check answers on its own, so that one broken part does not hide the next.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from jupyter_remote_gpu import __version__
from jupyter_remote_gpu.cluster_file import ClusterFile
from jupyter_remote_gpu.settings import RemoteGpu, Settings
from remote_gpu.discovery import GATEWAY_VARIABLE, find_gateway, find_or_start_gateway, runtime_folder
from remote_gpu.errors import RemoteGpuError
from remote_gpu.folders import MAX_SOCKET_PATH, node_folder
from remote_gpu.gateway import Gateway, LoginInfo

__all__ = ["Finding", "Verdict", "examine"]

_ENOUGH_SPACE = 200 << 20  # bytes; journals and blobs live in the folder
_ROOM = 40  # bytes that names below the base folder need in a socket's path
_QUICK = 10  # seconds for a program to say its version
_SOON = 7200  # seconds before a certificate ends
_PYTHON_TIME = 60  # seconds for the node's Python to import ipykernel, on a cold disk


class Verdict(StrEnum):
    """How a check came out."""

    GOOD = "ok"
    WARNING = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it (empty when nothing)."""

    what: str
    verdict: Verdict
    found: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """All checks, in the order in which problems build on each other."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        _server_extension,
        _lab_extension,
        _kernelspec,
        _folders,
        _clusters_python,
        _ssh,
        _your_clusters,
        _gateway,
    ]
    for check in checks:
        try:
            yield from check()
        except (RemoteGpuError, OSError) as error:
            yield Finding(check.__name__.strip("_").replace("_", " "), Verdict.BAD, str(error))


def _version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _versions() -> Iterator[Finding]:
    parts = [f"{name} {_version_of(name)}" for name in ("jupyter_server", "jupyter_client", "ipykernel", "ipython", "pyzmq", "jupyterlab")]
    yield Finding("versions", Verdict.GOOD, f"jupyter-remote-gpu {__version__} on Python {platform.python_version()}; {', '.join(parts)}")
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        mend = "Unset it: without byte code every kernel start takes two to four times as long."
        yield Finding("byte code", Verdict.WARNING, "PYTHONDONTWRITEBYTECODE is set", mend)


def _server_extension() -> Iterator[Finding]:
    from jupyter_core.paths import jupyter_config_path
    from jupyter_server.extension.config import ExtensionConfigManager

    config = ExtensionConfigManager(read_config_path=jupyter_config_path())
    if config.get_jpserver_extensions().get("jupyter_remote_gpu"):
        yield Finding("server extension", Verdict.GOOD, "enabled")
        return
    mend = f"Run `{sys.executable} -m jupyter server extension enable jupyter_remote_gpu` and start the server again."
    yield Finding("server extension", Verdict.BAD, "not enabled in this environment", mend)


def _lab_extension() -> Iterator[Finding]:
    from jupyter_core.paths import jupyter_path

    for folder in jupyter_path("labextensions"):
        if (Path(folder) / "jupyter-remote-gpu" / "package.json").exists():
            yield Finding("JupyterLab panel", Verdict.GOOD, folder)
            return
    mend = "Install the wheel again: `pip install --force-reinstall --no-deps jupyter-remote-gpu`. %%remote_gpu works without the panel."
    yield Finding("JupyterLab panel", Verdict.WARNING, "not installed", mend)


def _kernelspec() -> Iterator[Finding]:
    from jupyter_client.kernelspec import KernelSpecManager

    from jupyter_remote_gpu.kernelspecs import PREFIX

    names = sorted(name for name in KernelSpecManager().find_kernel_specs() if name.startswith(PREFIX))
    if names:
        yield Finding("kernelspecs", Verdict.GOOD, ", ".join(names))
        return
    mend = "Start a Jupyter server (or `jupyter remote-gpu serve`) once: it writes them. %%remote_gpu works without them."
    yield Finding("kernelspecs", Verdict.WARNING, "none for a cluster", mend)


def _folders() -> Iterator[Finding]:
    for what, folder in (("folder", node_folder()), ("runtime folder", runtime_folder())):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor"):
                free = shutil.disk_usage(folder).free
        except OSError as error:
            yield Finding(what, Verdict.BAD, f"{folder} is not writable: {error.strerror}", "Mend its permissions, or choose another one.")
            continue
        verdict = Verdict.GOOD if free >= _ENOUGH_SPACE else Verdict.WARNING
        mend = "" if free >= _ENOUGH_SPACE else "Free some space: output that a client has yet to fetch is kept there."
        yield Finding(what, verdict, f"{folder} is private and writable, {free >> 20} MB free", mend)
    if len(os.fsencode(node_folder())) > MAX_SOCKET_PATH - _ROOM:
        yield Finding("folder", Verdict.BAD, "its path is too long for sockets", "Set JUPYTER_REMOTE_GPU_FOLDER to a shorter path.")


def _settings() -> Settings:
    from jupyter_server.serverapp import ServerApp

    server = ServerApp()
    server.load_config_file()
    return RemoteGpu(config=server.config).freeze()


def _clusters_python() -> Iterator[Finding]:
    python = _settings().local_python
    command = [python, "-c", "import sys, ipykernel; print(ipykernel.__version__, sys.version.split()[0])"]
    what = "Python of local sessions"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PYTHON_TIME, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(what, Verdict.BAD, f"{python} does not run: {error}", "Set RemoteGpu.local_python to a Python that has ipykernel.")
        return
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding(what, Verdict.BAD, f"{python} has no ipykernel: {words}", f"Run `{python} -m pip install 'ipykernel>=7'`.")
        return
    kernel, version = done.stdout.split()
    yield Finding(what, Verdict.GOOD, f"{python} ({version}) with ipykernel {kernel}")


def _ssh() -> Iterator[Finding]:
    try:
        done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=_QUICK, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(
            "ssh", Verdict.WARNING, f"it does not run: {error}", "Install the OpenSSH client; clusters on other machines need it."
        )
        return
    yield Finding("ssh", Verdict.GOOD, (done.stderr or done.stdout).strip().partition(",")[0])


def _your_clusters() -> Iterator[Finding]:
    settings = _settings()
    if not settings.own_clusters:
        yield Finding("your clusters", Verdict.GOOD, "a setting allows none (RemoteGpu.own_clusters)")
        return
    file = ClusterFile(settings.clusters_file)
    if file.problem is not None:
        yield Finding("your clusters", Verdict.BAD, file.problem.message, file.problem.hint)
        return
    hidden = sorted(set(file.clusters) & set(settings.clusters))
    names = ", ".join(file.clusters) or "none yet"
    if hidden:
        mend = f"Rename {hidden[0]} there: the Jupyter server's configuration has a cluster of that name, which counts."
        yield Finding("your clusters", Verdict.WARNING, f"{names} (in {file.path}), of which {', '.join(hidden)} cannot be used", mend)
        return
    yield Finding("your clusters", Verdict.GOOD, f"{names} (in {file.path})")


def _gateway() -> Iterator[Finding]:
    named = os.environ.get(GATEWAY_VARIABLE)
    was_there = find_gateway() is not None
    if named and not was_there:
        yield Finding("gateway", Verdict.WARNING, f"the one that {GATEWAY_VARIABLE} names is gone", "Start the Jupyter server again.")
    record = find_or_start_gateway()
    with Gateway(record) as gateway:
        info, clusters, logins = gateway.info(), gateway.clusters(), gateway.logins()
    how = "runs" if was_there else "started"
    yield Finding("gateway", Verdict.GOOD, f"{how} as process {record.pid} ({info.kind}), version {info.version}")
    if info.version != __version__:
        mend = "Start it again, so that it is the version that is installed."
        yield Finding("gateway", Verdict.WARNING, f"its version is {info.version}, this is {__version__}", mend)
    for cluster in clusters:
        verdict = Verdict.BAD if cluster.state == "unreachable" else Verdict.GOOD
        yield Finding(f"cluster {cluster.name}", verdict, ": ".join(filter(None, (cluster.label or cluster.state, cluster.detail))))
    for login in logins:
        yield from _login(login)


def _login(login: LoginInfo) -> Iterator[Finding]:
    """What the user has to do for a host, now or soon."""
    what, again = f"login {login.host}", f"`jupyter remote-gpu login {login.host}` asks you."
    if login.state == "refused":
        yield Finding(what, Verdict.WARNING, login.detail or "it was refused", again)
    elif login.expires and (left := datetime.fromisoformat(login.expires).timestamp() - time.time()) < _SOON:
        when = "has ended" if left < 0 else f"ends in {int(left // 60)} min"
        yield Finding(what, Verdict.WARNING, f"your SSH certificate {when}", "Renew it as your site says; sessions go on meanwhile.")
    elif login.state == "in":
        yield Finding(what, Verdict.GOOD, "works")
