"""The lab in pytest: loaded by tests/conftest.py.

The fixture `lab` is a module's: it may hurt the lab at will, as far as `Lab.clean`, which follows the module, mends it. The first module
that asks brings the lab up; each worker of pytest-xdist has one of its own, and takes it down when it ends, also after a failure or Ctrl-C.
A lab whose worker was killed is taken down by the next one.

With JUPYTER_REMOTE_GPU_LAB=FOLDER it is the lab that is up there (``python -m tests.lab up``), which stays up; for one worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.lab import Lab, sweep
from tests.lab.plan import Owner

_GIVEN = "JUPYTER_REMOTE_GPU_LAB"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker that crashed leaves its lab."""
    if not hasattr(session.config, "workerinput"):
        sweep()


@pytest.fixture(scope="session")
def _workers_lab() -> Iterator[Lab]:
    if given := os.environ.get(_GIVEN):
        yield Lab.open(Path(given))
        return
    mine = Lab.start(owned_by=Owner.of(os.getpid()))
    try:
        yield mine
    finally:
        mine.stop()


@pytest.fixture(scope="module")
def lab(_workers_lab: Lab) -> Iterator[Lab]:
    """A lab without jobs, all of whose daemons are there; for this module alone."""
    yield _workers_lab
    _workers_lab.clean()
