"""How the node's half is run, once it is known where it lies and which Python runs it."""

from __future__ import annotations

from jupyter_remote_gpu.clusters.machines import Hello

__all__ = ["FOLDER_VARIABLE", "carried", "node_command"]

FOLDER_VARIABLE = "JUPYTER_REMOTE_GPU_FOLDER"

_QUICK_START = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from remote_gpu.node.__main__ import main; main()"


def node_command(python: str, bundle: str, *words: str) -> list[str]:
    """A command that needs no installed package: Python starts in half the time without looking for them."""
    return [python, "-I", "-S", "-c", _QUICK_START, bundle, *words]


def carried(hello: Hello, *words: str, folder: str = "") -> list[str]:
    """`node_command` for a machine that is reached without the cluster's prologue: what its Python needs of that goes along.

    `folder` is the base folder of sessions, where it is not the one that the node's half would take by itself.
    """
    variables = {"LD_LIBRARY_PATH": hello.library_path, FOLDER_VARIABLE: folder}
    settings = [f"{name}={value}" for name, value in variables.items() if value]
    command = node_command(hello.python, hello.bundle, *words)
    return ["env", *settings, *command] if settings else command
