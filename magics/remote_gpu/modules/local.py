"""Which of the modules that a cell imports are the user's own, and which files they consist of.

A module is the user's own when its source lies outside the standard library and every ``site-packages``: next to the notebook, on
a path that the user added, or in an editable installation. Nothing is imported here: files are found as an import would find
them, and read with `ast` for what they import in turn.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remote_gpu.modules.imports import imports_of

__all__ = ["Found", "Limits", "LocalModules", "Source", "Top"]

_NEVER = frozenset(
    [
        "__main__",
        "remote_gpu",
        "jupyter_remote_gpu",
        "IPython",
        "ipykernel",
        "jupyter_client",
        "jupyter_core",
        "traitlets",
        "zmq",
        "tornado",
        "comm",
        "matplotlib_inline",
        "cloudpickle",
        "debugpy",
    ]
)
"""What the remote kernel itself runs on."""

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv"})
_COMPILED = (".so", ".pyd", ".dylib")
_RACY = 2.0  # seconds within which a file may change again without its time telling it


@dataclass(frozen=True, slots=True)
class Limits:
    """The most bytes that one package (or module) may have, and one file in it that is no Python source; the most files."""

    total: int = 16 * 1024**2
    data_file: int = 1024**2
    files: int = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """One file: `path` as it lies below a folder of sys.path, `origin` where it lies here, times in ns, sizes in bytes."""

    path: str
    origin: str
    size: int
    mtime_ns: int
    digest: str
    imports: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Top:
    """A name that is imported from no package: a module's file, or a package's folders. `regular` unless it is a namespace package."""

    name: str
    file: str = ""
    folders: tuple[str, ...] = ()
    regular: bool = True


@dataclass(slots=True)
class Found:
    """One top-level name: its files, the dotted `names` that led to them, the top-level names that they import.

    `note` says why something was left out.
    """

    files: dict[str, Source] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    note: str = ""


class LocalModules:
    """Finds the user's own modules. Files are read again only when their size or time changed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._sources: dict[str, Source] = {}
        self._foreign: set[str] = set()
        paths = (sysconfig.get_paths().get(name) for name in ("stdlib", "platstdlib"))
        self._standard = tuple({os.path.realpath(path) + os.sep for path in paths if path})

    def find(self, names: Iterable[str], node: Mapping[str, object], before: Mapping[str, set[str]]) -> dict[str, Found]:
        """The user's own modules that importing `names` (dotted) brings in, by top-level name.

        `before` has the names that are there already, by top-level name: with one of a package, all of them are looked at. `node` says what the other side can load: its ``platform`` and ``extensions`` (suffixes of compiled modules).
        """
        tops: dict[str, Top | None] = {}
        found: dict[str, Found] = {}
        seen: set[str] = set()
        todo = list(names)
        while todo:
            dotted = todo.pop()
            if dotted in seen:
                continue
            seen.add(dotted)
            name = dotted.partition(".")[0]
            if name not in tops:
                tops[name] = self._top(name)
                todo.extend(before.get(name, ()))
            top = tops[name]
            if top is None:
                continue
            mine = found.setdefault(name, Found())
            mine.names.add(dotted)
            for path, origin in _files_of(top, dotted):
                if path not in mine.files and (source := self._source(path, origin)) is not None:
                    mine.files[path] = source
                    mine.imports |= {each.partition(".")[0] for each in source.imports}
                    todo.extend(source.imports)
        for name, mine in found.items():
            top = tops[name]
            if top is not None:
                self._complete(top, mine, node)
        return {name: mine for name, mine in found.items() if mine.files or mine.note}

    def _top(self, name: str) -> Top | None:
        """Where the import of a top-level name leads; None when that is not the user's own."""
        if name in self._foreign or name in _NEVER:
            return None
        spec = _spec(name)
        if spec is None:
            return None  # perhaps it is written later
        locations = spec.submodule_search_locations
        folders = tuple(os.path.abspath(each) for each in locations or () if not self._installed(each))  # noqa: PTH100  text in, text out
        if spec.origin and spec.has_location and not self._installed(spec.origin):
            there = os.path.isfile(spec.origin)  # noqa: PTH113  as above; it may come back
            return Top(name, os.path.abspath(spec.origin), folders) if there else None  # noqa: PTH100  as above
        if spec.origin is None and folders and locations is not None:
            return Top(name, "", folders, regular=False)
        self._foreign.add(name)
        return None

    def _installed(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real.startswith(self._standard) or not {"site-packages", "dist-packages"}.isdisjoint(Path(real).parts)

    def _source(self, path: str, origin: str) -> Source | None:
        """What is known of a file; None when it cannot be read."""
        try:
            found = os.stat(origin)  # noqa: PTH116  called for each file at each cell
        except OSError:
            return None
        known = self._sources.get(origin)
        if known is not None and (known.mtime_ns, known.size, known.path) == (found.st_mtime_ns, found.st_size, path):
            return known
        if found.st_size > self.limits.total:  # it is not sent, so it is not read
            return Source(path, origin, found.st_size, found.st_mtime_ns, "")
        try:
            content = Path(origin).read_bytes()
        except OSError:
            return None
        module = path.removesuffix(".py").replace("/", ".")
        package = module.removesuffix(".__init__") if module.endswith(".__init__") else module.rpartition(".")[0]
        imports = imports_of(content, package) if path.endswith(".py") else frozenset()
        source = Source(path, origin, found.st_size, found.st_mtime_ns, hashlib.blake2b(content, digest_size=16).hexdigest(), imports)
        if abs(time.time() - found.st_mtime) > _RACY:
            self._sources[origin] = source
        return source

    def _complete(self, top: Top, found: Found, node: Mapping[str, object]) -> None:
        """Add the other files of a package, within the limits; take out what the node cannot load."""
        compiled = [found.files[path] for path in found.files if path.endswith(_COMPILED)]
        if top.regular and top.folders:
            whole, left = self._whole(top)
            compiled += [each for each in whole if each.path.endswith(_COMPILED)]
            size = sum(each.size for each in whole)
            if size <= self.limits.total and len(whole) <= self.limits.files:
                found.files.update({each.path: each for each in whole})
                found.note = _left_out(top.name, left, self.limits.data_file)
        if (unfit := _unfit(compiled, node)) is not None:
            found.files.clear()
            place = node.get("platform") or "the node"
            found.note = f"{top.name} is not sent: {unfit} was compiled for {sysconfig.get_platform()}, not for {place}. Install it there."
            return
        for each in compiled:
            if not _fits(each.path, node):
                found.files.pop(each.path, None)
        size = sum(each.size for each in found.files.values())
        if size > self.limits.total or len(found.files) > self.limits.files:
            found.note = (
                f"{top.name} is not sent: {_amount(size, len(found.files))}, and the limit is {_amount(self.limits.total, self.limits.files)}. "
                "Send it with %remote_gpu put, or set JUPYTER_REMOTE_GPU_MODULES_LIMIT (in MiB)."
            )
            found.files.clear()

    def _whole(self, top: Top) -> tuple[list[Source], list[str]]:
        """All files of a package but the caches (no more are looked at when they are too many), and the data files that are too large."""
        sources, left, total = [], [], 0
        for folder in top.folders:
            for path, origin, size in _walk(folder, top.name):
                if size > self.limits.data_file and not path.endswith((".py", *_COMPILED)):
                    left.append(path)
                elif (source := self._source(path, origin)) is not None:
                    sources.append(source)
                    total += size
                if len(sources) > self.limits.files or total > self.limits.total:
                    return sources, left
        return sources, left


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """The spec of a top-level module: of the loaded one, else of the one that an import would load."""
    loaded = sys.modules.get(name)
    known = getattr(loaded, "__spec__", None)
    if isinstance(known, importlib.machinery.ModuleSpec):
        return known
    for attempt in (1, 2):
        try:  # a module that put something else in its own place has no spec, but a file
            spec = importlib.util.find_spec(name) if loaded is None else importlib.machinery.PathFinder.find_spec(name)
        except Exception:  # noqa: BLE001  finders of other people; an import would fail there, too
            return None
        if spec is not None or attempt == 2 or not _looks_there(name):  # noqa: PLR2004  the second time
            return spec
        importlib.invalidate_caches()  # it is younger than the listing of its folder
    return None


def _looks_there(name: str) -> bool:
    """Whether a folder of sys.path has something of that name."""
    places = [os.path.join(folder, name) for folder in sys.path]  # noqa: PTH118  text in, text out
    return any(os.path.exists(f"{place}.py") or os.path.isdir(place) for place in places)  # noqa: PTH110, PTH112  as above


def _files_of(top: Top, dotted: str) -> Iterator[tuple[str, str]]:
    """The files that ``import dotted`` runs, as (path, origin); what is an attribute rather than a module ends it."""
    if not top.folders:
        yield top.name + _suffix(top.file), top.file
        return
    if top.file:
        yield f"{top.name}/__init__{_suffix(top.file)}", top.file
    folders: tuple[str, ...] = top.folders
    path = top.name
    for part in dotted.split(".")[1:]:
        path = f"{path}/{part}"
        origin, folders = _child(folders, part)
        if origin:
            yield (f"{path}/__init__{_suffix(origin)}" if folders else f"{path}{_suffix(origin)}"), origin
        if not folders:
            return


def _child(folders: tuple[str, ...], name: str) -> tuple[str, tuple[str, ...]]:
    """The file and the folders of a submodule, as the import system would find them; empty when there is none."""
    portions = []
    for folder in folders:
        inner = os.path.join(folder, name)  # noqa: PTH118  text in, text out
        for suffix in importlib.machinery.all_suffixes():
            if os.path.isfile(file := os.path.join(inner, f"__init__{suffix}")):  # noqa: PTH113, PTH118  as above
                return file, (inner,)
        for suffix in importlib.machinery.all_suffixes():
            if os.path.isfile(file := inner + suffix):  # noqa: PTH113  as above
                return file, ()
        if os.path.isdir(inner):  # noqa: PTH112  as above
            portions.append(inner)
    return "", tuple(portions)


def _suffix(file: str) -> str:
    """What follows a module's name in its file's name: ``.py``, ``.cpython-311-x86_64-linux-gnu.so``."""
    name = os.path.basename(file)  # noqa: PTH119  text in, text out
    return name[name.index(".") :]


def _walk(folder: str, path: str, seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, str, int]]:
    """The files below a package's folder: (path, origin, bytes). Hidden files, caches and environments stay here."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError:
        return
    if any(each.name == "pyvenv.cfg" for each in entries):
        return
    for entry in entries:
        name = entry.name
        if name.startswith(".") or name in _SKIPPED_FOLDERS or name.endswith((".pyc", ".pyo")):
            continue
        try:
            if entry.is_dir():
                yield from _walk(entry.path, f"{path}/{name}", seen | {real})
            elif entry.is_file():
                yield f"{path}/{name}", entry.path, entry.stat().st_size
        except OSError:
            continue


def _fits(path: str, node: Mapping[str, object]) -> bool:
    """Whether the node can load a compiled module of that name."""
    extensions = node.get("extensions")
    suffixes = tuple(str(each) for each in extensions) if isinstance(extensions, list | tuple) else ()
    name = path.rpartition("/")[2]
    return node.get("platform") == sysconfig.get_platform() and name[name.find(".") :] in suffixes


def _unfit(compiled: Iterable[Source], node: Mapping[str, object]) -> str | None:
    """A compiled module of which no variant fits the node, by its file's name; None when all do."""
    variants: dict[str, list[str]] = {}
    for each in compiled:
        folder, _, name = each.path.rpartition("/")
        variants.setdefault(f"{folder}/{name.partition('.')[0]}", []).append(each.path)
    return next((paths[0].rpartition("/")[2] for paths in variants.values() if not any(_fits(path, node) for path in paths)), None)


def _left_out(name: str, left: list[str], limit: int) -> str:
    if not left:
        return ""
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return f"{name} is sent without {left[0]}{more}: data files above {limit / 1024**2:.1f} MiB stay here. Send them with --files."


def _amount(size: int, files: int) -> str:
    return f"{size / 1024**2:.1f} MiB in {files:,} file{'s' if files != 1 else ''}"
