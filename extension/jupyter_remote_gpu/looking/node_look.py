"""The test cell: what a session sees where it runs. Its text is sent to the session's kernel, so it needs the node's Python alone."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import urllib.request

_PACKAGES = "pypi.org"
_SECONDS = 4


def node_look(scratch: str) -> str:
    """JSON of what is here; `scratch` is a folder to look for, or empty."""
    import ipykernel

    return json.dumps(
        {
            "node": platform.node(),
            "python": sys.executable,
            "python_version": platform.python_version(),
            "ipykernel": ipykernel.__version__,
            "arch": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "visible_gpus": next(
                (os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES") if name in os.environ), None
            ),
            "gpus": _gpus(),
            "internet": _internet(),
            "scratch_inode": _inode(scratch),
        }
    )


def _gpus() -> list[str]:
    """The names that the NVIDIA driver gives."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _internet() -> bool:
    """Whether packages can be had, through a proxy where the environment names one."""
    try:
        if urllib.request.getproxies().get("https"):
            request = urllib.request.Request(f"https://{_PACKAGES}/simple/pip/", method="HEAD")
            urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310  an address of ours
        else:
            socket.create_connection((_PACKAGES, 443), timeout=_SECONDS).close()
    except OSError:
        return False
    return True


def _inode(folder: str) -> int:
    """The number of a folder that can be written, by which it is known to be the same elsewhere; 0 when it is not here."""
    try:
        return os.stat(folder).st_ino if folder and os.access(folder, os.W_OK) else 0  # noqa: PTH116  a text
    except OSError:
        return 0
