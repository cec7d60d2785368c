"""Small steps of process life: forks that detach, descriptors, environments, and who a process id really is."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import remote_gpu
from remote_gpu.folders import node_folder
from remote_gpu.node.quick import link_name

__all__ = [
    "adopt_orphans",
    "alive",
    "bundle_path",
    "command_for",
    "detach_stdio",
    "exec_environment",
    "give_back_memory",
    "keep_only",
    "kill_children",
    "make_files_as_the_user_wants",
    "make_private_files",
    "point_to",
    "replace_environment",
    "start_time",
    "zygote_path",
]

_EXEC_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME")
_EXEC_PREFIXES = ("LC_", "LD_", "DYLD_", "MALLOC_", "PYTHONUSER", "PYTHONNOUSER", "PYTHONUTF8", "PYTHONHASHSEED")
_OWN_NAMES = ("JUPYTER_REMOTE_GPU_FOLDER",)
_umasks: list[int] = []


def bundle_path() -> str:
    """The entry of sys.path that this package was imported from: a folder or a zip file."""
    return str(Path(next(iter(remote_gpu.__path__))).parent)


def command_for(*arguments: str) -> list[str]:
    """A command that runs this package's node half in the same Python, from a folder or a zip file alike."""
    start = "import sys; sys.path[0] = sys.argv.pop(1); from remote_gpu.node.__main__ import main; main(sys.argv[1:])"
    return [sys.executable, "-Xfrozen_modules=off", "-c", start, bundle_path(), *arguments]


def exec_environment(environment: dict[str, str]) -> dict[str, str]:
    """The part of `environment` that a new process needs at its birth, before `replace_environment` gives it the rest.

    A process's environment at its birth stays readable in /proc for its whole life and that of its forks, so it holds
    nothing but what the loader and Python read when they start.
    """
    own = {name: os.environ[name] for name in _OWN_NAMES if name in os.environ}
    chosen = {name: value for name, value in environment.items() if name in _EXEC_NAMES or name.startswith(_EXEC_PREFIXES)}
    return {"PATH": os.defpath, **chosen, **own}


def zygote_path(environment: dict[str, str]) -> Path:
    """The socket of the zygote for this Python, this version of this package and `environment` at birth."""
    bundle = bundle_path()
    version = max(path.stat().st_mtime_ns for path in (Path(bundle), *Path(bundle).glob("remote_gpu/**/*.py")))
    described = [sys.executable, sys.version, bundle, version, sorted(exec_environment(environment).items())]
    digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]
    return node_folder("z") / f"{digest}.sock"


def point_to(zygote: Path) -> None:
    """Let `remote_gpu.node.quick` find this zygote first."""
    link = zygote.with_name(link_name(bundle_path()))
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(zygote.name)
    temporary.replace(link)


def replace_environment(environment: dict[str, str]) -> None:
    """Make os.environ exactly `environment` (and where our own folder is)."""
    own = {name: os.environ[name] for name in _OWN_NAMES if name in os.environ}
    os.environ.clear()
    os.environ.update({**environment, **own})
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))


def keep_only(*descriptors: int) -> None:
    """Close every descriptor above 2 but these."""
    folder = "/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd"
    for name in os.listdir(folder):  # noqa: PTH208  descriptors, not files
        descriptor = int(name)
        if descriptor > 2 and descriptor not in descriptors:  # noqa: PLR2004  the standard streams
            try:
                os.close(descriptor)
            except OSError:  # the listing's own
                continue


def make_private_files() -> None:
    """From now on, what this process and its children write is the user's alone."""
    _umasks.append(os.umask(0o077))


def make_files_as_the_user_wants() -> None:
    """Take `make_private_files` back, in a child that runs the user's code."""
    if _umasks:
        os.umask(_umasks[0])


def detach_stdio(log: Path | None) -> None:
    """Standard input from nowhere; output and errors to `log` (appended, mode 0600), or nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    target = null if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    for descriptor in {null, target}:
        if descriptor > 2:  # noqa: PLR2004  the standard streams
            os.close(descriptor)


def start_time(pid: int) -> float:
    """When a process started, in clock ticks since boot; 0.0 when it does not exist. With the pid it names one process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0.0
    fields = stat.rpartition(b")")[2].split()
    return 0.0 if fields[0] == b"Z" else float(fields[19])


def alive(pid: int, started: float) -> bool:
    """Whether the process `pid` that started at `started` still runs."""
    if pid <= 0:
        return False
    if Path("/proc/self/stat").exists():
        return start_time(pid) == started != 0.0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def adopt_orphans() -> None:
    """Become the parent of whatever the kernel leaves behind, so that `kill_children` finds it (Linux)."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    except (ImportError, OSError, AttributeError):
        return


def give_back_memory() -> None:
    """Return freed memory to the system, which glibc keeps after a burst."""
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError):
        return


def kill_children(spare: int = 0) -> bool:
    """Kill the children of this process, but not `spare`; True when there were some. Call again until False: theirs follow."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return False
    children = [int(pid) for pid in text.split() if int(pid) != spare]
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue
    return bool(children)
