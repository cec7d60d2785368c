"""Questions to a kernel that are not Jupyter's: control messages ``remote_gpu_request``, answered beside a running cell.

The content names the question in ``ask``; the answer is the content of ``remote_gpu_reply``. They run on the kernel's control
thread, so they only look, or change what no cell sees.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import os
import platform
import sys
import sysconfig
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remote_gpu.node.variables import Variables

__all__ = ["ASKS", "answer"]

Ask = Callable[["Variables", "dict[str, Any]"], "dict[str, Any]"]


def _hello(variables: Variables, content: dict[str, Any]) -> dict[str, Any]:
    """Which kernel this is, and what matters for what crosses: its Python, the versions of ``packages`` (None: not installed) and machine."""
    packages = content.get("packages") or ()
    return {
        "token": variables.token,
        "python": [*sys.version_info[:3]],
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "cwd": os.getcwd(),  # noqa: PTH109  a path object is no JSON
        "platform": sysconfig.get_platform(),
        "extensions": importlib.machinery.EXTENSION_SUFFIXES,
        "packages": {str(name): _version(str(name)) for name in packages},
    }


def _version(distribution: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _names(variables: Variables, _: dict[str, Any]) -> dict[str, Any]:
    """The user's names, each with what is known of its value."""
    hidden = variables.shell.user_ns_hidden
    shown = {name: value for name, value in list(variables.namespace.items()) if _users(name, value, hidden)}
    return {"names": {name: variables.held.describe(value) for name, value in shown.items()}}


def _users(name: str, value: object, hidden: Any) -> bool:
    return not name.startswith("_") and name not in hidden and not isinstance(value, types.ModuleType)


ASKS: dict[str, Ask] = {"hello": _hello, "vars": _names}
"""Questions by name. An entry gets the kernel's variables and the question's content, and returns JSON."""


def answer(variables: Variables, content: dict[str, Any]) -> dict[str, Any]:
    """The reply to `content`."""
    ask = ASKS.get(str(content.get("ask")))
    if ask is None:
        return {"status": "error", "ename": "UnknownAsk", "evalue": f"This node does not know the question {content.get('ask')!r}."}
    try:
        return {"status": "ok", **ask(variables, content)}
    except Exception as error:  # noqa: BLE001  the one who asks gets the answer, whatever it is
        return {"status": "error", "ename": type(error).__name__, "evalue": str(error)}
