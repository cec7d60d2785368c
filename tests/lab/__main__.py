"""The lab by hand: ``python -m tests.lab up|status|env|clean|down [FOLDER] [--far]``.

`up` prints the folder, and what to set in a shell so that plain ``ssh bristol`` reaches the lab. Without FOLDER the others mean the
one lab that is up.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from tests.lab import layout
from tests.lab.far import Far
from tests.lab.lab import Lab
from tests.lab.machines import LabError
from tests.lab.plan import labs


def main() -> int:
    """Do what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="A test lab of Slurm clusters and logins on this machine.")
    parser.add_argument("verb", choices=("up", "status", "env", "clean", "down"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--far", action="store_true", help="with `up`: the far site, too (45 ms and 0.1 %% loss each way)")
    words = parser.parse_args()
    try:
        if words.verb == "up":
            _up(words.folder, with_far=words.far)
        else:
            {"status": _status, "env": _env, "clean": _clean, "down": _down}[words.verb](words.folder)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _up(folder: Path | None, *, with_far: bool) -> None:
    start = time.monotonic()
    lab = Lab.start(folder)
    if with_far:
        Far(lab).start()
    print(f"# up in {time.monotonic() - start:.1f} s; end it with: python -m tests.lab down {lab.folder}")
    _print_environment(lab)


def _env(folder: Path | None) -> None:
    _print_environment(_chosen(folder))


def _print_environment(lab: Lab) -> None:
    print(f"export JUPYTER_REMOTE_GPU_LAB={lab.folder}")
    print(f'export PATH={shlex.quote(str(lab.bin))}:"$PATH"')
    print(f"# SLURM_CONF={lab.bristol.conf} or {lab.montreal.conf}")
    print(f"# hosts: {' '.join((*lab.hosts, *(layout.FAR_LOGINS if Far(lab).pid else ())))}")
    print(f"# Python of the nodes: {lab.python}; without ipykernel: {lab.bare_python}")


def _status(folder: Path | None) -> None:
    for plan in labs() if folder is None else [_chosen(folder).plan]:
        lab = Lab(plan)
        owner = f"of process {plan.owner.pid}{' (ended)' if plan.owner.gone else ''}" if plan.owner.pid else "by hand"
        print(f"{plan.folder} {owner}, ports from {plan.first_port}")
        for cluster in (lab.bristol, lab.montreal):
            states = cluster.node_states() if cluster.controller.pids() else {}
            print(f"  {cluster.name}: {' '.join(f'{name}={state}' for name, state in states.items()) or 'down'}")
        print(f"  sshd: {' '.join(name for name, server in lab.sshd.items() if server.pid) or 'none'}")


def _clean(folder: Path | None) -> None:
    _chosen(folder).clean()


def _down(folder: Path | None) -> None:
    Lab.remove(folder or _chosen(None).folder)


def _chosen(folder: Path | None) -> Lab:
    if folder is None and (given := os.environ.get("JUPYTER_REMOTE_GPU_LAB")):
        folder = Path(given)
    found = [plan for plan in labs() if folder in (None, plan.folder)]
    if len(found) != 1:
        raise LabError(f"{len(found)} labs are there{': ' if found else ''}{' '.join(str(plan.folder) for plan in found)}; name a folder.")
    return Lab(found[0])


if __name__ == "__main__":
    sys.exit(main())
