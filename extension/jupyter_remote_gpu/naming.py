"""Names of remote sessions: which are allowed, which one a notebook gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from remote_gpu.errors import UsageProblem

__all__ = ["check_name", "default_name", "free_name"]

_NAME = re.compile(r"\w[\w.-]{0,63}")
_ODD = re.compile(r"[^\w.-]+")


def check_name(name: object) -> str:
    """`name`, if a session may be called so; raises `UsageProblem`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"A remote session cannot be named {name!r}."
        raise UsageProblem(message, hint="A name has letters, digits, '.', '_' and '-', begins with a letter or digit, at most 64.")
    return name


def default_name(notebook: str) -> str:
    """The name that a notebook's session gets: its file's, without the ending; "default" without a notebook."""
    stem = PurePosixPath(notebook.rpartition(":")[2]).stem if notebook else ""
    return _ODD.sub("-", stem).strip("-.")[:60] or "default"


def free_name(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or `wanted` with the first number that makes it unlike all in `taken`."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name
