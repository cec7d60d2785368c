"""A build backend that builds nothing, in place of each backend that the projects ask for.

``pip download`` prepares the metadata of what it downloads, which for numpy or scipy means to compile them. We want the source as it
is, so pip is shown this module under the names of their backends: it hands over the metadata that every source distribution carries.
Runs in pip's own subprocess, in the root of an unpacked source distribution; imports the standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NoReturn

__legacy__ = sys.modules[__name__]  # setuptools' backend for projects that name none


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:  # noqa: ARG001  PEP 517's signature
    """Write PKG-INFO as METADATA; returns the name of its folder."""
    text = Path("PKG-INFO").read_text(encoding="utf-8")
    name, version = (re.search(rf"^{field}: (.*)$", text, re.MULTILINE) for field in ("Name", "Version"))
    if name is None or version is None:
        raise ValueError("PKG-INFO has no name and version")
    folder = Path(metadata_directory) / f"{re.sub(r'[-_.]+', '_', name[1].strip())}-{version[1].strip()}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name


def build_wheel(*_: Any, **__: Any) -> NoReturn:
    """Never: nothing is built."""
    raise NotImplementedError("only the source is wanted")
