"""The two verbs that somebody waits for, with next to no imports: a Python starts in 15 ms, and `json` alone takes as long again.

`start` hands the request, unread, to the zygote that is already there; the zygote reads it and answers for itself. Whatever is
out of the ordinary (no zygote, one of another version or environment) is left to `remote_gpu.node.launch`.
"""

from __future__ import annotations

import os
import sys
import time

from remote_gpu.base import base_folder

try:
    from _socket import AF_UNIX, SOCK_STREAM, socket
except ImportError:  # another Python than CPython; only slower
    from socket import AF_UNIX, SOCK_STREAM, socket  # type: ignore[assignment]

__all__ = ["attach", "link_name", "start"]

START_TIMEOUT = 60.0
"""Seconds that a start may take: a cold import of ipykernel from a network file system is slow."""

_ANSWER_LIMIT = 1 << 20
_LOOK_EVERY = 0.02  # seconds


def link_name(bundle: str) -> str:
    """The name, in the folder ``z``, of the link to the newest zygote of this Python and `bundle`.

    A name shared by accident does no harm: the zygote itself decides whether a request is for it.
    """
    import binascii

    return f"q-{binascii.crc32(os.fsencode(f'{sys.executable}|{sys.version}|{bundle}')):08x}"


def start(request: bytes, bundle: str) -> bytes | None:
    """The zygote's answer to `request` (one line of JSON each); None when the long way must be taken.

    That is also when the session is to have this process's environment: the zygote has that of an earlier one.
    """
    if b'"inherit": true' in request:
        return None
    folder = base_folder()
    try:
        found = os.lstat(folder)
        if found.st_uid != os.getuid() or found.st_mode & 0o077 or b"\n" in request.strip():
            return None
        peer = _connected(os.path.join(folder, "z", link_name(bundle)))  # noqa: PTH118  pathlib is one of the slow imports
        peer.sendall(request.strip() + b"\n")
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < _ANSWER_LIMIT:
            piece = peer.recv(65536)
            if not piece:
                return None
            answer += piece
        peer.close()
    except OSError:
        return None
    return None if b'"declined"' in answer[:40] else answer


def attach(session: str, patience: float = 0.0) -> bool:
    """Carry a gateway's stream between stdin/stdout and the session; False when it cannot be reached within `patience` seconds."""
    from remote_gpu.node.pump import pump

    if not (session.isascii() and session.isalnum()):
        return False
    path, deadline = os.path.join(base_folder(), "s", session, "s.sock"), time.monotonic() + patience  # noqa: PTH118
    while True:
        try:
            peer = _connected(path)
            break
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY)
    peer.settimeout(None)
    pump(peer.fileno())
    peer.close()
    return True


def _connected(path: str) -> socket:
    peer = socket(AF_UNIX, SOCK_STREAM)
    try:
        peer.settimeout(START_TIMEOUT)
        peer.connect(path)
    except OSError:
        peer.close()
        raise
    return peer
