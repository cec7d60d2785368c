"""Which environment variables cross to a node: an allow-list, because a server's environment is full of secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from remote_gpu.errors import UsageProblem

__all__ = ["ALLOWED", "NEVER", "allowed", "is_allowed", "refuse_others"]

ALLOWED = (
    "CONDA_PREFIX",
    "CUDA_DEVICE_ORDER",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "HOME",
    "IPYTHONDIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_REMOTE_GPU_FOLDER",
    "JUPYTER_RUNTIME_DIR",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PATH",
    "ROCM_PATH",
    "ROCR_VISIBLE_DEVICES",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
)
"""What crosses without being asked for, on this machine; on another one each of these has its own value already."""

NEVER = ("JPY_*", "JUPYTERHUB_*", "JUPYTER_TOKEN", "JUPYTER_REMOTE_GPU_GATEWAY", "SSH_AUTH_SOCK")
"""What no setting lets through: it opens this server or another door of the user's."""

_VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_allowed(name: str, also: Iterable[str] = ()) -> bool:
    """Whether the variable `name` may cross; `also` has the administrator's further patterns."""
    if any(_matches(name, pattern) for pattern in NEVER):
        return False
    return any(_matches(name, pattern) for pattern in (*ALLOWED, *also))


def allowed(also: Iterable[str] = (), source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those variables of `source` (this process's environment) that may cross."""
    patterns = tuple(also)
    environment = os.environ if source is None else source
    return {name: value for name, value in environment.items() if is_allowed(name, patterns)}


def refuse_others(wanted: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """`wanted`, asked for by name; raises `UsageProblem` for one that may not cross, so that none is lost in silence."""
    patterns = tuple(also)
    for name in wanted:
        if not _VALID.fullmatch(name) or not is_allowed(name, patterns):
            message = f"The environment variable {name!r} may not cross to a node."
            raise UsageProblem(message, hint="The setting RemoteGpu.environment lists what may.", variable=name)
    return dict(wanted)


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
