"""A gateway of one process: each session is a plain local ipykernel on ipc sockets, without link, front or journal.

``load(shell)`` loads the magics with it, in a notebook kernel or a terminal.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from remote_gpu.errors import UnknownCluster, UnknownSession
from remote_gpu.gateway import AttachmentInfo, ClusterInfo, SessionInfo


class PlainGateway:
    """Speaks the methods of `remote_gpu.gateway.Gateway` that the magics use."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="jp"))
        self.choices = self.folder / "choices"
        self.record = SimpleNamespace(pid=os.getpid(), choices=self.choices, kind="plain")
        self.chosen = "auto"
        self._sessions: dict[str, SessionInfo] = {}
        self._kernels: dict[str, subprocess.Popen[bytes]] = {}
        atexit.register(self.close)

    def close(self) -> None:
        for kernel in self._kernels.values():
            kernel.kill()
            kernel.wait()
        self._kernels.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def clusters(self) -> tuple[ClusterInfo, ...]:
        return (ClusterInfo("plain", "local", "ready", label="CPU only"), ClusterInfo("other", "local", "ready", label="CPU only"))

    def sessions(self) -> tuple[SessionInfo, ...]:
        return tuple(self._sessions.values())

    def all_sessions(self) -> tuple[tuple[SessionInfo, ...], tuple[str, ...]]:
        return self.sessions(), ()

    def session(self, session: str, **_: Any) -> SessionInfo:
        for info in self._sessions.values():
            if session in (info.id, info.name):
                return info
        raise UnknownSession(f"There is no session {session!r}.")

    def start_session(self, *, name: str = "default", cluster: str = "auto", **_: Any) -> SessionInfo:
        cluster = "plain" if cluster == "auto" else cluster
        if cluster not in ("plain", "other"):
            raise UnknownCluster(f"There is no cluster {cluster!r}.", hint="Did you mean plain?")
        for info in self._sessions.values():
            if (info.name, info.cluster) == (name, cluster):
                return info
        number = uuid.uuid4().hex[:10]
        self._start(number)
        info = SessionInfo(
            number, name, cluster, state="RUNNING", node="here", label="CPU only", why="It is the only one.", kernel={"state": "idle"}
        )
        self._sessions[number] = info
        return info

    def _start(self, number: str) -> None:
        folder = self.folder / number
        folder.mkdir(exist_ok=True)
        file = folder / "c.json"
        ports = {f"{name}_port": port for port, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}
        info = {"transport": "ipc", "ip": str(folder / "k"), "key": uuid.uuid4().hex, "signature_scheme": "hmac-sha256", **ports}
        file.touch(0o600)
        file.write_text(json.dumps(info))
        command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", str(file), "--quiet"]
        environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        self._kernels[number] = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not all((folder / f"k-{port}").exists() for port in ports.values()) and time.monotonic() < deadline:
            time.sleep(0.01)

    def attach(self, session: str, **_: Any) -> AttachmentInfo:
        return AttachmentInfo("a", self.folder / session / "c.json", self.session(session))

    def detach(self, session: str, attachment: str) -> None:
        pass

    def stop_session(self, session: str) -> None:
        del self._sessions[session]
        kernel = self._kernels.pop(session)
        kernel.kill()
        kernel.wait()

    def interrupt(self, session: str) -> SessionInfo:
        os.kill(self._kernels[session].pid, 2)
        return self.session(session)

    def logs(self, session: str, *, lines: int = 100) -> str:
        return f"{lines} lines of {session}"

    def choice(self, **_: Any) -> str:
        return self.chosen

    def choose(self, cluster: str) -> None:
        """As if somebody had chosen a cluster in the sidebar."""
        self.chosen = cluster
        self.choices.write_text(cluster)


def load(shell: Any) -> PlainGateway:
    """Load the magics into `shell` with a gateway of its own."""
    from remote_gpu import magics

    gateway = PlainGateway()
    magics.load(shell, connect_gateway=lambda: gateway)  # type: ignore[arg-type, return-value]
    return gateway
