"""The node's half as one file: a zip archive that a node's Python runs as it is, so nothing is installed there.

It holds the modules twice, as source and compiled for this Python: a node with the same Python skips the compiler,
any other compiles the source. Its name has the digest of its content, so a new version never replaces one in use.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from types import CodeType

from remote_gpu.errors import NotWritable
from remote_gpu.folders import node_folder

__all__ = ["Bundle"]

_SHARED = (
    "__init__.py",
    "base.py",
    "errors.py",
    "folders.py",
    "frames.py",
    "power.py",
    "transfer/__init__.py",
    "transfer/frames.py",
    "transfer/packed.py",
    "transfer/trees.py",
)
"""Modules of remote_gpu beside the package `node` that its modules import."""

_CLOUDPICKLE = "node/cloudpickle.py"

_START = "from remote_gpu.node.__main__ import main\nmain()\n"
_WHEN = (2020, 1, 1, 0, 0, 0)  # a fixed time: equal content makes equal bytes


class Bundle:
    """Builds the archive once per content and finds it again."""

    def __init__(self, package: Path | None = None) -> None:
        self._package = package or Path(str(import_module("remote_gpu").__file__)).parent
        self._digest = ""
        self._data = b""

    def path(self) -> Path:
        """The archive on this machine, mode 0600; written again when somebody has cleaned the folder up.

        Raises `NotWritable` when the folder or the disk refuses.
        """
        path = node_folder("b") / f"{self.digest[:16]}.pyz"
        if not path.exists():
            _write(path, self.data())
        return path

    @property
    def digest(self) -> str:
        """SHA-256 of the archive's sources and of the Python that compiles them, in hex."""
        if not self._digest:
            seal = hashlib.sha256(importlib.util.MAGIC_NUMBER + sys.version.encode())
            for name, source in self._sources():
                seal.update(f"{name}\0{len(source)}\0".encode() + source)
            self._digest = seal.hexdigest()
        return self._digest

    @property
    def sources_digest(self) -> str:
        """SHA-256 of the sources alone, in hex."""
        seal = hashlib.sha256()
        for name, source in self._sources():
            seal.update(f"{name}\0{len(source)}\0".encode() + source)
        return seal.hexdigest()

    def sources(self) -> bytes:
        """The sources, packed: what another machine needs to make the archive for a Python of its own (see `remote_gpu.node.boot`)."""
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, source in [*self._sources(), ("__main__.py", _START.encode())]:
                archive.writestr(zipfile.ZipInfo(name, _WHEN), source, zipfile.ZIP_DEFLATED)
        return target.getvalue()

    def data(self) -> bytes:
        """The archive's bytes."""
        if not self._data:
            self._data = self._build()
        return self._data

    def _sources(self) -> list[tuple[str, bytes]]:
        names = [*_SHARED, *sorted(path.relative_to(self._package).as_posix() for path in (self._package / "node").glob("**/*.py"))]
        return [(f"remote_gpu/{name}", self._source(name)) for name in names]

    def _source(self, name: str) -> bytes:
        # The node need not have cloudpickle: in the place of the module that imports it stands its own text, which is one file.
        path = Path(str(import_module("cloudpickle.cloudpickle").__file__)) if name == _CLOUDPICKLE else self._package / name
        return path.read_bytes()

    def _build(self) -> bytes:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, source in [*self._sources(), ("__main__.py", _START.encode())]:
                archive.writestr(zipfile.ZipInfo(name, _WHEN), source)
                archive.writestr(zipfile.ZipInfo(f"{name}c", _WHEN), _compiled(name, source))
        return target.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    """A .pyc that is valid whatever the time of its source: unchecked, by the source's hash (PEP 552)."""
    import marshal

    code: CodeType = compile(source, name, "exec", dont_inherit=True, optimize=0)
    flags = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source) + marshal.dumps(code)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        _keep_first(temporary, path)
    except OSError as error:
        message = f"Cannot write the node's half to {path}: {error.strerror}."
        raise NotWritable(message, hint="Free some space, or set JUPYTER_REMOTE_GPU_FOLDER to another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _keep_first(temporary: Path, path: Path) -> None:
    """Give the new archive its name unless one has it by now, which a process may be reading: code compiled twice need not be the same bytes."""
    try:
        path.hardlink_to(temporary)
    except OSError:  # it is there, or the file system has no hard links
        if not path.exists():
            temporary.replace(path)
