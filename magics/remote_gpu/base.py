"""Where this user's private folders begin, on a node and beside a gateway. Imports nothing: the quickest commands need it."""

from __future__ import annotations

import os

__all__ = ["ENDED", "MAX_SOCKET_PATH", "base_folder"]

ENDED = "JRG-ENDED "
"""What the line of a session's log begins with that says why it ended; a gateway reads it that was not there then."""

MAX_SOCKET_PATH = 100
"""Bytes that a socket's path may have; the smallest limit among the systems we run on is 104 with its NUL."""

_ROOM_FOR_NAMES = 44  # "/<session>/<socket>" below a base folder


def base_folder() -> str:
    """$JUPYTER_REMOTE_GPU_FOLDER, or ``jrg-UID`` in the temporary folder when that leaves room for a socket's path."""
    chosen = os.environ.get("JUPYTER_REMOTE_GPU_FOLDER")
    if chosen:
        return chosen
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  who uses the folder checks that it is private
    if len(os.fsencode(temporary)) > MAX_SOCKET_PATH - _ROOM_FOR_NAMES - 16 or not os.path.isdir(temporary):  # noqa: PTH112  see above
        temporary = "/tmp"  # noqa: S108
    return os.path.join(temporary, f"jrg-{os.getuid()}")  # noqa: PTH118
