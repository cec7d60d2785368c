"""The lab in pytest: loaded by tests/conftest.py.

Fixtures: `lab`, one for the whole run, shared by all workers of pytest-xdist; `own_lab`, one for a module that hurts what others
use (stops a controller, kills a node). The first test that asks for `lab` brings it up; the process that controls the run takes it
down, also after a failure or Ctrl-C. A lab whose run was killed is taken down by the next one.

With JUPYTER_REMOTE_GPU_LAB=FOLDER both are the lab that is up there (``python -m tests.lab up``), which stays up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.lab import Lab, sweep
from tests.lab.plan import Owner, free_folder

_FOLDER = pytest.StashKey[Path]()
_OWNER = pytest.StashKey[Owner]()
_GIVEN = "JUPYTER_REMOTE_GPU_LAB"


def pytest_configure(config: pytest.Config) -> None:
    """Decide where the run's lab would be, and with which process it ends."""
    said = getattr(config, "workerinput", {}).get("lab")
    folder, pid, started = said or (str(free_folder()), os.getpid(), Owner.of(os.getpid()).started)
    config.stash[_FOLDER] = Path(folder)
    config.stash[_OWNER] = Owner(pid, started)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist."""
    owner = node.config.stash[_OWNER]
    node.workerinput["lab"] = (str(node.config.stash[_FOLDER]), owner.pid, owner.started)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the run's lab down, once, in the process that controls the run."""
    if not hasattr(session.config, "workerinput"):
        Lab.remove(session.config.stash[_FOLDER])
        sweep()  # a worker that crashed leaves its modules' own labs


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The run's lab: leave it as it was (`Lab.clean`), and hurt nothing that another test may be using."""
    if given := os.environ.get(_GIVEN):
        return Lab.open(Path(given))
    return Lab.shared(request.config.stash[_FOLDER], request.config.stash[_OWNER])


@pytest.fixture(scope="module")
def own_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab for this module alone, to hurt at will."""
    if given := os.environ.get(_GIVEN):
        yield Lab.open(Path(given))
        return
    mine = Lab.start(owned_by=Owner.of(os.getpid()))
    try:
        yield mine
    finally:
        mine.stop()
