"""What `make fidelity` has found, cell by cell: a remote cell and the same cell of a plain kernel say the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fakes.notebook import Cell, Notebook

pytestmark = pytest.mark.shared_places


@pytest.fixture(scope="module")
def here(module_places) -> Iterator[Notebook]:
    with Notebook() as notebook:
        yield notebook


@pytest.fixture(scope="module")
def there(module_places) -> Iterator[Notebook]:
    with Notebook("%load_ext remote_gpu", "%remote_gpu on", "'a start that takes long says so'") as notebook:
        yield notebook
        notebook.run("%remote_gpu stop")


def _said(cell: Cell) -> list[tuple[str, str, str]]:
    outputs = [each for each in cell.outputs if each["type"] in ("stream", "error")]
    return [(each["type"], each.get("name", each.get("ename", "")), each.get("text", each.get("evalue", ""))) for each in outputs]


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("%no_such_magic", "UsageError"),
        ("print('before')\n%no_such_magic", "UsageError"),
        ("raise SystemExit('over')", "SystemExit"),
        ("1/0", "ZeroDivisionError"),
    ],
)
def test_an_error_is_shown_as_often_as_in_a_plain_kernel(here, there, code, ename):
    local, remote = here.run(code), there.run(code)
    assert _said(remote) == _said(local)
    assert (remote.reply["status"], remote.reply["ename"]) == ("error", ename)


def test_an_error_is_not_shown_again_after_the_debugger(here, there):
    for notebook in (here, there):
        notebook.run("%pdb on")
    local, remote = (notebook.run("int('x')", answers=["q"]) for notebook in (here, there))
    for notebook in (here, there):
        notebook.run("%pdb off")
    assert [kind for kind, *_ in _said(remote)] == [kind for kind, *_ in _said(local)] == ["error", "stream"]
    assert remote.reply["ename"] == local.reply["ename"] == "ValueError"


def test_inputs_and_results_bear_the_notebooks_numbers(there):
    first = there.run("6 * 7")
    count = first.reply["execution_count"]
    assert there.run(f"Out[{count}], _{count}").result == "(42, 42)"
    there.run("%%local\npass")
    assert there.run(f"In[{count}], _i{count}, In[{count + 2}]").result == "('6 * 7', '6 * 7', '')"
    assert "6 * 7" in there.run(f"%history {count}").text


def test_an_extension_that_a_cell_loads_is_loaded_where_cells_run(there):
    there.run("%load_ext autoreload")
    cell = there.run("%autoreload 0")
    assert (cell.error, cell.reply["status"]) == ("", "ok")


def test_files_are_made_with_the_users_mask_and_argv_is_a_kernels(here, there, tmp_path):
    made = "import os, stat\nopen({0!r}, 'w').close()\noct(stat.S_IMODE(os.stat({0!r}).st_mode))"
    results = [notebook.run(made.format(str(tmp_path / name))).result for notebook, name in ((here, "here"), (there, "there"))]
    assert results[0] == results[1] != ""
    assert there.run("import sys\nsys.argv[:2]").result == here.run("import sys\nsys.argv[:2]").result != ""
