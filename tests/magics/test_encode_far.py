"""Values and code in a process that has nothing of ours but the bundle: this Python, and whatever other versions the machine has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.other_side import FarNode, Notebook
from tests.magics.test_encode_classes import CHECKS, CLASSES, NAMES


def _others() -> list[str]:
    """Other versions of Python, 3.10 and later, on the path or under pyenv."""
    found = {}
    folders = [folder / "bin" for folder in sorted(Path("~/.pyenv/versions").expanduser().glob("3.*"))]
    for minor in range(10, 16):
        here = [str(folder / f"python3.{minor}") for folder in folders] + [shutil.which(f"python3.{minor}") or ""]
        for each in here:
            if minor != sys.version_info[1] and each and Path(each).exists():
                found.setdefault(minor, each)
    return list(found.values())


OTHERS = _others()


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


@pytest.fixture
def far(tmp_path):
    node = FarNode(tmp_path)
    yield node
    node.close()


def test_a_bare_python_takes_functions_classes_and_instances_from_the_bundle(notebook, far):
    notebook.cell(CLASSES)
    notebook.names["made"].clear()
    notebook.send(far, *NAMES)
    far.run(CHECKS)
    far.run("import sys; assert 'cloudpickle' not in sys.modules")
    far.run("assert Model.__module__ == '__main__' and model.hi.__func__.__globals__ is globals()")


def test_arrays_over_there_lie_in_the_received_memory_and_can_be_written_to(notebook, far):
    notebook.cell("import numpy as np\na = np.arange(10000.)\nb = a\nsmall = np.arange(3)")
    parcel = notebook.encoded("a", "b", "small")
    assert [each.nbytes for each in parcel.buffers] == [80000]
    # A bare ``python -I`` of the same environment has numpy.
    far.take(parcel)
    far.run("assert a is b; a[0] = 5; assert b[0] == 5 and not a.flags.owndata; small[0] = 9")


@pytest.mark.skipif(not OTHERS, reason="there is no other version of Python on this machine")
@pytest.mark.parametrize("python", OTHERS, ids=[Path(each).name for each in OTHERS])
def test_another_version_of_python_takes_code_as_text(notebook, tmp_path, python):
    version = subprocess.run([python, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True, check=True)
    assert int(version.stdout) != sys.version_info[1]
    node = FarNode(tmp_path, python)
    try:
        notebook.cell(CLASSES)
        notebook.names["made"].clear()
        notebook.send(node, *NAMES, same_python=False)
        node.run(CHECKS)
        notebook.cell(
            "import functools\ndef make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\nup = make()\n"
            "twice = lambda x: x * 2\n@functools.lru_cache\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
            "async def soon():\n    return [x async for x in later()]\nasync def later():\n    yield 1"
        )
        notebook.send(node, "up", "twice", "fib", "soon", "later", same_python=False)
        node.run("assert up() == 1 and up() == 2 and twice(2) == 4 and fib(20) == 6765")
        node.run("import asyncio; assert asyncio.run(soon()) == [1]")
    finally:
        node.close()
