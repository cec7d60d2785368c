"""A cluster of which only the ways of data are there: an `ssh` and an `srun` that run their command here, and fail when they are told to."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fakes.data import _MAGICS

from jupyter_remote_gpu.clusters.machines import Done, Hello
from remote_gpu.errors import LinkProblem

__all__ = ["Steps"]

_PROGRAM = """#!{python}
import os, subprocess, sys, time
name, folder = os.path.basename(sys.argv[0]), os.path.dirname(sys.argv[0])
open(os.path.join(folder, name + ".runs"), "a").write("x")
words = sys.argv[sys.argv.index("--") + 1:]
def told(what):
    try:
        return open(os.path.join(folder, f"{{name}}.{{what}}")).read()
    except FileNotFoundError:
        return None
if (text := told("fails")) is not None:
    sys.exit(text)
if told("hangs") is not None:
    time.sleep(600)
argv = ["sh", "-c", words[1]] if name == "ssh" else words
if (rate := told("slow")) is None:
    os.execvp(argv[0], argv)
process = subprocess.Popen(argv, stdin=subprocess.PIPE, bufsize=0)
while data := os.read(0, int(rate) // 50):
    time.sleep(len(data) / int(rate))
    try:
        while data:
            data = data[os.write(process.stdin.fileno(), data):]
    except OSError:
        break
process.stdin.close()
sys.exit(process.wait())
"""


class Steps:
    """A `Machine`: this one, with programs of its own in `folder`."""

    name = "the login"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gone = False
        folder.mkdir()
        for name in ("ssh", "srun"):
            path = folder / name
            path.write_text(_PROGRAM.format(python=sys.executable))
            path.chmod(0o700)

    def tell(self, program: str, what: str, text: str | None = "") -> None:
        """Let a program do `what` from now on ("fails" with a text, "hangs", "slow" with bytes a second to the node); None: no more."""
        path = self.folder / f"{program}.{what}"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)

    def runs(self, program: str) -> int:
        """How often a program was run."""
        path = self.folder / f"{program}.runs"
        return len(path.read_text()) if path.exists() else 0

    async def hello(self, *, ask: bool = False) -> Hello:
        if self.gone:
            raise LinkProblem("The login is gone.")
        version = platform.python_version()
        return Hello("login", os.getuid(), "me", str(Path.home()), os.uname().machine, sys.executable, version, "", _MAGICS)

    async def run(self, argv: Sequence[str], *, given: str = "", limit: float = 0, env: Mapping[str, str] | None = None) -> Done:
        raise NotImplementedError

    async def appears(self, path: str, limit: float) -> bool:
        raise NotImplementedError

    async def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        await self.hello()
        return ["env", *argv], {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"}

    async def widen(self) -> bool:
        return False

    async def aclose(self) -> None:
        pass
