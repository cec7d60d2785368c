"""Blobs: immutable bytes with an address, kept on this node for all sessions of one user.

They lie in memory (``/dev/shm/jrg-UID``) where they fit and else on disk, below the base folder. An address is the XXH3-128 of the bytes with a secret
seed that the store chose at random, computed where the bytes come from; the node checks length and order (see decision 7). The store is
bounded: what was not used for longest goes first. It is removed with the last session.
"""

from __future__ import annotations

import mmap
import os
import re
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from remote_gpu.base import base_folder
from remote_gpu.errors import NoRoom, NotWritable, UsageProblem
from remote_gpu.node.landing import Landing
from remote_gpu.node.room import disk_free, in_words, memory_free, memory_total

__all__ = ["BlobMissing", "Place", "Store", "forget_if_unused", "mapped"]

_DIGEST = re.compile(r"[0-9a-f]{32}")
_SEED = "seed"
_PART = ".part"
_SHM = "/dev/shm"  # noqa: S108  the folder below it is private and checked
_MARGIN = 0.05  # of the memory, which stays free for everybody else
_LOW = 0.15  # of the memory: when less is free, blobs go
_FRESH = 30.0  # seconds that a blob is safe, for the kernel that it was sent for
_AGE = 600.0  # seconds without use after which a blob goes: kernels hold what they use themselves
_PART_AGE = 3600.0  # the same for one that was cut


class BlobMissing(KeyError):
    """The node has no such blob (any more): it has to be sent again."""


class Place(NamedTuple):
    """A folder of the store; `memory` when it is one of a memory file system; at most `limit` bytes lie there."""

    folder: str
    memory: bool
    limit: int

    def free(self) -> int:
        """Bytes that can be added."""
        if not os.path.isdir(self.folder):
            return 0
        free = disk_free(self.folder)
        return min(free, int(memory_free() - _MARGIN * memory_total())) if self.memory else free

    def entries(self) -> list[tuple[float, int, str]]:
        """(when used, size, name) of each blob and partial blob, the oldest first."""
        found = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                with suppress(FileNotFoundError):
                    if entry.name != _SEED:
                        seen = entry.stat()
                        found.append((seen.st_mtime, seen.st_blocks * 512, entry.name))
        return sorted(found)


def _name(digest: str, size: int) -> str:
    if not _DIGEST.fullmatch(digest) or size < 0:
        raise UsageProblem(f"{digest[:80]!r} is not the address of a blob.")
    return f"{digest}-{size}"


def _folders() -> tuple[str, str]:
    """Where blobs lie: in memory, and on disk."""
    base = base_folder()
    mark = "" if base == _ordinary() else f"-{zlib.crc32(os.fsencode(base)):08x}"
    return os.path.join(_SHM, f"jrg-{os.getuid()}{mark}"), os.path.join(base, "blobs")


def default_places() -> tuple[Place, ...]:
    """Memory, where this machine has a file system for it, then disk. Limits: half of the memory, half of the disk that is free."""
    shared, disk = _folders()
    places = [Place(shared, True, memory_total() // 2)] if os.path.isdir(_SHM) else []
    limit = 0
    with suppress(OSError):
        limit = disk_free(base_folder()) // 2
    return (*places, Place(disk, False, limit))


def _ordinary() -> str:
    return os.path.join("/tmp", f"jrg-{os.getuid()}")  # noqa: S108


def _private(folder: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotWritable(f"The folder {folder} is not private to you.", hint="Remove it.")


class Store:
    """The blobs of this node. Safe for several processes: a blob appears complete or not at all."""

    def __init__(self, places: Iterable[Place] | None = None) -> None:
        self.places = tuple(places) if places is not None else default_places()
        self._wanted: dict[str, Place] = {}
        self._landings: dict[str, Landing] = {}
        try:
            for place in self.places:
                _private(place.folder)
            self.seed = self._agree()
        except OSError as error:
            raise NotWritable(f"Cannot keep blobs in {self.places[-1].folder}: {error.strerror}.") from error

    def _places(self) -> list[str]:
        return [place.folder for place in self.places]

    def _agree(self) -> int:
        """The seed that all places have; blobs of a place with another one are of no use and go."""
        seed = _seed_of(self.places[-1].folder)
        for place in self.places[:-1]:
            if _seed_of(place.folder, seed) != seed:
                shutil.rmtree(place.folder, ignore_errors=True)
                _private(place.folder)
                _seed_of(place.folder, seed)
        return seed

    def path(self, digest: str, size: int) -> str | None:
        """Where the blob lies, marked as used just now; None when it is not here."""
        return _find(self._places(), _name(digest, size))

    def expect(self, blobs: Iterable[tuple[str, int]]) -> list[int]:
        """How many bytes of each blob are here; its size when it is complete. Makes room for the rest.

        Raises `NoRoom` before anything is sent.
        """
        wanted = [(_name(digest, size), size) for digest, size in blobs]
        have, missing = [], []
        for name, size in wanted:
            if _find(self._places(), name) is not None:
                have.append(size)
                continue
            have.append(self._begun(name, size))
            missing.append((name, size - have[-1]))
        self._choose(missing, {name for name, _ in wanted})
        return have

    def landing(self, digest: str, size: int) -> Landing:
        """Where the blob is to be written; the caller fills it from its `offset` on and calls `arrived`."""
        name = _name(digest, size)
        if name not in self._landings:
            place = self._wanted.get(name) or self.places[-1]
            path = os.path.join(place.folder, name + _PART)
            try:
                self._landings[name] = Landing(path, size, huge=place.memory)
            except BlockingIOError:  # another process is at it; both will give the same file
                self._landings[name] = Landing(f"{path}.{os.getpid()}", size, huge=place.memory)
        return self._landings[name]

    def arrived(self, digest: str, size: int) -> None:
        """All bytes of a landing are there."""
        name = _name(digest, size)
        landing = self._landings.pop(name)
        place = self._wanted.pop(name, None) or self.places[-1]
        landing.finish(os.path.join(place.folder, name))

    def count(self, sizes: Iterable[int]) -> list[int]:
        """How many blobs, whole or begun, there are of each size."""
        names = [name for place in self.places for _, _, name in place.entries()]
        there = [name.partition("-")[2].partition(_PART)[0] for name in names]
        return [there.count(str(size)) for size in sizes]

    def rename(self, name: str, digest: str, size: int) -> None:
        """Give a blob that arrived under the address `name` its own. Raises `UsageProblem` when it is not here."""
        old, new = self.path(name, size), _name(digest, size)
        if old is None:
            raise UsageProblem("A blob that is not here was to be named.")
        os.replace(old, os.path.join(os.path.dirname(old), new))

    def trim(self, now: float | None = None) -> None:
        """Drop what was not used for long, and the oldest blobs in memory while the machine runs short of it."""
        moment = time.time() if now is None else now
        for place in self.places:
            for used, _, name in place.entries():
                age, part = moment - used, _PART in name
                short = place.memory and not part and age > _FRESH and memory_free() < _LOW * memory_total()
                if age > (_PART_AGE if part else _AGE) or short:
                    with suppress(OSError):
                        os.unlink(os.path.join(place.folder, name))

    def close(self) -> None:
        """Let go of what is under way; the partial blobs stay for the next attempt."""
        for landing in self._landings.values():
            landing.close(remove=not landing.path.endswith(_PART))
        self._landings.clear()

    def _begun(self, name: str, size: int) -> int:
        for place in self.places:
            if os.path.exists(os.path.join(place.folder, name + _PART)):
                self._wanted[name] = place
                digest = name.partition("-")[0]
                return self.landing(digest, size).offset
        return 0

    def _choose(self, missing: list[tuple[str, int]], keep: set[str]) -> None:
        """A place for each missing blob: the first that has room for it after old ones were dropped."""
        rooms = [_Room(place, keep) for place in self.places]
        for name, size in missing:
            begun = self._wanted.get(name)
            fits = [room for room in rooms if (begun is None or room.place == begun) and room.takes(size)]
            if not fits:
                raise self._no_room(missing, rooms)
            fits[0].take(size)
            self._wanted[name] = fits[0].place
        for room in rooms:
            if not room.clear():
                raise self._no_room(missing, rooms)

    def _no_room(self, missing: list[tuple[str, int]], rooms: list[_Room]) -> NoRoom:
        need = sum(size for _, size in missing)
        has = " and ".join(
            f"{in_words(room.most)} {'of memory' if room.place.memory else 'on disk'} ({room.place.folder})" for room in rooms
        )
        return NoRoom(
            f"The node has no room: {in_words(need)} are to be sent, and it can take {has}.",
            hint="Delete what you do not need there, or ask for a node with more memory.",
            need=need,
        )


class _Room:
    """What a place can take: what is free, and what becomes free when blobs go that nobody asked for now."""

    def __init__(self, place: Place, keep: set[str]) -> None:
        self.place = place
        self._entries = place.entries()
        self._old = [entry for entry in self._entries if entry[2].partition(_PART)[0] not in keep]
        self._free = place.free()
        self._used = sum(size for _, size, _ in self._entries)
        self._taken = 0
        droppable = sum(size for _, size, _ in self._old)
        self.most = max(0, min(self._free + droppable, place.limit - self._used + droppable))

    def takes(self, size: int) -> bool:
        return self._taken + size <= self.most

    def take(self, size: int) -> None:
        self._taken += size

    def clear(self) -> bool:
        """Drop the oldest until what was taken fits; False when memory that was dropped is still in use by a kernel."""
        dropped = 0
        if not self._taken:
            return True
        for _, size, name in self._old:
            if self._taken <= min(self._free + dropped, self.place.limit - self._used + dropped):
                return True
            with suppress(OSError):
                os.unlink(os.path.join(self.place.folder, name))
                dropped += size
        return self._taken <= (self.place.free() if dropped else self._free)


def _find(folders: Iterable[str], name: str) -> str | None:
    for folder in folders:
        path = os.path.join(folder, name)
        with suppress(OSError):
            os.utime(path)
            return path
    return None


def _seed_of(folder: str, wanted: int | None = None) -> int:
    path = os.path.join(folder, _SEED)
    with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return int(file.read(), 16)
    seed = secrets.randbits(63) if wanted is None else wanted
    temporary = f"{path}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{seed:016x}")
    try:
        os.link(temporary, path)  # who is first wins
    except FileExistsError:
        return _seed_of(folder, wanted)
    finally:
        os.unlink(temporary)
    return seed


def mapped(digest: str, size: int, places: Iterable[Place] | None = None) -> memoryview:
    """The blob as writable memory of this process: pages are shared with the store until they are written to.

    Raises `BlobMissing` when the node does not have it (any more).
    """
    folders = _folders() if places is None else [place.folder for place in places]
    path = _find(folders, _name(digest, size))
    if path is None:
        raise BlobMissing(digest)
    if not size:
        return memoryview(bytearray())
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BlobMissing(digest) from error
    try:
        if os.fstat(descriptor).st_size != size:
            raise BlobMissing(digest)
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY))
    finally:
        os.close(descriptor)


def _running(base: str) -> Iterator[str]:
    with suppress(OSError):
        for name in os.listdir(os.path.join(base, "s")):
            if not name.startswith(".") and os.path.exists(os.path.join(base, "s", name, "state.json")):
                yield name


def forget_if_unused(but: str = "") -> bool:
    """Remove the whole store when no session other than `but` is left on this node; True when it was removed."""
    if any(session != but for session in _running(base_folder())):
        return False
    for folder in _folders():
        shutil.rmtree(folder, ignore_errors=True)
    return True
