"""Sends the user's own modules ahead of the cell that imports them, and again when they changed.

Per remote kernel it is remembered which files were sent, under which digest. What `needed` returns goes along in the request that
runs the cell (see `remote_gpu.node.shipped`), so there is no round trip more. Both sides name what they agree on by a `state`, the
digest of all files; a kernel that has another state (somebody else sent modules to it) refuses, and everything is sent anew.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote_gpu.modules.local import Found, Limits, LocalModules, Source

__all__ = ["REFUSED", "Shipment", "Shipping", "limits_from"]

REFUSED = "import"
"""In place of a name, in the reasons of a kernel that cannot take in modules: no name is a keyword."""

_LIMIT_NAME = "JUPYTER_REMOTE_GPU_MODULES_LIMIT"


@dataclass(frozen=True, slots=True, eq=False)
class Shipment:
    """The modules of one cell. `manifest` and `buffers` are for its request, `notes` for the user.

    `changed` are the top-level names of modules that the kernel is about to import anew: what was made of them before keeps its old
    classes and functions, so whoever sends objects by reference to them sends them again.
    """

    kernel: str
    notes: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()
    buffers: tuple[bytes, ...] = ()
    files: Mapping[str, Source] = field(default_factory=dict)
    names: Mapping[str, set[str]] = field(default_factory=dict)
    described: Mapping[str, Any] = field(default_factory=dict)

    def manifest(self, first: int = 0) -> dict[str, Any]:
        """What the request says in its metadata as ``remote_gpu["modules"]``. `first`: how many buffers stand before these.

        Empty when there is nothing but `notes`.
        """
        return {**self.described, "pack": {"inline": first}} if self.buffers else dict(self.described)


@dataclass(slots=True)
class _Sent:
    """What one kernel has: `files` by path; by top-level name the dotted names that led to them, and the top-level names imported.

    `told` are the notes that the user has seen.
    """

    files: dict[str, Source] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    imports: dict[str, set[str]] = field(default_factory=dict)
    base: str | None = None
    told: set[str] = field(default_factory=set)


class Shipping:
    """The modules of one notebook kernel, for all remote kernels that it uses. `shown` is how a path is written in tracebacks."""

    def __init__(self, limits: Limits | None = None, *, shown: Callable[[str], str] | None = None) -> None:
        self._modules = LocalModules(limits or limits_from(os.environ))
        self._shown = shown or _compress_user
        self._sent: dict[str, _Sent] = {}

    def needed(self, imports: Iterable[str], kernel: str, node: Mapping[str, object] | None = None) -> Shipment | None:
        """What has to go along with a cell that imports `imports`; None when none of them is the user's own.

        `imports` are dotted names (attributes at their end do no harm), of the cell's import statements and of the modules that
        sent objects refer to. `kernel` is the remote kernel's token, `node` its answer to ``hello``.
        Nothing is taken as sent before `arrived` says so.
        """
        wanted = set(imports)
        sent = self._sent.setdefault(kernel, _Sent())
        found = self._modules.find(wanted, node or {}, sent.names)
        tops = found.keys() | ({each.partition(".")[0] for each in wanted} & sent.imports.keys())
        if not tops:
            return None
        notes = tuple(mine.note for mine in found.values() if mine.note and mine.note not in sent.told)
        sent.told.update(notes)
        has_files = any(mine.files for mine in found.values()) or any(_top_of(path) in tops for path in sent.files)
        return self._shipment(kernel, sent, found, tops, notes) if has_files else Shipment(kernel, notes) if notes else None

    def arrived(self, shipment: Shipment) -> None:
        """The kernel has taken it in."""
        if not shipment.described:
            return
        sent = self._sent.setdefault(shipment.kernel, _Sent())
        sent.files = dict(shipment.files)
        sent.imports = {top: set(names) for top, names in shipment.described["imports"].items()}
        sent.names.update(shipment.names)
        sent.base = str(shipment.described["state"])

    def forget(self, kernel: str) -> bool:
        """The kernel does not have what was sent to it (it refused with the name `REFUSED`), or is gone.

        False when nothing was taken as sent: sending everything anew is no use.
        """
        sent = self._sent.pop(kernel, _Sent())
        if sent.told:
            self._sent[kernel] = _Sent(told=sent.told)
        return sent.base is not None

    def _shipment(self, kernel: str, sent: _Sent, found: Mapping[str, Found], tops: Iterable[str], notes: tuple[str, ...]) -> Shipment:
        concerned = set(tops)
        now = {path: source for path, source in sent.files.items() if _top_of(path) not in concerned}
        for mine in found.values():
            now.update(mine.files)
        new = [source for path, source in sorted(now.items()) if _digest(sent.files.get(path)) != source.digest]
        gone = sorted(sent.files.keys() - now.keys())
        now, content = _read(now, new)
        new = [now[each.path] for each in new if each.path in now]
        imports = {top: names for top, names in sent.imports.items() if top not in concerned}
        imports.update({top: mine.imports for top, mine in found.items() if mine.files})
        files = [[each.path, each.digest, each.size, each.mtime_ns, each.origin, self._shown(each.origin)] for each in new]
        described = {
            "base": sent.base,
            "state": _state(now),
            "files": files,
            "gone": gone,
            "imports": {top: sorted(names & imports.keys()) for top, names in imports.items()},
        }
        buffers = (zlib.compress(content, 1),) if files else ()
        changed = frozenset(_top_of(path) for path in (*(each.path for each in new), *gone))
        names = {top: mine.names for top, mine in found.items()}
        return Shipment(kernel, notes, _dependents(changed, imports), buffers, now, names, described)


def limits_from(environment: Mapping[str, str]) -> Limits:
    """The limits, with what the user set: `JUPYTER_REMOTE_GPU_MODULES_LIMIT` in MiB for one package, a sixteenth of it for one data file."""
    try:
        total = int(float(environment.get(_LIMIT_NAME, "")) * 1024**2)
    except ValueError:
        return Limits()
    return Limits(total, total // 16, max(2000, total // 1024**2 * 125))


def _read(now: dict[str, Source], new: Iterable[Source]) -> tuple[dict[str, Source], bytes]:
    """The content of `new` files, one after the other; `now` with what they really hold, should they have changed meanwhile."""
    whole, parts = dict(now), []
    for each in new:
        try:
            content = Path(each.origin).read_bytes()
        except OSError:
            del whole[each.path]
            continue
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        whole[each.path] = Source(each.path, each.origin, len(content), each.mtime_ns, digest, each.imports)
        parts.append(content)
    return whole, b"".join(parts)


def _dependents(changed: frozenset[str], imports: Mapping[str, set[str]]) -> frozenset[str]:
    """`changed` with all that import them, directly or through others."""
    whole = set(changed)
    while more := {top for top, names in imports.items() if top not in whole and names & whole}:
        whole |= more
    return frozenset(whole)


def _state(files: Mapping[str, Source]) -> str:
    lines = "".join(f"{path}\0{source.digest}\n" for path, source in sorted(files.items()))
    return hashlib.blake2b(lines.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _digest(source: Source | None) -> str:
    return source.digest if source is not None else ""


def _top_of(path: str) -> str:
    """The top-level name that a file belongs to."""
    return path.partition("/")[0].partition(".")[0]


def _compress_user(path: str) -> str:
    home = os.path.expanduser("~")  # noqa: PTH111  text in, text out
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(home + os.sep) else path
