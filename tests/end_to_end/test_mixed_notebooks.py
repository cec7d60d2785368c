"""Notebooks with local and remote cells mixed give what they give when all cells are local, or the user is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fakes.notebook import Cell, Notebook

pytestmark = pytest.mark.shared_places

LOAD = "%load_ext remote_gpu"


@pytest.fixture(scope="module")
def notebook(module_places) -> Iterator[Notebook]:
    with Notebook(LOAD) as notebook:
        yield notebook
        notebook.run("%remote_gpu stop")


def here(notebook: Notebook, code: str) -> str:
    cell = notebook.run(code)
    assert not cell.error, cell.traceback
    return cell.result


def there(notebook: Notebook, code: str, options: str = "") -> Cell:
    cell = notebook.run(f"%%remote_gpu {options}\n{code}")
    assert not cell.error, cell.traceback
    return cell


def notes(cell: Cell) -> str:
    return " · ".join(((cell.record or {}).get("names") or {}).get("notes") or ())


def test_what_a_function_of_the_notebook_changes_or_binds_comes_back_though_the_cell_does_not_name_it(notebook):
    here(
        notebook,
        "history, steps, flag = [], 0, None\n"
        "def step(x):\n    global steps, flag\n    steps += 1\n    history.append(x)\n    flag = x\n"
        "class Trainer:\n    def run(self): step(7)\n"
        "def raise_flag():\n    global flag\n    flag = 'raised'\n"
        "trainer, alias = Trainer(), history",
    )
    there(notebook, "step(1)")
    assert here(notebook, "history, steps, flag, alias is history") == "([1], 1, 1, True)"
    there(notebook, "trainer.run()")
    assert here(notebook, "history, steps, flag") == "([1, 7], 2, 7)"
    there(notebook, "raise_flag()")
    assert here(notebook, "flag") == "'raised'"


def test_a_handle_never_stands_for_an_object_of_a_later_kernel(notebook):
    there(notebook, "before = lambda: 'before'")
    notebook.run("%remote_gpu restart")
    there(notebook, "after = lambda: 'after'")
    cell = notebook.run("%%remote_gpu\nbefore()")
    assert cell.error == "NameError"
    assert "kernel that is gone" in cell.text
