"""Whose the sessions of this kernel are: its notebook's, where somebody tells which one it is, or else this process's own.

A notebook's session outlives its kernel: a restarted kernel finds it again. A process without a known notebook (nbclient, papermill, a
terminal) is one run: its session is its own, so that two runs never share variables, and ends with it.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

__all__ = ["notebook_path", "own_name"]

_SESSION_NAME = "JPY_SESSION_NAME"
_INPUT_PATH = "PAPERMILL_INPUT_PATH"


def notebook_path(user_ns: Mapping[str, Any]) -> str:
    """The path of the notebook that this kernel belongs to, as VS Code or a Jupyter server tells it; "" when nobody does."""
    told = user_ns.get("__vsc_ipynb_file__")
    if isinstance(told, str) and told:
        return told
    return "" if _is_inherited() else os.environ.get(_SESSION_NAME, "")


def own_name(user_ns: Mapping[str, Any], kind: str) -> str:
    """What stands for this process in place of a notebook: the name of the notebook that papermill runs, or else `kind`, made unique."""
    told = user_ns.get(_INPUT_PATH) or os.environ.get(_INPUT_PATH)
    stem = PurePath(told).stem[:40] if isinstance(told, str) else ""
    return f"{stem or kind}-{_token(os.getpid())}" + (".ipynb" if stem else "")


@functools.cache
def _token(pid: int) -> str:  # noqa: ARG001  a forked child is another process, with a token of its own
    return secrets.token_hex(3)


@functools.cache
def _is_inherited() -> bool:
    """Whether the path is another kernel's, from whose cell this process was started (``!jupyter execute …``)."""
    mine = os.environ.get(_SESSION_NAME)
    try:
        inherited = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:  # no /proc here, or not ours to read
        return False
    return mine is not None and f"{_SESSION_NAME}={mine}".encode() in inherited
