"""The shape of the code: which part may import which, that nothing goes in circles, and that files keep one job."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"remote_gpu": ROOT / "magics" / "remote_gpu", "jupyter_remote_gpu": ROOT / "extension" / "jupyter_remote_gpu"}
REFERENCE = ROOT / "docs" / "reference"
GENERATED = {"jupyter_remote_gpu._version"}

MAX_LINES = 350
"""A file that is longer has a second job."""

NODE_MAY_USE = {
    "remote_gpu.base",
    "remote_gpu.transfer",
    "remote_gpu.transfer.frames",
    "remote_gpu.transfer.packed",
    "remote_gpu.errors",
    "remote_gpu.folders",
    "remote_gpu.frames",
    "remote_gpu.power",
    "remote_gpu.transfer.trees",
}
"""What the node's half takes from the rest; these run on the node's Python too."""

NODE_NEEDS = {"IPython", "cloudpickle", "ipykernel", "jupyter_client", "matplotlib_inline", "pynvml", "tornado", "traitlets", "zmq"}
"""All that a node must have: ipykernel and what comes with it. (pynvml is optional there, and is asked for as such; cloudpickle is in the bundle.)"""

NODE_MAY_MEET = {"jax", "numpy", "polars", "torch"}
"""Libraries of values: imported within the function that builds such a value, never when a module is loaded."""

EXTENSION_MAY_USE = NODE_MAY_USE | {
    "remote_gpu",
    "remote_gpu.discovery",
    "remote_gpu.gateway",
    "remote_gpu.gateway_infos",
    "remote_gpu.resources",
    "remote_gpu.selection_text",
    "remote_gpu.streams",
}
"""What the server's half takes from the light one. Of the package itself: its version."""


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            if "labextension" in file.relative_to(folder).parts:
                continue
            parts = [package, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {name: file for name, file in found.items() if name not in GENERATED}


MODULES = _modules()


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if _is_for_types_only(child):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _statements(child)


def _imports(file: Path, *, types: bool = True) -> Iterator[str]:
    """What a file imports, absolute; ``from package import module`` is that module. Without `types`: what runs."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if types else _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import; say the whole name"
            base = node.module or ""
            yield from (f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names)


def _imports_at_start(file: Path) -> Iterator[str]:
    """What a file imports as soon as it is imported itself."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def _is_node(name: str) -> bool:
    return name == "remote_gpu.node" or name.startswith("remote_gpu.node.")


@pytest.mark.parametrize("name", sorted(name for name in MODULES if _ours(name)))
def test_imports_point_in_the_allowed_direction(name):
    found = set(_imports(MODULES[name]))
    ours = {used for used in found if _ours(used)}
    if _is_node(name):
        outside = {used for used in ours if not _is_node(used)} - NODE_MAY_USE - {"remote_gpu"}
        assert not outside, f"{name} runs on the node and may not import {outside}"
        needed = {used.split(".")[0] for used in found - ours} - set(sys.stdlib_module_names) - NODE_NEEDS
        needed -= NODE_MAY_MEET - {used.split(".")[0] for used in _imports_at_start(MODULES[name])}
        assert not needed, f"{name} runs on the node, which has no {needed}"
    elif name.startswith("remote_gpu"):
        assert not {used for used in ours if _is_node(used)}, f"{name} may not import the node's half"
        heavy = {used for used in found if used.split(".")[0] in ("jupyter_server", "jupyter_remote_gpu")}
        assert not heavy, f"{name} may not import the server's half: {heavy}"
    else:
        outside = {used for used in ours if used.startswith("remote_gpu")} - EXTENSION_MAY_USE
        assert not outside, f"{name} may not import {outside}"


def test_no_imports_go_in_a_circle():
    graph = {name: {used for used in _imports(file, types=False) if used in MODULES and used != name} for name, file in MODULES.items()}
    # `remote_gpu` hands the whole work to `remote_gpu.magics` when IPython loads it, and everything lies below the package.
    for name in graph:
        graph[name] -= {"remote_gpu", "jupyter_remote_gpu", "remote_gpu.node"}
    list(graphlib.TopologicalSorter(graph).static_order())


def _sources() -> list[Path]:
    panel = ROOT / "labextension"
    sources = [*MODULES.values(), *(panel / "src").rglob("*.ts"), *(panel / "src").rglob("*.tsx"), *(panel / "style").glob("*.css")]
    return sorted(file for file in sources if "__tests__" not in file.parts)


@pytest.mark.parametrize("file", _sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_has_one_job(file):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{file.relative_to(ROOT)} has {lines} lines; split it by what it does"


def test_the_style_sheet_takes_its_colours_from_the_theme():
    for file in (ROOT / "labextension" / "style").glob("*.css"):
        found = re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(", file.read_text(encoding="utf-8"))
        assert not found, f"{file.name} has colours of its own: {found}"


def test_every_setting_is_documented():
    from jupyter_remote_gpu.settings import RemoteGpu

    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    missing = [name for name in RemoteGpu.class_own_traits(config=True) if f"RemoteGpu.{name}" not in text]
    assert not missing, f"settings.md does not have {missing}"


def test_every_error_is_documented():
    from remote_gpu.errors import RemoteGpuError

    text, todo, missing = (REFERENCE / "errors.md").read_text(encoding="utf-8"), [RemoteGpuError], []
    while todo:
        kind = todo.pop()
        todo += [child for child in kind.__subclasses__() if child.__module__ == "remote_gpu.errors"]
        if f"`{kind.__name__}` | `{kind.reason}` | {kind.status} |" not in text:
            missing.append(kind.__name__)
    assert not missing, f"errors.md does not have {missing}, or not with their reason and status"


def test_the_rest_api_and_its_description_are_the_same():
    from jupyter_remote_gpu.handlers import ROUTES

    described = yaml.safe_load((REFERENCE / "rest-api.yaml").read_text(encoding="utf-8"))["paths"]
    # The HTTP methods that a handler has are those that its class (or a base of ours) defines.
    verbs = ("get", "put", "post", "delete", "patch")
    built = {
        path: {verb for verb in verbs if any(verb in kind.__dict__ for kind in handler.__mro__ if _ours(kind.__module__))}
        for path, handler in ROUTES.items()
    }
    assert built == {path: {verb for verb in verbs if verb in content} for path, content in described.items()}


def test_the_installed_kernelspec_is_the_one_that_the_gateway_would_write():
    import json

    from jupyter_remote_gpu.kernelspecs import describe, kernel_name

    file = ROOT / "extension" / "kernelspecs" / kernel_name("local") / "kernel.json"
    assert json.loads(file.read_text(encoding="utf-8")) == describe("local")
