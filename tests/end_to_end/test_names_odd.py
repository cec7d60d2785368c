"""Names that are odd, large, deep, or cannot cross: nothing is lost, and each is told in words."""

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


def test_a_local_name_that_shadows_a_module_is_the_local_value(notebook):
    here(notebook, "math = 5")
    assert there(notebook, "math + 1").result == "6"
    assert there(notebook, "import math\nmath.floor(2.5)").result == "2"
    assert here(notebook, "math.ceil(1.5)") == "2"


def test_a_value_whose_pickle_raises_says_so_and_the_rest_crosses(notebook):
    here(notebook, "class Bad:\n    def __reduce__(self): raise RuntimeError('not me')\nbad, good = Bad(), 3")
    cell = notebook.run("%%remote_gpu\nprint(good)\nbad")
    assert cell.error == "NameError"
    assert cell.stream("stdout") == "3\n"
    assert "bad stays here" in cell.stream("stderr")
    assert "not me" in cell.stream("stderr")


def test_a_deeply_nested_list_crosses_or_says_how_deep_it_is(notebook):
    here(notebook, "deep = []\nfor _ in range(20_000): deep = [deep]")
    cell = notebook.run("%%remote_gpu\nlevel, at = 0, deep\nwhile at: at, level = at[0], level + 1\nlevel")
    assert cell.result == "20000" or "deep stays here" in cell.text


def test_empty_and_single_arrays_go_there_and_back(notebook):
    here(notebook, "import numpy as np\nempty, single = np.zeros((0, 3), 'f4'), np.array(2.5)")
    there(notebook, "empty2, single2 = empty.T, single * 2")
    assert here(notebook, "empty2.shape, empty2.dtype.name, single2.shape, float(single2)") == "((3, 0), 'float32', (), 5.0)"


def test_a_huge_dictionary_of_small_values_crosses(notebook):
    here(notebook, "lots = {str(n): [n] for n in range(50_000)}")
    there(notebook, "lots2 = {key: value[0] + 1 for key, value in lots.items()}")
    assert here(notebook, "len(lots2), lots2['49999']") == "(50000, 50000)"


def test_an_object_with_an_open_file_inside_names_the_place(notebook, tmp_path):
    here(notebook, f"cfg = {{'a': 1, 'log': open({str(tmp_path / 'app.log')!r}, 'w')}}")
    cell = notebook.run("%%remote_gpu\ncfg")
    assert "cfg['log']" in cell.text
    assert "app.log" in cell.text
    here(notebook, "cfg['log'].close()")


def test_a_package_that_is_missing_there_is_named(notebook):
    code = "import sys, types\nonly = types.ModuleType('only_here')\nsys.modules['only_here'] = only\nexec('class Thing: pass', vars(only))\nthing = only.Thing()"
    here(notebook, code)
    cell = notebook.run("%%remote_gpu\nthing")
    assert "thing stays here" in cell.text
    assert "only_here" in cell.text


def test_a_generator_and_a_lock_that_a_cell_makes_stay_there_as_handles(notebook):
    there(notebook, "import threading\nlock = threading.Lock()\nnumbers = (n * n for n in range(4))")
    assert here(notebook, "lock.locked(), list(numbers)") == "(False, [0, 1, 4, 9])"


def test_an_operation_that_fails_there_raises_the_remote_error_here(notebook):
    there(notebook, "import threading\nlocked = threading.Lock()")
    cell = notebook.run("locked.release()")
    assert cell.error == "RuntimeError"
    assert notebook.run("locked.no_such_thing").error == "AttributeError"


def test_a_handle_of_a_kernel_that_is_gone_says_so(notebook):
    there(notebook, "import threading\ngone = threading.Lock()")
    notebook.run("%remote_gpu restart")
    there(notebook, "1")
    cell = notebook.run("gone.locked()")
    assert cell.error == "SessionEnded"
    assert "kernel" in cell.traceback


def test_what_the_user_types_over_a_name_is_not_undone_by_an_old_cell(notebook):
    there(notebook, "fresh = 1")
    here(notebook, "fresh = 2")
    there(notebook, "unrelated = 3")
    assert here(notebook, "fresh") == "2"
    assert there(notebook, "fresh").result == "2"


def test_stars_walruses_and_loops_bind(notebook):
    there(notebook, "first, *rest = range(4)\n[last := n for n in rest]\nfor index in rest: pass\nwith open('/dev/null') as sink: pass")
    assert here(notebook, "first, rest, last, index") == "(0, [1, 2, 3], 3, 3)"
