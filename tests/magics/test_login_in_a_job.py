"""A login that is needed while background cells run, on a real `local` session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fakes.notebook import Notebook
from tests.magics.login_cells import CUT, REFUSED, RIGHT, value

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(300)]

LOAD = (
    "import sys; sys.path.insert(0, {root!r})\nfrom pathlib import Path\nfrom tests.fakes import asking_gateway\n"
    "gateway = asking_gateway.load_local(get_ipython())"
)
KEPT = "any(iter(lambda: __import__('time').sleep(0.01) or 'output is kept' in {job}.output, None))"


@pytest.fixture(scope="module")
def notebook(module_places, request) -> Iterator[Notebook]:
    with Notebook(LOAD.format(root=str(request.config.rootpath))) as notebook:
        yield notebook


def test_background_cells_say_it_and_ask_nobody_and_the_next_cell_asks_once(notebook, module_places):
    works = str(module_places.base / "works")
    notebook.run(f"gateway.works = Path({works!r}); gateway._host('refused', {REFUSED!r})")
    both = module_places.base / "both are asked for"
    waits = f"import os, time\nwhile not os.path.exists({str(both)!r}): time.sleep(0.01)\n"
    notebook.run(f"%%remote_gpu --background --name one\n{waits}{CUT.format(text=REFUSED, works=works)}print('one after')")
    notebook.run("%%remote_gpu --background --name two\nprint('two after')")
    both.touch()
    for job in ("one", "two"):
        kept = notebook.run(KEPT.format(job=job))
        assert kept.result == "True", kept.traceback
    assert REFUSED in notebook.run("two.output").result
    assert value(notebook, "gateway.begun") == 0
    cell = notebook.run("%%remote_gpu\n'next'", answers=[RIGHT])
    assert (cell.prompts, cell.result) == ([("Login to host.example: (me@host.example) Password: ", True)], "'next'")
    assert value(notebook, "gateway.begun") == 1
    said = notebook.run("two.wait(); print(one.output, two.output)").text
    assert (said.count(REFUSED), said.count("Connected again."), said.count("after")) == (2, 2, 2)
    notebook.run("%remote_gpu stop")
