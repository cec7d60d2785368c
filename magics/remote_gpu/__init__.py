"""Run notebook cells on remote GPU nodes: ``%load_ext remote_gpu``, then ``%%remote_gpu`` on a cell.

This package is the light half: what runs in the user's kernel (the magics) and what runs on the node
(`remote_gpu.node`). Importing it imports nothing else, because the node pays for each import at every start.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers take it; the module typing takes longer to import than Python to start
if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics in `shell`; IPython calls this for ``%load_ext remote_gpu``."""
    from remote_gpu.magics import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics out of `shell` again; remote sessions keep running."""
    from remote_gpu.magics import unload

    unload(shell)
