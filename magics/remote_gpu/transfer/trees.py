"""Files and folders as both ends of a data stream see them: what a folder holds, and a file that arrives.

A symbolic link is followed where it leads to something inside the folder that is moved, and is left out otherwise. A file arrives under another
name and gets its own when all of it is there and its SHA-256 is right; what is there of it stays for the next attempt.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from typing import Any, NamedTuple

from remote_gpu.errors import BadFrame, NotWritable

__all__ = ["Arrival", "Entry", "Tree", "check_name", "digest_of", "walk"]

_BLOCK = 1 << 20
_MODE = 0o777  # what is set of a file's mode: never set-uid and its like
_NAME_LIMIT = 4096


class Entry(NamedTuple):
    """A file (or folder) below the folder that is moved; `name` has "/" between its parts and is "" for a single file."""

    name: str
    size: int
    mtime: int
    """Nanoseconds since 1970."""
    mode: int
    folder: bool = False

    @classmethod
    def of(cls, row: Any) -> Entry:
        """From JSON of the other end, which is not trusted. Raises `BadFrame`."""
        try:
            name, size, mtime, mode, folder = row
            entry = cls(str(name), int(size), int(mtime), int(mode) & _MODE, bool(folder))
        except (ValueError, TypeError) as error:
            raise BadFrame("The other end describes a file in a way that is not known.") from error
        if entry.size < 0:
            raise BadFrame("The other end describes a file of negative size.")
        check_name(entry.name)
        return entry


class Tree(NamedTuple):
    """What is at a path: its entries, and what is left out with the reason."""

    entries: list[Entry]
    left_out: list[str]


def check_name(name: str) -> None:
    """Raise `BadFrame` for a name that could lead out of the folder."""
    if not name:
        return
    parts = name.split("/")
    if name.startswith("/") or "\0" in name or len(name) > _NAME_LIMIT or any(part in ("", ".", "..") for part in parts):
        raise BadFrame(f"The other end names a file {name[:80]!r}, which is no name inside a folder; nothing is written.")


def walk(root: str) -> Tree:
    """The file `root`, or all that the folder `root` holds, in order. Raises OSError when there is nothing."""
    found = os.stat(root)
    if stat.S_ISREG(found.st_mode):
        return Tree([_entry("", found)], [])
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(f"{root} is neither a file nor a folder")
    tree = Tree([], [])
    _descend(os.path.realpath(root), root, "", tree, frozenset())
    return tree


def _entry(name: str, found: os.stat_result, *, folder: bool = False) -> Entry:
    return Entry(name, 0 if folder else found.st_size, found.st_mtime_ns, stat.S_IMODE(found.st_mode) & _MODE, folder)


def _descend(top: str, folder: str, prefix: str, tree: Tree, above: frozenset[tuple[int, int]]) -> None:
    here = os.stat(folder)
    above |= {(here.st_dev, here.st_ino)}
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        name = prefix + entry.name
        reason = _why_not(top, entry)
        if reason:
            tree.left_out.append(f"{name} ({reason})")
            continue
        found = entry.stat()
        if (found.st_dev, found.st_ino) in above:
            tree.left_out.append(f"{name} (a link to a folder that it is in)")
        elif stat.S_ISDIR(found.st_mode):
            tree.entries.append(_entry(name, found, folder=True))
            _descend(top, entry.path, f"{name}/", tree, above)
        else:
            tree.entries.append(_entry(name, found))


def _why_not(top: str, entry: os.DirEntry[str]) -> str:
    if entry.name.startswith(".jrg-") and entry.name.endswith(".part"):
        return "a file that has not arrived"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if target != top and not target.startswith(top.rstrip("/") + "/"):
            return "a link that leads out of the folder"
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "neither a file nor a folder"
    return ""


def digest_of(path: str, size: int | None = None) -> str:
    """The SHA-256 of a file, in hexadecimal; of its first `size` bytes when one is given."""
    with open(path, "rb") as file:
        return str(_digest(file.fileno(), size).hexdigest())


def _digest(descriptor: int, size: int | None) -> Any:
    seal = hashlib.sha256()
    at = 0
    while size is None or at < size:
        data = os.pread(descriptor, _BLOCK if size is None else min(_BLOCK, size - at), at)
        if not data:
            break
        seal.update(data)
        at += len(data)
    return seal


class Arrival:
    """The file of `entry` below `root` while it arrives; `offset` says how much of it is there. Raises OSError, `NotWritable`, `BadFrame`."""

    def __init__(self, root: str, entry: Entry) -> None:
        check_name(entry.name)
        self.entry = entry
        self.path = os.path.join(root, entry.name) if entry.name else root
        parent = os.path.dirname(self.path)
        if entry.name:
            _make_inside(root, parent)
        mark = hashlib.sha256(f"{os.path.basename(self.path)}\0{entry.size}\0{entry.mtime}".encode(errors="surrogateescape")).hexdigest()[
            :16
        ]
        self._part = os.path.join(parent, f".jrg-{mark}.part")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._part, flags, 0o600)
        self.offset = os.fstat(self._descriptor).st_size
        if self.offset > entry.size:
            self.restart()
        self._seal = _digest(self._descriptor, self.offset) if self.offset else hashlib.sha256()

    def restart(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._descriptor, 0)
        self.offset = 0
        self._seal = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        """The next bytes. Raises `BadFrame` when they are more than was said."""
        if self.offset + len(data) > self.entry.size:
            raise BadFrame(f"{self.path} brings more bytes than were announced.")
        self._seal.update(data)
        while data:
            count = os.pwrite(self._descriptor, data, self.offset)
            self.offset += count
            data = data[count:]

    def finish(self, sha256: str) -> None:
        """All is there: check it and give it its name. Raises `BadFrame` when it is damaged; then the next attempt begins anew."""
        try:
            if self.offset != self.entry.size or self._seal.hexdigest() != sha256:
                os.unlink(self._part)
                raise BadFrame(f"{self.path} arrived damaged: its SHA-256 is not that of the original.")
            os.fchmod(self._descriptor, self.entry.mode & _MODE)
            os.utime(self._descriptor, ns=(self.entry.mtime, self.entry.mtime))
            os.replace(self._part, self.path)
        except IsADirectoryError as error:
            os.unlink(self._part)
            raise NotWritable(f"{self.path} is a folder, so no file can be put there.") from error
        finally:
            self.close()

    def close(self) -> None:
        """Leave it as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def make_folder(root: str, entry: Entry) -> None:
    """The folder of `entry` below `root`."""
    check_name(entry.name)
    path = os.path.join(root, entry.name)
    _make_inside(root, path)
    with suppress(OSError):
        os.chmod(path, entry.mode & _MODE | 0o700)


def _make_inside(root: str, folder: str) -> None:
    """Make `folder`, which must really be below `root`: a link on the way could lead out."""
    if os.path.lexists(root) and not os.path.isdir(root):
        raise NotWritable(f"{root} is there and is no folder.")
    os.makedirs(folder, exist_ok=True)
    top, real = os.path.realpath(root), os.path.realpath(folder)
    if real != top and not real.startswith(top.rstrip("/") + "/"):
        raise NotWritable(f"{folder} leads out of {root} by a symbolic link; nothing is written there.")
