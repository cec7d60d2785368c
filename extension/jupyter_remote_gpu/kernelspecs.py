"""A kernelspec for each cluster, so that the launcher, nbclient and consoles offer remote kernels like any other.

The one of `local` comes with the wheel. Those of configured clusters are files in the user's own kernelspec folder, written when a
gateway loads; files are what every Jupyter program reads, in any process, without this package's help.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir, jupyter_path

from remote_gpu.errors import NotWritable

__all__ = ["PREFIX", "PROVISIONER", "cluster_of", "describe", "kernel_name", "kernels_folder", "write_kernelspecs"]

PREFIX = "remote-gpu-"
PROVISIONER = "remote-gpu-provisioner"


def kernel_name(cluster: str) -> str:
    """The kernelspec's name of a cluster. Kernelspec names are not case sensitive, and `auto` is a choice, not a cluster."""
    return PREFIX + cluster.lower()


def kernels_folder() -> Path:
    """Where the user's own kernelspecs lie."""
    return Path(jupyter_data_dir()) / "kernels"


def describe(cluster: str) -> dict[str, Any]:
    """The content of ``kernel.json`` for `cluster`."""
    return {
        "argv": ["jupyter-remote-gpu", "kernel", "{connection_file}"],
        "display_name": f"Python 3 (Remote GPU: {cluster})",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {
            "debugger": True,
            "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": {"cluster": cluster}},
        },
    }


def cluster_of(kernelspec: dict[str, Any]) -> str | None:
    """The cluster that a kernelspec starts on; None for a kernelspec that is not ours."""
    provisioner = kernelspec.get("metadata", {}).get("kernel_provisioner", {})
    if provisioner.get("provisioner_name") != PROVISIONER:
        return None
    return str(provisioner.get("config", {}).get("cluster", "auto"))


def write_kernelspecs(clusters: Iterable[str]) -> list[str]:
    """Make the user's kernelspecs fit `clusters`; returns the names that were written or removed.

    Only files that we wrote are touched. A kernelspec that is installed elsewhere with the same content (the one of
    `local`, in the wheel) is not written again. Raises `NotWritable` when the folder refuses.
    """
    wanted = {kernel_name(cluster): describe(cluster) for cluster in clusters}
    mine = _mine()
    changed = [name for name in mine if name not in wanted]
    for name, content in wanted.items():
        if mine.get(name) == content or (name not in mine and _installed(name)):
            continue
        changed.append(name)
        _write(kernels_folder() / name, content)
    for name in mine.keys() - wanted.keys():
        shutil.rmtree(kernels_folder() / name, ignore_errors=True)
    return sorted(changed)


def _installed(name: str) -> bool:
    """Whether the kernelspec lies elsewhere; a `KernelSpecManager` would import all of IPython, and a server waits for us to load."""
    return any((Path(folder) / name / "kernel.json").is_file() for folder in jupyter_path("kernels") if Path(folder) != kernels_folder())


def _mine() -> dict[str, dict[str, Any]]:
    found = {}
    for file in kernels_folder().glob(f"{PREFIX}*/kernel.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and cluster_of(content) is not None:
            found[file.parent.name] = content
    return found


def _write(folder: Path, content: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".kernel.json"
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(folder / "kernel.json")
    except OSError as error:
        message = f"Cannot write the kernelspec {folder}: {error.strerror}."
        raise NotWritable(message, hint="Remote kernels are then missing in the launcher; %%remote_gpu works.") from error
