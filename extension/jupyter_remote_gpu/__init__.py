"""The gateway: a Jupyter Server extension that knows clusters, starts remote sessions and keeps them.

Importing the package imports nothing of Jupyter, so that the provisioner's and the command line's start stay cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from jupyter_remote_gpu._version import __version__
except ImportError:  # a source tree that was never built
    __version__ = "0.0.0.dev0"

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["__version__"]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter-remote-gpu"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from jupyter_remote_gpu.app import RemoteGpuApp

    return [{"module": "jupyter_remote_gpu", "app": RemoteGpuApp}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    """For servers that load the extension by its module alone."""
    from jupyter_remote_gpu.app import RemoteGpuApp

    RemoteGpuApp._load_jupyter_server_extension(server)  # type: ignore[no-untyped-call]  # noqa: SLF001  jupyter_server's hook
