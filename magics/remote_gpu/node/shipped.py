"""The notebook's own modules on the node: files that came with a cell, in a folder of the session that stands first on sys.path.

A request says in its metadata ``{"remote_gpu": {"modules": MANIFEST}}``: which files came (in one compressed buffer), which are
gone, and which top-level names import which. What changed, and what imports it, is taken out of sys.modules, so that the cell's
import runs it anew. Where the notebook's folder is visible here under the same path with the same content, files stay there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_gpu.errors import NotWritable, UsageProblem
from remote_gpu.folders import private_folder

__all__ = ["REFUSED", "Shipped"]

REFUSED = "import"
"""In place of a name, when modules cannot be taken in: no name is a keyword."""


@dataclass(frozen=True)
class _File:
    """One file as the notebook has it: `origin` is its path there, `shown` that path in tracebacks."""

    path: str
    digest: str
    size: int
    mtime_ns: int
    origin: str
    shown: str

    @property
    def top(self) -> str:
        """The top-level name that it belongs to."""
        return _top_of(self.path)


class Shipped:
    """The modules in `folder`, which this kernel alone uses; what an earlier kernel left there is removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._imports: dict[str, set[str]] = {}
        self._elsewhere: set[str] = set()
        """Top-level names whose files the notebook's own folder has, here too."""
        self._ready = False

    def receive(self, manifest: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        """Take in what `manifest` says. Raises `UsageProblem` when it builds on what is not here, `NotWritable` when the disk refuses."""
        if manifest["state"] == _state(self._files):  # it came before, with a cell that did not begin
            self._be_on_path()
            return
        base, came = manifest["base"], {each[0]: _File(*each) for each in manifest["files"]}
        if base is not None and base != _state(self._files):
            raise UsageProblem("The modules that the notebook sent earlier are not here any more.")
        kept = {} if base is None else {path: file for path, file in self._files.items() if path not in manifest["gone"]}
        files, before = {**kept, **came}, self._files
        if _state(files) != manifest["state"]:
            raise UsageProblem("The modules that the notebook sent are not all here.")
        changed = {path for path in files.keys() | before.keys() if _digest(files.get(path)) != _digest(before.get(path))}
        self._imports = {top: set(names) for top, names in manifest["imports"].items()}
        if changed:
            tops = {_top_of(path) for path in changed}
            content = _unpacked(came.values(), buffers[int(manifest["pack"]["inline"])]) if came else {}
            self._place(tops, files, content)
            forgotten = self._forget_modules(self._dependents(tops), {**before, **files})
        self._be_on_path()
        if changed:
            _load_submodules(forgotten)

    def _be_on_path(self) -> None:
        if self._ready and str(self._folder) not in sys.path:
            sys.path.insert(0, str(self._folder))

    def rename_in(self, shell: Any) -> None:
        """Have the tracebacks of `shell` name the files as the notebook does."""
        show = shell._showtraceback  # noqa: SLF001  IPython's own hook for this: its subclasses override it

        def show_renamed(kind: Any, value: Any, lines: list[str]) -> None:
            show(kind, value, [self.rename(line) for line in lines])

        shell._showtraceback = show_renamed  # noqa: SLF001  as above

    def rename(self, text: str) -> str:
        """`text` of a traceback with the paths that the files have in the notebook."""
        if not self._files:
            return text
        for folder in {str(self._folder), _compressed(str(self._folder))}:
            if folder in text:
                for path, file in sorted(self._files.items(), reverse=True):
                    text = text.replace(f"{folder}/{path}", file.shown)
        return text

    def _place(self, tops: set[str], files: dict[str, _File], content: Mapping[str, bytes]) -> None:
        """Have the files of these top-level names where an import finds them, and no others of these names."""
        try:
            self._make_ready()
            for top in sorted(tops):
                self._place_top(top, {path: file for path, file in files.items() if file.top == top}, content)
        except BaseException as error:
            self._files, self._elsewhere, self._ready = {}, set(), False  # the next one must bring everything
            if isinstance(error, OSError):
                message = f"Cannot keep the notebook's modules in {self._folder}: {error.strerror}."
                raise NotWritable(message, hint="Free some space on the node.") from error
            raise

    def _place_top(self, top: str, mine: dict[str, _File], content: Mapping[str, bytes]) -> None:
        before = {path: file for path, file in self._files.items() if file.top == top}
        mistakable = any(_same_stamp(file, before.get(path)) for path, file in mine.items())
        shared = bool(mine) and not mistakable and self._is_here(top, mine)
        for path in before if shared else before.keys() - mine.keys():
            self._remove(path)
        if not shared:
            self._write(mine, content, moved=top in self._elsewhere)
        (self._elsewhere.add if shared else self._elsewhere.discard)(top)
        self._files = {path: file for path, file in self._files.items() if file.top != top} | mine

    def _make_ready(self) -> None:
        if not self._ready:
            shutil.rmtree(self._folder, ignore_errors=True)
            private_folder(self._folder)
            self._ready = True

    def _is_here(self, top: str, files: Mapping[str, _File]) -> bool:
        """Whether an import here finds the very files of the notebook: the same paths, the same content."""
        spec = importlib.machinery.PathFinder.find_spec(top, [each for each in sys.path if each != str(self._folder)])
        if spec is None:
            return False
        places = [os.path.realpath(each) for each in spec.submodule_search_locations or ()]
        if spec.origin is not None and spec.has_location:
            places.append(os.path.realpath(spec.origin))
        for file in files.values():
            real = os.path.realpath(file.origin)
            if not any(real == place or real.startswith(place + os.sep) for place in places):
                return False
            try:
                if hashlib.blake2b(Path(file.origin).read_bytes(), digest_size=16).hexdigest() != file.digest:
                    return False
            except OSError:
                return False
        return True

    def _write(self, files: Mapping[str, _File], content: Mapping[str, bytes], *, moved: bool) -> None:
        """Write what came; with `moved` also what lay in the notebook's folder so far."""
        for path, file in files.items():
            data = content.get(path)
            if data is None and moved:
                data = Path(file.origin).read_bytes()
                if hashlib.blake2b(data, digest_size=16).hexdigest() != file.digest:
                    raise UsageProblem("The modules that the notebook sent earlier have changed here.")
            if data is not None:
                self._write_one(file, data)

    def _write_one(self, file: _File, data: bytes) -> None:
        target = self._target(file.path)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
        os.utime(temporary, ns=(file.mtime_ns, file.mtime_ns))
        temporary.replace(target)
        _drop_bytecode(target)

    def _remove(self, path: str) -> None:
        target = self._target(path)
        target.unlink(missing_ok=True)
        _drop_bytecode(target)
        for parent in target.parents:
            if parent == self._folder or not parent.is_dir() or {each.name for each in parent.iterdir()} - {"__pycache__"}:
                break
            shutil.rmtree(parent)

    def _target(self, path: str) -> Path:
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise UsageProblem(f"{path!r} is not the path of a module.")
        return self._folder.joinpath(*parts)

    def _dependents(self, tops: set[str]) -> set[str]:
        whole = set(tops)
        while more := {top for top, names in self._imports.items() if top not in whole and names & whole}:
            whole |= more
        return whole

    def _forget_modules(self, tops: set[str], files: Mapping[str, _File]) -> list[str]:
        """Take these modules out of sys.modules; of a namespace package, which others may share, only the notebook's part.

        Returns their names in the order in which they were loaded.
        """
        forgotten = []
        regular = {file.top for path, file in files.items() if _is_root(path)}
        mine = {os.path.realpath(file.origin) for file in files.values()}
        for name, module in list(sys.modules.items()):
            top = name.partition(".")[0]
            if top in tops and (top in regular or self._is_mine(module, mine)):
                del sys.modules[name]
                forgotten.append(name)
                parent, _, child = name.rpartition(".")
                if parent in sys.modules and vars(sys.modules[parent]).get(child) is module:
                    delattr(sys.modules[parent], child)
        importlib.invalidate_caches()
        return forgotten

    def _is_mine(self, module: Any, mine: set[str]) -> bool:
        file = getattr(module, "__file__", None)
        return isinstance(file, str) and (file.startswith(f"{self._folder}{os.sep}") or os.path.realpath(file) in mine)


def _load_submodules(names: Iterable[str]) -> None:
    """Load those submodules anew that were loaded: a cell that imports one of a package expects the others where they were."""
    for name in names:
        if "." in name:
            with contextlib.suppress(Exception):  # the cell's own import shows what went wrong
                importlib.import_module(name)


def _unpacked(files: Iterable[_File], buffer: Any) -> dict[str, bytes]:
    """The content of each file. They lie one after the other."""
    whole, content, start = memoryview(zlib.decompress(bytes(buffer))), {}, 0
    for file in files:
        content[file.path] = bytes(whole[start : start + file.size])
        start += file.size
        if hashlib.blake2b(content[file.path], digest_size=16).hexdigest() != file.digest:
            raise UsageProblem(f"The content of {file.path} arrived damaged.")
    return content


def _same_stamp(file: _File, before: _File | None) -> bool:
    """Whether Python's byte code of the old content would be taken for that of the new: it looks at seconds and size."""
    if before is None or before.digest == file.digest:
        return False
    return before.size == file.size and before.mtime_ns // 10**9 == file.mtime_ns // 10**9


def _drop_bytecode(target: Path) -> None:
    if target.suffix == ".py":
        Path(importlib.util.cache_from_source(str(target))).unlink(missing_ok=True)


def _is_root(path: str) -> bool:
    """Whether a file is a top-level module, or makes a top-level folder a regular package."""
    folder, _, rest = path.partition("/")
    return not rest or (rest.startswith("__init__.") and "/" not in rest and bool(folder))


def _state(files: Mapping[str, _File]) -> str:
    lines = "".join(f"{path}\0{file.digest}\n" for path, file in sorted(files.items()))
    return hashlib.blake2b(lines.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _digest(file: _File | None) -> str:
    return file.digest if file is not None else ""


def _top_of(path: str) -> str:
    return path.partition("/")[0].partition(".")[0]


def _compressed(path: str) -> str:
    home = os.path.expanduser("~")  # noqa: PTH111  text in, text out
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(home + os.sep) else path
