"""Files and folders on the node, for the data stream; relative paths begin at the session's working folder."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from remote_gpu.errors import BadFrame, NotWritable, RemoteGpuError, UsageProblem
from remote_gpu.node.room import disk_free
from remote_gpu.transfer.frames import BLOCK, Op, Reader, head_of, write_all
from remote_gpu.transfer.trees import Arrival, Entry, digest_of, make_folder, walk

__all__ = ["Files"]


class Files:
    """What one stream does with files. Problems with a file are kept and told when the other end asks (`taken`)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._problems: list[dict[str, Any]] = []
        self._arrival: Arrival | None = None
        self._arriving: tuple[str, Entry] | None = None
        self._failed: tuple[str, str] | None = None

    def taken(self) -> list[dict[str, Any]]:
        """The problems with files that came since the last call."""
        problems, self._problems = self._problems, []
        self._failed = None
        return problems

    def describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What is at a path: {"path", "kind", "entries", "left_out", "free"}; with "digests", the SHA-256 of those names instead.

        Raises `UsageProblem` when there is nothing and "must" is set.
        """
        path = self._path(str(asked.get("path") or ""))
        names = asked.get("digests")
        if isinstance(names, list):
            return {"digests": [self._digest(path, str(name)) for name in names]}
        kind = "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else "missing"
        answer: dict[str, Any] = {"path": path, "kind": kind, "entries": [], "left_out": [], "free": self._free(path)}
        if kind == "missing" and asked.get("must"):
            raise UsageProblem(f"There is no {path} on {os.uname().nodename}.", hint=f"Relative paths begin at {self.folder}.")
        if kind != "missing" and asked.get("deep"):
            tree = walk(path)
            answer |= {"entries": tree.entries, "left_out": tree.left_out}
        return answer

    def part(self, meta: dict[str, Any]) -> dict[str, Any]:
        """How much of a file is here from an attempt that was cut: {"offset"}."""
        self._close()
        self._arrival = self._open(meta)
        return {"offset": self._arrival.offset}

    def write(self, meta: dict[str, Any], reader: Reader, size: int) -> None:
        """A folder, or the next bytes of a file; what follows of a file that failed is read and forgotten."""
        key = (str(meta.get("root")), str(meta["entry"][0]))
        if key == self._failed:
            reader.skip(size)
            return
        left = size
        try:
            if meta["entry"][4]:
                make_folder(key[0], Entry.of(meta["entry"]))
                return
            arrival = self._at(key, meta)
            buffer = memoryview(bytearray(min(size, BLOCK)))
            while left:
                piece = buffer[: min(left, len(buffer))]
                reader.fill(piece)
                left -= len(piece)
                arrival.write(piece)
            if "sha256" in meta:
                self._arrival = None
                arrival.finish(str(meta["sha256"]))
        except (OSError, BadFrame, NotWritable) as error:
            self._note(key, error)
            reader.skip(left)

    def read(self, meta: dict[str, Any], outgoing: int) -> None:
        """Send files, one after the other: each as CONTENT with its bytes, then DONE with its SHA-256."""
        root = self._path(str(meta.get("path") or ""))
        for name, offset in meta["files"]:
            path = os.path.join(root, name) if name else root
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                problem = UsageProblem(f"{path} cannot be read: {error.strerror}.").problem()
                write_all(outgoing, head_of(Op.CONTENT, {"name": name, "problem": problem}))
                continue
            try:
                _send(descriptor, name, int(offset), outgoing)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Let go of what is under way; it stays for the next attempt."""
        self._close()

    def _close(self) -> None:
        if self._arrival is not None:
            self._arrival.close()
            self._arrival = None

    def _open(self, meta: dict[str, Any]) -> Arrival:
        root = str(meta["root"])
        if not os.path.isabs(root):
            raise BadFrame("The place of a file on the node must be an absolute path.")
        os.makedirs(os.path.dirname(root), exist_ok=True)
        entry = Entry.of(meta["entry"])
        self._arriving = root, entry
        return Arrival(root, entry)

    def _at(self, key: tuple[str, str], meta: dict[str, Any]) -> Arrival:
        """The arrival that this part belongs to."""
        offset, arrival = int(meta.get("offset") or 0), self._arrival
        if arrival is None or self._arriving != (key[0], Entry.of(meta["entry"])):
            self._close()
            arrival = self._arrival = self._open(meta)
        if offset == 0 and arrival.offset:
            arrival.restart()
        if offset != arrival.offset:
            raise BadFrame(f"{arrival.path} goes on at byte {arrival.offset}, not at {offset}.")
        return arrival

    def _note(self, key: tuple[str, str], error: OSError | RemoteGpuError) -> None:
        self._close()
        self._failed = key
        if isinstance(error, OSError):
            error = NotWritable(f"{os.path.join(*key).rstrip('/')} cannot be written on {os.uname().nodename}: {error.strerror or error}.")
        self._problems.append({"name": key[1], "problem": error.problem()})

    def _path(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.folder, os.path.expanduser(path))) if path else self.folder

    @staticmethod
    def _digest(root: str, name: str) -> str:
        with suppress(OSError):
            return digest_of(os.path.join(root, name) if name else root)
        return ""

    @staticmethod
    def _free(path: str) -> int:
        while not os.path.isdir(path) and path != os.path.dirname(path):
            path = os.path.dirname(path)
        with suppress(OSError):
            return disk_free(path)
        return 0


def _send(descriptor: int, name: str, offset: int, outgoing: int) -> None:
    import hashlib

    found = os.fstat(descriptor)
    seal, at = hashlib.sha256(), 0
    while at < offset and (data := os.pread(descriptor, min(BLOCK, offset - at), at)):
        seal.update(data)
        at += len(data)
    size = max(0, found.st_size - offset)
    write_all(outgoing, head_of(Op.CONTENT, {"name": name, "size": found.st_size, "mtime": found.st_mtime_ns}, size))
    while size:
        data = os.pread(descriptor, min(BLOCK, size), at)
        if not data:  # it became shorter: what was announced must come, and the digest tells
            data = bytes(min(BLOCK, size))
            seal.update(b"short")
        seal.update(data)
        write_all(outgoing, data)
        at += len(data)
        size -= len(data)
    write_all(outgoing, head_of(Op.DONE, {"sha256": seal.hexdigest()}))
