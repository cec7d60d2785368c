"""What a front keeps in its folder: the signing key in the connection file, and how far it came."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_gpu.errors import NotWritable
from remote_gpu.folders import MAX_SOCKET_PATH, check_private, private_folder, write_private
from remote_gpu.frames import Lane

__all__ = ["PORTS", "ConnectionFile", "Cursor", "read_cursor", "remove_folder"]

PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
"""With ``transport: ipc`` a port is the number at the end of a socket's path: ``<folder>/k-1``."""

_NAME = "c.json"
_CURSOR = "cursor"
_LAYOUT = struct.Struct("=4sQQQ")
_MAGIC = b"JRG1"
_LANES = (Lane.IOPUB, Lane.SHELL, Lane.CONTROL)


@dataclass(frozen=True, slots=True)
class ConnectionFile:
    """The connection file of a front, mode 0600 in a folder of mode 0700."""

    path: Path
    info: dict[str, Any]
    """As jupyter_client's `load_connection_info` takes it; `key` is bytes."""

    @classmethod
    def make(cls, folder: Path, kernel_name: str) -> ConnectionFile:
        """Write it into `folder`. A front that comes back to its folder keeps its key, so its clients stay."""
        longest = len(bytes(folder / ".k-1"))
        if longest > MAX_SOCKET_PATH:
            raise NotWritable(
                f"The path {folder} is {longest} bytes long, too long for a socket.",
                hint="Set JUPYTER_REMOTE_GPU_FOLDER to a short path.",
            )
        private_folder(folder)
        info = {f"{channel}_port": port for channel, port in PORTS.items()}
        file = cls(
            folder / _NAME,
            info
            | {
                "transport": "ipc",
                "ip": str(folder / "k"),
                "key": _old_key(folder / _NAME) or secrets.token_hex(32).encode(),
                "signature_scheme": "hmac-sha256",
                "kernel_name": kernel_name,
            },
        )
        file.write()
        return file

    def write(self) -> None:
        """Write the file (again)."""
        write_private(self.path, json.dumps(self.info | {"key": self.info["key"].decode()}, indent=1))


def _old_key(path: Path) -> bytes:
    try:
        check_private(path.parent)
        found = path.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            return b""
        key = json.loads(path.read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError, NotWritable):
        return b""
    return key.encode() if isinstance(key, str) and len(key) >= 32 else b""  # noqa: PLR2004


class Cursor:
    """The numbers last handed to the clients of a front, in a mapped file: they survive a gateway that is killed."""

    def __init__(self, folder: Path) -> None:
        path = folder / _CURSOR
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _LAYOUT.size)
            self._map = mmap.mmap(descriptor, _LAYOUT.size)
        except OSError as error:
            raise NotWritable(f"Cannot write {path}: {error.strerror}.") from error
        finally:
            os.close(descriptor)
        self._numbers = list(read_cursor(folder).values()) or [0, 0, 0]

    def put(self, lane: Lane, number: int) -> None:
        """Remember that everything up to `number` of `lane` was handed over."""
        self._numbers[_LANES.index(lane)] = number
        _LAYOUT.pack_into(self._map, 0, _MAGIC, *self._numbers)

    def close(self) -> None:
        """Let go of the file; it stays."""
        self._map.close()


def read_cursor(folder: Path) -> dict[Lane, int]:
    """How far the front of `folder` came, per lane; {} when nobody kept that."""
    try:
        magic, *numbers = _LAYOUT.unpack((folder / _CURSOR).read_bytes())
    except (OSError, struct.error):
        return {}
    return dict(zip(_LANES, numbers, strict=True)) if magic == _MAGIC else {}


def remove_folder(folder: Path) -> None:
    """Remove a front's folder and the files that a front has; harmless when something of it is gone."""
    names = [_NAME, _CURSOR, *(f"{kind}-{port}" for port in PORTS.values() for kind in "kb")]
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
