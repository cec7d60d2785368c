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


def test_a_table_a_queue_and_what_lies_in_a_tuple_are_changed_in_the_same_object(notebook):
    pytest.importorskip("pandas")
    here(
        notebook,
        "import pandas as pd, collections\ntable = pd.DataFrame({'x': [1, 2]}); series = pd.Series([1, 2], name='old')\n"
        "queue = collections.deque([1], maxlen=3); pair = ([1], 2)\ntables = (table, series, queue)",
    )
    there(notebook, "table['y'] = table.x * 2\nseries.name = 'new'\nqueue.extend([2, 3, 4])\npair[0].append(5)")
    assert here(notebook, "list(table.y), series.name, list(queue), pair") == "([2, 4], 'new', [2, 3, 4], ([1, 5], 2))"
    assert here(notebook, "tables[0] is table, tables[1] is series, tables[2] is queue") == "(True, True, True)"


def test_a_model_a_closure_and_a_class_that_a_cell_changed_are_named(notebook):
    pytest.importorskip("sklearn")
    here(
        notebook,
        "from sklearn.linear_model import LinearRegression\nmodel = LinearRegression()\n"
        "class Registry:\n    count = 0\n    def __init__(self): Registry.count += 1\n"
        "def counter():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\nup = counter()",
    )
    assert notes(there(notebook, "model.get_params(); up; Registry")) == ""
    said = notes(there(notebook, "model.fit([[1.0], [2.0]], [1.0, 2.0]); Registry(); up()"))
    assert all(f"{name} was changed there" in said for name in ("model", "Registry", "up"))


def test_a_module_trained_there_is_named_and_a_tensor_changed_there_is_changed_here(notebook):
    pytest.importorskip("torch")
    here(
        notebook,
        "import torch\nnet = torch.nn.Linear(2, 1); wide = torch.nn.Linear(1000, 1500); t = torch.zeros(2); same_t = t\n"
        "opt = torch.optim.SGD([*net.parameters(), *wide.parameters()], lr=0.1)\n"
        "def train():\n    (net(torch.ones(2)).sum() + wide(torch.ones(1000)).sum()).backward()\n    opt.step()\n    t.add_(1)",
    )
    assert notes(there(notebook, "opt\nwith torch.no_grad(): wide(torch.ones(1000)), net(torch.ones(2))")) == ""
    said = notes(there(notebook, "train()"))
    assert "net was changed there" in said
    assert "wide was changed there" in said
    assert here(notebook, "same_t is t, t.tolist()") == "(True, [1.0, 1.0])"


def test_a_failed_cell_names_what_it_had_changed_by_then(notebook):
    here(notebook, "losses, total, other = [], 0, 1")
    cell = notebook.run("%%remote_gpu\nother\nlosses.append(1)\ntotal += 1\nraise ValueError('middle')")
    assert cell.error == "ValueError"
    assert here(notebook, "losses, total") == "([], 0)"
    assert notes(cell) == "losses, total changed there before the cell failed (%remote_gpu pull losses,total)"
    notebook.run("%remote_gpu pull losses,total")
    assert here(notebook, "losses, total") == "([1], 1)"


def test_what_a_remote_cell_prints_and_shows_can_be_captured(notebook):
    code = "%%capture taken\n%%remote_gpu\nprint('out')\nimport sys\nprint('err', file=sys.stderr)\n40 + 2"
    cell = notebook.run(code)
    assert (cell.error, cell.text, cell.bundles()) == ("", "", [])
    assert (
        here(notebook, "taken.stdout, taken.stderr, [each.data['text/plain'] for each in taken.outputs]") == "('out\\n', 'err\\n', ['42'])"
    )
    code = "import contextlib, io\nheld = io.StringIO()\nwith contextlib.redirect_stdout(held):\n    get_ipython().run_cell_magic('remote_gpu', '', 'print(7)')"
    notebook.run(code)
    assert here(notebook, "held.getvalue()") == "'7\\n'"


def test_a_list_that_a_background_cell_and_the_user_change_stays_the_users(notebook):
    here(notebook, "both = [1]; only = [1]")
    notebook.run("%%remote_gpu --background --name appending\nimport time\ntime.sleep(0.3)\nboth.append(2); only.append(2)")
    here(notebook, "both.append(10)")
    here(notebook, "appending.result()")
    assert here(notebook, "both, only") == "([1, 10], [1, 2])"
    notebook.run("%remote_gpu pull both")
    assert here(notebook, "both") == "[1, 2]"
