"""The cell suite against plain local ipykernels: what the magics do by themselves, without link, gateway or journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.contracts.cell import CellContract
from tests.fakes.notebook import Cell, Notebook

pytestmark = pytest.mark.shared_places

_LOAD = "import sys; sys.path.insert(0, {root!r}); from tests.fakes import plain_gateway; gateway = plain_gateway.load(get_ipython())"


@pytest.fixture(scope="module")
def notebook(module_places, request) -> Iterator[Notebook]:
    with Notebook(_LOAD.format(root=str(request.config.rootpath))) as notebook:
        yield notebook


class TestPlainCell(CellContract):
    """Without front and node half, some things are the plain kernel's own, and names do not cross."""

    def remote(self, notebook: Notebook, code: str, options: str = "", **more: Any) -> Cell:
        return super().remote(notebook, code, f"--no-sync {options}", **more)

    test_names_cross_small_ones_and_a_large_array = None
    test_on_makes_following_cells_remote_until_off = None  # such cells have their names cross
    test_text_on_both_streams_keeps_its_order_without_a_flush = None  # the plain kernel's streams know nothing of each other

    def test_the_sidebars_choice_is_obeyed_and_the_earlier_session_kept(self, notebook):
        here = self.remote(notebook, "import os\nmark = 1\nos.getpid()").result
        notebook.run("__vsc_ipynb_file__ = 'a.ipynb'; gateway.choose('other')")
        there = self.remote(notebook, "import os\nos.getpid()")
        assert there.result != here
        assert there.record["cluster"] == "other"
        notebook.run("gateway.choose('auto')")
        assert self.remote(notebook, "mark").result == "1"
