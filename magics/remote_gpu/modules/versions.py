"""Python and packages of both sides: what differs so much that it matters for what crosses, in one line."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

__all__ = ["PACKAGES", "Ask", "Comparison", "compare", "local_versions"]

PACKAGES: Mapping[str, str] = {
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "jax": "jax",
    "PIL": "pillow",
    "xarray": "xarray",
    "ipywidgets": "ipywidgets",
    "networkx": "networkx",
    "sympy": "sympy",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "tensorflow": "tensorflow",
    "transformers": "transformers",
    "plotly": "plotly",
    "matplotlib": "matplotlib",
}
"""The packages whose values cross by themselves or whose objects are shown, by module: the names of their distributions."""


Ask = Callable[[list[str]], Mapping[str, Any]]
"""Asks the node for the versions of distributions (``hello``'s ``packages``): None for one that is not installed."""


class Comparison:
    """What one notebook kernel has said of the versions in each remote kernel, so that it says each thing once."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def news(self, kernel: str, remote: Mapping[str, Any], ask: Ask, *, node: str = "the node") -> str:
        """What there is to say of the `kernel` (its token) that was not said yet, see `compare`; "" for nothing.

        Called before each cell, since packages may be loaded at any time; it takes microseconds when nothing new is loaded.
        `remote` is the kernel's answer to ``hello``; for newly loaded packages it is asked once more.
        """
        seen = self._seen.get(kernel)
        new = {module for module in PACKAGES if module in sys.modules} - (seen or set())
        if seen is not None and not new:
            return ""
        self._seen[kernel] = new | (seen or set())
        here = local_versions(new)
        if seen is not None:
            here["python"] = ()  # that was said
        packages = ask(sorted(here["packages"])) if new else {}
        return compare(here, {**remote, "packages": packages}, node=node)

    def forget(self, kernel: str) -> None:
        """The kernel is gone."""
        self._seen.pop(kernel, None)


def local_versions(modules: Collection[str] = PACKAGES.keys()) -> dict[str, Any]:
    """This side in the form of ``hello``'s answer: ``python`` [3, 12, 1], ``implementation``, ``packages`` {distribution: version}.

    Packages are those of `modules` that are loaded.
    """
    packages = {}
    for module in modules:
        if module in sys.modules:
            said = getattr(sys.modules[module], "__version__", None)
            packages[PACKAGES[module]] = said if isinstance(said, str) else _installed(PACKAGES[module])
    return {"python": [*sys.version_info[:3]], "implementation": platform.python_implementation(), "packages": packages}


def compare(local: Mapping[str, Any], remote: Mapping[str, Any], *, node: str = "the node", crossing: Collection[str] = ()) -> str:
    """What a user should know before values cross, in one line; "" when nothing matters. Pure.

    Both mappings have the form of `local_versions`. A package is named when its major version differs (of 0.x, the minor one),
    and when it is missing there while a value of it is among those `crossing` (module names).
    """
    parts = [_python(local, remote, node)]
    sent = {PACKAGES.get(name.partition(".")[0], name.partition(".")[0]) for name in crossing}
    theirs: Mapping[str, Any] = remote.get("packages") or {}
    differ, missing = [], []
    for name, here in sorted((local.get("packages") or {}).items()):
        there = theirs.get(name)
        if name in theirs and not there:
            missing += [name] if name in sent else []
        elif here and there and _weight(here) != _weight(there):
            differ.append((name, _short(here), _short(there)))
    parts.append(_differing(differ, node, named=bool(parts[0])))
    if missing:
        are = "is" if len(missing) == 1 else "are"
        where = "there" if any(parts) else f"on {node}"
        parts.append(f"{_listed(missing)} {are} not installed {where}: values of {'it' if len(missing) == 1 else 'them'} stay here.")
    return " ".join(part for part in parts if part)


def _python(local: Mapping[str, Any], remote: Mapping[str, Any], node: str) -> str:
    here, there = _python_name(local), _python_name(remote)
    if not here or not there or here == there:
        return ""
    return f"{here} here, {there.removeprefix('Python ')} on {node}: functions cross as source text."


def _python_name(side: Mapping[str, Any]) -> str:
    version = side.get("python") or ()
    implementation = str(side.get("implementation") or "CPython")
    name = "Python" if implementation == "CPython" else implementation
    return f"{name} {'.'.join(str(part) for part in version[:2])}" if version else ""


def _differing(differ: Sequence[tuple[str, str, str]], node: str, *, named: bool) -> str:
    if not differ:
        return ""
    first, *others = differ
    where = "there" if named else f"on {node}"
    texts = [f"{first[0]} {first[1]} here, {first[2]} {where}", *(f"{name} {here} here, {there} there" for name, here, there in others)]
    return "; ".join(texts) + "."


def _weight(version: str) -> tuple[str, ...]:
    """The part of a version whose change may change what a pickle means: the major one, and of 0.x the minor one."""
    parts = version.split("+", maxsplit=1)[0].split(".")
    return tuple(parts[:2]) if parts[0] == "0" else tuple(parts[:1])


def _short(version: str) -> str:
    return ".".join(version.split("+", maxsplit=1)[0].split(".")[:2])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
