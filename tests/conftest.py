"""Every test gets Jupyter folders of its own, and leaves no process behind.

Autouse: `places` gives each test a short private folder and points JUPYTER_REMOTE_GPU_FOLDER and the Jupyter and
IPython folders into it. Where a server is started once for a module, its fixture asks for `module_places`, and the module
says ``pytestmark = pytest.mark.shared_places``, so that its tests look where the server looks.

When a set of folders is taken down, what is *meant* to outlive its starter there (a headless gateway, a warm process) is told to
end; any other process that still names the folder in its environment or command line is a leftover: it is ended
by its pid, and the test fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

pytest.register_assert_rewrite("tests.contracts", "tests.magics.login_cells")
pytest_plugins = ["tests.lab.plugin"]

ROOT = Path(__file__).resolve().parent.parent

# Byte code switched off in the environment would double every start of a process below us.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Without this, a front's or a server's idea of the gateway could come from outside of the tests.
for _name in ("JUPYTER_REMOTE_GPU_GATEWAY", "JPY_PARENT_PID", "JPY_SESSION_NAME"):
    os.environ.pop(_name, None)
# Processes below us import the tree that is tested, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "magics"), str(ROOT / "extension")])
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Private folders of one test (or one module): `base` holds the others."""

    base: Path

    @property
    def folder(self) -> Path:
        """The value of JUPYTER_REMOTE_GPU_FOLDER."""
        return self.base / "r"

    @property
    def runtime(self) -> Path:
        return self.base / "rt"

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of the test have in their environment."""
        return {
            "JUPYTER_REMOTE_GPU_FOLDER": str(self.folder),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "JUPYTER_DATA_DIR": str(self.base / "data"),
            "JUPYTER_CONFIG_DIR": str(self.base / "config"),
            "IPYTHONDIR": str(self.base / "ipython"),
            "MPLCONFIGDIR": str(Path(tempfile.gettempdir()) / "jrg-test-matplotlib"),
        }


def _processes_of(places: Places) -> dict[int, str]:
    """Pids (with their command lines) of live processes, other than this one, that name the folder."""
    needle, found, me = os.fsencode(places.base) + b"/", {}, str(os.getpid())
    for pid in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not pid.isdigit() or pid == me:
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
            if not command:
                continue  # a thread of the system, or a zombie
            with open(f"/proc/{pid}/environ", "rb") as file:
                if needle in command or needle in file.read():
                    found[int(pid)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def _told_to_end(places: Places) -> Iterator[int]:
    for record in places.runtime.glob("remote-gpu-gateway-*.json"):
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(record.read_text())
            if content.get("kind") == "headless":
                yield int(content["pid"])
    for pid, command in _processes_of(places).items():
        if "zygote" in command or f" -M -N -f -S {places.folder}/m/" in command:  # a warm process, a login to a cluster
            yield pid


def _end(pids: Iterator[int] | dict[int, str], how: signal.Signals) -> None:
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, how)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _take_down(places: Places) -> dict[int, str]:
    """End what lives on in `places` and remove them; returns what should not have been there."""
    _end(_told_to_end(places), signal.SIGTERM)
    left = {} if _wait_until(lambda: not _processes_of(places), 5) else _processes_of(places)
    if left:
        _end(left, signal.SIGTERM)
        if not _wait_until(lambda: not _processes_of(places), 2):
            _end(_processes_of(places), signal.SIGKILL)
            _wait_until(lambda: not _processes_of(places), 5)
    shutil.rmtree(places.base, ignore_errors=True)
    return left


@contextlib.contextmanager
def _places() -> Iterator[Places]:
    # Directly below /tmp and short: a Unix socket's path has room for about 100 bytes.
    places = Places(Path(tempfile.mkdtemp(dir="/tmp", prefix="j")))
    for value in (places.folder, places.runtime):
        value.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in places.environment.items():
            patch.setenv(name, value)
        patch.delenv("JUPYTER_REMOTE_GPU_GATEWAY", raising=False)
        try:
            yield places
        finally:
            left = _take_down(places)
    if left:
        pytest.fail("processes were left behind:\n" + "\n".join(f"  {pid}: {command}" for pid, command in left.items()))


@pytest.fixture(scope="module")
def module_places() -> Iterator[Places]:
    """Folders that all tests of a module share; its tests carry the mark `shared_places`."""
    with _places() as places:
        yield places


@pytest.fixture(autouse=True)
def places(request: pytest.FixtureRequest) -> Iterator[Places]:
    """Folders of this test alone, unless the module shares its own."""
    if request.node.get_closest_marker("shared_places"):
        yield request.getfixturevalue("module_places")
        return
    with _places() as mine:
        yield mine


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], float], bool]:
    """``wait_until(condition, seconds)``: true as soon as the condition holds, false after the time."""
    return _wait_until
