"""Files and folders to and from a node: `put` and `get`. Unchanged files stay where they are; a cut is mended; each file's SHA-256 is checked.

Small files are sent in a row without waiting for an answer, so ten thousand of them cost no round trip each.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote_gpu.errors import BadFrame, NoRoom, NotWritable, RemoteGpuError, UsageProblem, from_problem
from remote_gpu.transfer.channel import Channel, Progress, human
from remote_gpu.transfer.frames import BLOCK, Op
from remote_gpu.transfer.transfers import Transfers
from remote_gpu.transfer.trees import Arrival, Entry, Tree, digest_of, make_folder, walk

__all__ = ["Files", "Moved"]

_PART = 8 << 20
_LARGE = 8 << 20  # bytes from which on it is worth asking how much of a file is there already
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a put or get: where it is now, how many files and bytes travelled, how many were there already, what was left out and why."""

    place: str
    files: int = 0
    size: int = 0
    unchanged: int = 0
    left_out: tuple[str, ...] = ()

    def sentence(self) -> str:
        """For people."""
        said = f"{self.files} file{'' if self.files == 1 else 's'}, {human(self.size)}, to {self.place}"
        said += f"; {self.unchanged} unchanged" if self.unchanged else ""
        return said + (f"; left out: {', '.join(self.left_out[:5])}{' …' if len(self.left_out) > 5 else ''}" if self.left_out else "")  # noqa: PLR2004


@dataclass(slots=True)
class _Count:
    """How far a transfer is, over all attempts."""

    total: int = 0
    done: int = 0
    files: int = 0
    sent: int = 0
    progress: Progress | None = None
    left_out: list[str] = field(default_factory=list)

    def begin(self, total: int, left: int) -> None:
        """An attempt begins: `left` bytes of `total` are still to travel."""
        self.total, self.done = total, total - left

    def add(self, size: int, *, travelled: bool = True) -> None:
        self.done += size
        self.sent += size if travelled else 0
        if self.progress is not None:
            self.progress(self.done, self.total)


class Files:
    """Moves files of one session."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def put(self, local: str | os.PathLike[str], remote: str = "", progress: Progress | None = None) -> Moved:
        """Copy a file or folder to the node; `remote` is a path there, relative to the session's working folder.

        A path that ends with "/" or is a folder gets it inside. Raises `UsageProblem`, `NoRoom`, `NotWritable`, `LinkProblem`.
        """
        source = os.path.abspath(os.path.expanduser(local))
        tree = _local_tree(source)
        count = _Count(progress=progress, left_out=list(tree.left_out))
        folder = os.path.isdir(source)

        def attempt(channel: Channel) -> Moved:
            there = _target(channel, remote, os.path.basename(source))
            unchanged = _Put(channel, source, there["path"], count, self._transfers.moved).send(tree, there)
            files = sum(not entry.folder for entry in tree.entries)
            place = _plain(there["path"]) + ("/" if folder else "")
            return Moved(place, files - unchanged if not count.files else count.files, count.sent, unchanged, tuple(count.left_out))

        return self._transfers.attempts(attempt)

    def get(self, remote: str, local: str | os.PathLike[str] = "", *, progress: Progress | None = None) -> Moved:
        """Copy a file or folder from the node; nothing is written outside of `local` (default: the current folder), whatever the node says."""
        if not remote.strip("/ "):
            raise UsageProblem("Name the file or folder to get.")
        count = _Count(progress=progress)

        def attempt(channel: Channel) -> Moved:
            found = channel.ask(Op.LIST, {"path": remote, "deep": True, "must": True}, Op.LISTED).meta
            entries = [Entry.of(row) for row in found.get("entries") or []]
            single = found.get("kind") == "file"
            if single != (len(entries) == 1 and not entries[0].name and not entries[0].folder) or (
                not single and any(not e.name for e in entries)
            ):
                raise BadFrame("The node describes a folder in a way that is not known.")
            target = _local_target(local, os.path.basename(remote.rstrip("/")))
            count.left_out = [_plain(text) for text in found.get("left_out") or []]
            unchanged = _Get(channel, remote, target, count, self._transfers.moved).receive(entries)
            return Moved(target, count.files, count.sent, unchanged, tuple(count.left_out))

        return self._transfers.attempts(attempt)


def _local_tree(source: str) -> Tree:
    try:
        return walk(source)
    except OSError as error:
        raise UsageProblem(f"{source} cannot be read: {error.strerror or error}.") from error


def _target(channel: Channel, remote: str, name: str) -> dict[str, Any]:
    """Where `name` goes on the node, and what is there now."""
    there = channel.ask(Op.LIST, {"path": remote}, Op.LISTED).meta
    if not remote or remote.endswith("/") or there.get("kind") == "folder":
        remote = os.path.join(remote, name)
    found = channel.ask(Op.LIST, {"path": remote, "deep": True}, Op.LISTED).meta
    if not isinstance(found.get("path"), str):
        raise BadFrame("The node did not say where the file goes.")
    return found


def _local_target(local: str | os.PathLike[str], name: str) -> str:
    target = os.path.abspath(os.path.expanduser(local or "."))
    if name in ("", ".", "..", "~"):
        raise UsageProblem(f"{name!r} is no name for a file here; say where to put it.")
    return os.path.join(target, name) if os.path.isdir(target) or str(local).endswith("/") else target


class _Put:
    """One attempt to send a tree."""

    def __init__(self, channel: Channel, source: str, root: str, count: _Count, moved: Callable[[], None]) -> None:
        self._channel = channel
        self._source = source
        self._root = root
        self._count = count
        self._moved = moved

    def send(self, tree: Tree, there: dict[str, Any]) -> int:
        """Send what is not there; returns how many files were."""
        known = {entry.name: entry for entry in (Entry.of(row) for row in there.get("entries") or [])}
        files = [entry for entry in tree.entries if not entry.folder]
        doubtful = [entry for entry in files if entry.name in known and known[entry.name].size == entry.size]
        same = {entry.name for entry in doubtful if known[entry.name].mtime == entry.mtime}
        same |= self._same_content([entry for entry in doubtful if entry.name not in same])
        todo = [entry for entry in tree.entries if entry.folder or entry.name not in same]
        left = sum(entry.size for entry in todo)
        free = there.get("free")
        if isinstance(free, int) and left > free:
            raise NoRoom(f"{human(left)} are to be sent, and there is room for {human(free)} at {self._root} on the node.")
        self._count.begin(sum(entry.size for entry in files), left)
        for entry in todo:
            if entry.folder:
                self._channel.send(Op.WRITE, {"root": self._root, "entry": entry})
            else:
                self._file(entry)
        problems = self._channel.ask(Op.SYNC, {}, Op.DONE).meta.get("files") or []
        if problems:
            raise _together([each.get("problem") or {} for each in problems])
        return len(same)

    def _same_content(self, entries: Sequence[Entry]) -> set[str]:
        """Those whose content is the same although their times differ."""
        if not entries:
            return set()
        question = {"path": self._root, "digests": [entry.name for entry in entries]}
        digests = self._channel.ask(Op.LIST, question, Op.LISTED).meta.get("digests") or []
        return {
            entry.name
            for entry, digest in zip(entries, digests, strict=False)
            if digest and digest == digest_of(_path(self._source, entry.name))
        }

    def _file(self, entry: Entry) -> None:
        meta: dict[str, Any] = {"root": self._root, "entry": entry}
        offset = 0
        if entry.size >= _LARGE:
            offset = int(self._channel.ask(Op.PART, meta, Op.LISTED).meta.get("offset") or 0)
        try:
            descriptor = os.open(_path(self._source, entry.name), os.O_RDONLY)
        except OSError as error:
            self._count.left_out.append(f"{entry.name} ({error.strerror})")
            return
        try:
            self._content(descriptor, meta, entry, offset)
        finally:
            os.close(descriptor)
        self._count.files += 1

    def _content(self, descriptor: int, meta: dict[str, Any], entry: Entry, offset: int) -> None:
        seal, at = hashlib.sha256(), 0
        while at < offset and (data := os.pread(descriptor, min(BLOCK, offset - at), at)):
            seal.update(data)
            at += len(data)
        self._count.add(at, travelled=False)
        while True:
            data = os.pread(descriptor, min(_PART, entry.size - at), at)
            seal.update(data)
            last = at + len(data) >= entry.size or not data
            if last and at + len(data) != entry.size:
                raise NotWritable(f"{_path(self._source, entry.name)} became shorter while it was sent.", hint="Try again.")
            more = {"sha256": seal.hexdigest()} if last else {}
            self._channel.send(Op.WRITE, {**meta, "offset": at, **more}, data)
            at += len(data)
            self._moved()
            self._count.add(len(data))
            if last:
                return


class _Get:
    """One attempt to receive a tree."""

    def __init__(self, channel: Channel, remote: str, target: str, count: _Count, moved: Callable[[], None]) -> None:
        self._channel = channel
        self._remote = remote
        self._target = target
        self._count = count
        self._moved = moved

    def receive(self, entries: Sequence[Entry]) -> int:
        """Receive what is not here; returns how many files were."""
        files = [entry for entry in entries if not entry.folder]
        doubtful = {
            entry.name: found for entry in files if (found := _seen(_path(self._target, entry.name))) is not None and found[0] == entry.size
        }
        same = {entry.name for entry in files if entry.name in doubtful and doubtful[entry.name][1] == entry.mtime}
        same |= self._same_content([name for name in doubtful if name not in same])
        todo = [entry for entry in files if entry.name not in same]
        left = sum(entry.size for entry in todo)
        self._check_room(left)
        self._count.begin(sum(entry.size for entry in files), left)
        try:
            os.makedirs(os.path.dirname(self._target), exist_ok=True)
            for entry in entries:
                if entry.folder:
                    make_folder(self._target, entry)
            for start in range(0, len(todo), _BATCH):
                self._batch(todo[start : start + _BATCH])
        except OSError as error:
            self._channel.broken = True
            raise NotWritable(f"{self._target} cannot be written: {error.strerror or error}.") from error
        return len(same)

    def _check_room(self, size: int) -> None:
        folder = self._target
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise NoRoom(f"{human(size)} are to come, and there is room for {human(free)} in {folder}.")

    def _same_content(self, names: Sequence[str]) -> set[str]:
        if not names:
            return set()
        digests = self._channel.ask(Op.LIST, {"path": self._remote, "digests": list(names)}, Op.LISTED).meta.get("digests") or []
        return {name for name, digest in zip(names, digests, strict=False) if digest and digest == digest_of(_path(self._target, name))}

    def _batch(self, entries: Sequence[Entry]) -> None:
        asked = [[entry.name, self._here(entry)] for entry in entries]
        self._channel.broken = True
        self._channel.send(Op.READ, {"path": self._remote, "files": asked})
        for entry, (_, offset) in zip(entries, asked, strict=True):
            arrival = Arrival(self._target, entry)
            try:
                if not offset:
                    arrival.restart()
                self._one(arrival)
            finally:
                arrival.close()
        self._channel.broken = False

    def _here(self, entry: Entry) -> int:
        """How much of a large file came in an attempt that was cut."""
        if entry.size < _LARGE:
            return 0
        arrival = Arrival(self._target, entry)
        arrival.close()
        return arrival.offset

    def _one(self, arrival: Arrival) -> None:
        message = self._channel.receive(Op.CONTENT)
        if "problem" in message.meta:
            self._count.left_out.append(f"{arrival.entry.name} ({from_problem(message.meta['problem']).message})")
            return
        if message.size != arrival.entry.size - arrival.offset:
            raise BadFrame(f"{self._remote}/{arrival.entry.name} changed on the node while it was fetched.")
        self._count.add(arrival.offset, travelled=False)
        buffer, left = memoryview(bytearray(min(BLOCK, message.size))), message.size
        while left:
            piece = buffer[: min(left, len(buffer))]
            self._channel.fill(piece)
            arrival.write(piece)
            left -= len(piece)
            self._moved()
            self._count.add(len(piece))
        arrival.finish(str(self._channel.receive(Op.DONE).meta.get("sha256")))
        self._count.files += 1


def _plain(text: object) -> str:
    """What a node says, without what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text)[:300])


def _path(root: str, name: str) -> str:
    return os.path.join(root, name) if name else root


def _seen(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if Path(path).is_file() else None


def _together(problems: Sequence[dict[str, Any]]) -> RemoteGpuError:
    first = from_problem(problems[0])
    if len(problems) > 1:
        first.message += f" (and {len(problems) - 1} more)"
    return first
