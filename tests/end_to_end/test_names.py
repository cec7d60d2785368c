"""Names cross between a notebook and its remote cells by themselves: real kernels, a real gateway, the `local` cluster."""

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
    """The value of the last expression of a local cell."""
    cell = notebook.run(code)
    assert not cell.error, cell.traceback
    return cell.result


def there(notebook: Notebook, code: str, options: str = "") -> Cell:
    cell = notebook.run(f"%%remote_gpu {options}\n{code}")
    assert not cell.error, cell.traceback
    return cell


def names(cell: Cell) -> dict:
    return (cell.record or {}).get("names") or {}


def test_what_a_cell_reads_goes_over_and_what_it_binds_comes_back(notebook):
    here(notebook, "a, b = [1, 2], {'k': 'v'}")
    cell = there(notebook, "total = sum(a)\nword = b['k'] * 2\ntotal")
    assert cell.result == "3"
    assert here(notebook, "total, word") == "(3, 'vv')"
    assert sorted(names(cell)["sent"]) == ["a", "b"]
    assert sorted(names(cell)["back"]) == ["total", "word"]


def test_an_unchanged_name_is_not_sent_again_and_a_changed_one_is(notebook):
    here(notebook, "numbers = [1, 2, 3]; same = 'x' * 500")
    assert sorted(names(there(notebook, "n = len(numbers), same[0]"))["sent"]) == ["numbers", "same"]
    assert names(there(notebook, "n = len(numbers), same[0]")).get("sent", []) == []
    here(notebook, "numbers.append(4)")
    cell = there(notebook, "n = len(numbers), same[0]\nn")
    assert (cell.result, names(cell)["sent"]) == ("(4, 'x')", ["numbers"])


def test_an_array_that_is_changed_in_place_here_is_seen(notebook):
    here(notebook, "import numpy as np\narray = np.arange(100_000.0)")
    assert there(notebook, "float(array[0]), array.sum()").result == "(0.0, np.float64(4999950000.0))"
    here(notebook, "array[0] = 7")
    assert there(notebook, "float(array[0])").result == "7.0"


def test_what_a_cell_changes_in_place_is_changed_here_in_the_same_object(notebook):
    here(notebook, "results, alias_of = [], None\nalias_of = results\ntable = {'n': 0}")
    there(notebook, "for n in range(3):\n    results.append(n)\ntable['n'] = 5")
    assert here(notebook, "results, alias_of is results, table") == "([0, 1, 2], True, {'n': 5})"


def test_aliases_and_cycles_within_a_transfer_stay(notebook):
    here(notebook, "shared = [1]\nfirst, second = shared, shared\nloop = []\nloop.append(loop)")
    assert there(notebook, "first is second, loop[0] is loop").result == "(True, True)"
    there(notebook, "one = [1]\ntwo = one\nround_ = {}\nround_['me'] = round_")
    assert here(notebook, "one is two, round_['me'] is round_") == "(True, True)"


def test_a_function_finds_its_globals_there_also_those_that_change_later(notebook):
    here(notebook, "factor = 2\ndef inner(x): return x * factor\ndef outer(x): return inner(x) + 1")
    assert there(notebook, "outer(10)").result == "21"
    here(notebook, "factor = 5")
    assert there(notebook, "outer(10)").result == "51"
    here(notebook, "def inner(x): return -x")
    assert there(notebook, "outer(10)").result == "-9"
    assert there(notebook, "factor = 100\ndef inner(x): return x * factor\nouter(1)").result == "101"


def test_instances_of_a_notebook_class_go_both_ways_and_stay_instances(notebook):
    here(notebook, "class Model:\n    def __init__(self, w): self.w = w\n    def grown(self): return Model(self.w + 1)\nmodel = Model(1)")
    assert there(notebook, "better = model.grown()\nisinstance(better, Model), better.w").result == "(True, 2)"
    assert here(notebook, "type(better) is Model, better.w, better.grown().w") == "(True, 2, 3)"
    assert there(notebook, "isinstance(better, Model)").result == "True"


def test_a_module_that_the_cell_imports_is_there_afterwards(notebook):
    there(notebook, "import string\nimport os.path as where\nfrom math import tau as turn")
    assert here(notebook, "string.digits, where.basename('a/b'), turn > 6") == "('0123456789', 'b', True)"


def test_a_large_value_comes_back_as_a_handle_that_can_be_used_and_fetched(notebook):
    there(notebook, "import numpy as np\nbig = np.arange(3_000_000.0)")
    text = here(notebook, "repr(big)")
    assert "(3000000,)" in text
    assert "float64" in text
    assert here(notebook, "float(big[5]), len(big), float(big.sum()), big.shape") == "(5.0, 3000000, 4499998500000.0, (3000000,))"
    assert there(notebook, "float(big[7]), type(big).__name__").result == "(7.0, 'ndarray')"
    here(notebook, "other = big")
    assert there(notebook, "other is big").result == "True"
    assert (
        here(notebook, "local = big.fetch()\ntype(local).__name__, local.shape, float(local[-1])") == "('ndarray', (3000000,), 2999999.0)"
    )


def test_a_local_name_is_never_replaced_by_a_handle_that_the_cell_did_not_bind(notebook):
    here(notebook, "import numpy as np\nmine = np.zeros(3_000_000)")
    cell = there(notebook, "mine[0] = 1")
    assert here(notebook, "type(mine).__name__, float(mine[0])") == "('ndarray', 0.0)"
    assert any("mine" in note for note in names(cell)["notes"])
    here(notebook, "%remote_gpu pull mine")
    assert here(notebook, "float(mine[0])") == "1.0"


def test_a_function_defined_there_is_called_there(notebook):
    there(notebook, "import os\ndef where(n=1): return os.getpid() * n")
    assert here(notebook, "where(n=2)") == str(2 * int(there(notebook, "os.getpid()").result))


def test_an_estimator_comes_back_as_a_handle_with_its_methods(notebook):
    pytest.importorskip("sklearn")
    here(notebook, "import numpy as np\nx = np.arange(20.0).reshape(-1, 1); y = 3 * x[:, 0] + 1")
    there(notebook, "from sklearn.linear_model import LinearRegression\nfitted = LinearRegression().fit(x, y)")
    assert (
        here(notebook, "round(float(fitted.coef_[0]), 6), [round(float(each), 6) for each in fitted.predict(x[:2])]") == "(3.0, [1.0, 4.0])"
    )


def test_a_failed_cell_brings_back_nothing_and_its_names_stay_there(notebook):
    here(notebook, "kept = 'local'")
    assert notebook.run("%%remote_gpu\nkept = 'remote'\n1 / 0").error == "ZeroDivisionError"
    assert here(notebook, "kept") == "'local'"
    assert there(notebook, "kept").result == "'remote'"
    here(notebook, "%remote_gpu pull kept")
    assert here(notebook, "kept") == "'remote'"


def test_a_deleted_name_is_deleted_here_too(notebook):
    here(notebook, "doomed = 1")
    there(notebook, "doomed\ndel doomed")
    assert here(notebook, "'doomed' in globals()") == "False"


def test_what_cannot_cross_says_why_and_the_rest_crosses(notebook):
    here(notebook, "import threading\nlock, fine = threading.Lock(), 4")
    cell = notebook.run("%%remote_gpu\nok = fine + 1\nlock")
    assert cell.error == "NameError"
    assert "lock stays here" in cell.text
    assert there(notebook, "fine").result == "4"


def test_names_are_chosen_by_hand(notebook):
    here(notebook, "left, right = 1, 2")
    cell = notebook.run("%%remote_gpu -i left\nright")
    assert cell.error == "NameError"
    there(notebook, "made = 10; hidden = 11", "-o made")
    assert here(notebook, "made, 'hidden' in globals()") == "(10, False)"
    there(notebook, "secret = 1", "--no-sync")
    assert here(notebook, "'secret' in globals()") == "False"
    assert "'missing'" in notebook.run("%%remote_gpu -i missing\n1").text


def test_push_and_pull_and_vars(notebook):
    here(notebook, "pushed = {'a': 1}")
    assert "pushed" in notebook.run("%remote_gpu push pushed").text
    assert there(notebook, "globals()['pushed']", "--no-sync").result == "{'a': 1}"
    there(notebook, "far = [1, 2]", "--no-sync")
    assert "far" in notebook.run("%remote_gpu pull far").text
    assert here(notebook, "far") == "[1, 2]"
    assert "'nothing'" in notebook.run("%remote_gpu pull nothing").text
    listed = notebook.run("%remote_gpu vars").text
    assert "far" in listed
    assert "list" in listed


def test_names_cross_when_all_cells_are_remote(notebook):
    notebook.run("%remote_gpu on")
    try:
        notebook.run("every = [1]\nevery.append(2)")
        assert notebook.run("every").result == "[1, 2]"
    finally:
        notebook.run("%remote_gpu off")
    assert here(notebook, "every") == "[1, 2]"


def test_a_restarted_kernel_gets_its_names_again(notebook):
    here(notebook, "again = 12")
    assert there(notebook, "again").result == "12"
    notebook.run("%remote_gpu restart")
    assert there(notebook, "again").result == "12"


def test_ten_thousand_small_names_cross(notebook):
    here(notebook, "for i in range(10_000): globals()[f'v{i}'] = i\nwanted = ' + '.join(f'v{i}' for i in range(10_000))")
    assert there(notebook, "sum([" + ", ".join(f"v{i}" for i in range(10_000)) + "])").result == str(sum(range(10_000)))


def test_a_function_that_a_cell_defined_there_sees_a_name_that_changed_here(notebook):
    here(notebook, "scale = 2")
    there(notebook, "def scaled(x): return x * scale\ndef twice(x): return scaled(x) * 2\nscaled(1)")
    here(notebook, "scale = 7")
    assert there(notebook, "twice(1)").result == "14"


def test_names_asked_for_come_back_from_a_failed_cell_too(notebook):
    cell = notebook.run("%%remote_gpu -o partial\npartial = [1]\n1 / 0")
    assert cell.error == "ZeroDivisionError"
    assert here(notebook, "partial") == "[1]"


def test_push_sends_again_what_shares_an_object_and_a_cell_says_when_it_does_not(notebook):
    here(notebook, "class Part:\n    n = 0\nclass Whole:\n    def __init__(self, part): self.part = part\npart = Part()")
    there(notebook, "part.n")
    here(notebook, "whole = Whole(part)")
    cell = there(notebook, "whole.part is part")
    assert cell.result == "False"
    assert "whole shares objects with part" in cell.text
    notebook.run("%remote_gpu push whole,part")
    assert there(notebook, "whole.part is part").result == "True"
