"""The notebook's own modules in remote cells: real kernels, a real gateway, the `local` cluster."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.notebook import Cell, Notebook

pytestmark = pytest.mark.shared_places

LOAD = "%load_ext remote_gpu"


class Files:
    """A folder of modules; each file is an hour old, and a second younger than the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at = time.time() - 3600

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._at += 1
        os.utime(path, (self._at, self._at))


@pytest.fixture(scope="module")
def notebook(module_places) -> Iterator[Notebook]:
    with Notebook(LOAD) as notebook:
        notebook.files = Files(module_places.base / "project")
        notebook.files.folder.mkdir()
        # Only this side has the folder on its path, as if the node had another disk.
        notebook.run(f"import sys; sys.path.insert(0, {str(notebook.files.folder)!r})")
        yield notebook
        notebook.run("%remote_gpu stop")


@pytest.fixture
def files(notebook) -> Files:
    return notebook.files


def there(notebook: Notebook, code: str) -> Cell:
    cell = notebook.run(f"%%remote_gpu\n{code}")
    assert not cell.error, cell.traceback
    return cell


def here(notebook: Notebook, code: str) -> str:
    cell = notebook.run(code)
    assert not cell.error, cell.traceback
    return cell.result


def test_a_module_that_only_the_notebook_has_is_imported_there(notebook, files):
    files.write("mod_first.py", "def double(x):\n    return 2 * x")
    assert there(notebook, "import mod_first\nmod_first.double(21)").result == "42"
    path = there(notebook, "mod_first.__file__").result
    assert str(files.folder) not in path
    assert path.endswith("/modules/mod_first.py'")


def test_a_changed_module_is_fresh_at_the_next_import(notebook, files):
    files.write("mod_fresh.py", "value = 1")
    assert there(notebook, "from mod_fresh import value\nvalue").result == "1"
    files.write("mod_fresh.py", "value = 20")
    assert there(notebook, "from mod_fresh import value\nvalue").result == "20"


def test_a_package_comes_with_its_submodules_and_what_they_import(notebook, files):
    files.write("mod_pack/__init__.py", "from .core import answer")
    files.write("mod_pack/core.py", "import mod_helper\nanswer = mod_helper.base + 1")
    files.write("mod_pack/deep/__init__.py", "")
    files.write("mod_pack/deep/leaf.py", "from ..core import answer as again")
    files.write("mod_pack/words.txt", "words")
    files.write("mod_helper.py", "base = 41")
    code = "import mod_pack, pathlib\nfrom mod_pack.deep import leaf\n"
    code += "mod_pack.answer, leaf.again, (pathlib.Path(mod_pack.__file__).parent / 'words.txt').read_text()"
    assert there(notebook, code).result == "(42, 42, 'words')"
    files.write("mod_helper.py", "base = 141")
    assert there(notebook, code).result == "(142, 142, 'words')"


def test_an_import_within_a_function_of_the_cell_counts(notebook, files):
    files.write("mod_late.py", "value = 'late'")
    assert there(notebook, "def f():\n    import mod_late\n    return mod_late.value\nf()").result == "'late'"


def test_a_function_of_the_notebook_brings_what_it_imports_when_it_runs(notebook, files):
    files.write("mod_inside.py", "def g(x): return x + 1")
    here(
        notebook,
        "def uses(x):\n    from mod_inside import g\n    return g(x)\nclass Uses:\n    def m(self):\n        import mod_inside as m\n        return m.g(2)",
    )
    assert there(notebook, "uses(1), Uses().m()").result == "(2, 3)"
    files.write("mod_inside.py", "def g(x): return x + 100")
    assert there(notebook, "uses(1), Uses().m()").result == "(101, 102)"


def test_a_module_that_fails_shows_its_line_under_its_path_here(notebook, files):
    files.write("mod_bad.py", "import os\n\n1 / 0  # this line")
    cell = notebook.run("%%remote_gpu\nimport mod_bad")
    text = re.sub("\x1b\\[[0-9;]*m", "", cell.traceback)
    assert cell.error == "ZeroDivisionError"
    assert f"{files.folder}/mod_bad.py:3" in text
    assert "1 / 0  # this line" in text
    assert "/modules/" not in text
    files.write("mod_bad.py", "value = 'mended'")
    assert there(notebook, "import mod_bad\nmod_bad.value").result == "'mended'"


def test_a_local_module_object_that_a_cell_reads_is_the_module_there(notebook, files):
    files.write("mod_read.py", "value = 'read'\ndef f(): return value")
    here(notebook, "import mod_read\nfrom mod_read import f as read_f")
    assert there(notebook, "mod_read.value, read_f()").result == "('read', 'read')"


def test_an_instance_of_a_class_in_a_module_crosses_and_is_one_there(notebook, files):
    files.write("mod_class.py", "class Point:\n    def __init__(self, x): self.x = x\n    def twice(self): return 2 * self.x")
    here(notebook, "from mod_class import Point\npoint = Point(4)")
    assert there(notebook, "from mod_class import Point\npoint.twice(), isinstance(point, Point)").result == "(8, True)"
    files.write("mod_class.py", "class Point:\n    def __init__(self, x): self.x = x\n    def twice(self): return 20 * self.x")
    assert there(notebook, "from mod_class import Point\npoint.twice(), isinstance(point, Point)").result == "(80, True)"


def test_a_value_whose_module_fails_there_stays_here_until_it_is_mended(notebook, files):
    files.write("mod_fails.py", "class Odd: pass")
    here(notebook, "from mod_fails import Odd\nodd = Odd()")
    files.write("mod_fails.py", "class Odd: pass\nraise ValueError('not there')")
    cell = there(notebook, "'odd' in globals()")
    assert cell.result == "False"
    assert there(notebook, "'odd' in globals(), odd if 0 else 1").result == "(False, 1)"
    files.write("mod_fails.py", "class Odd: pass  # mended")
    assert there(notebook, "type(odd).__name__").result == "'Odd'"


def test_push_brings_the_module_of_a_value(notebook, files):
    files.write("mod_pushed.py", "class Thing:\n    value = 'pushed'")
    here(notebook, "from mod_pushed import Thing\nthing = Thing()")
    assert notebook.run("%remote_gpu push thing").error == ""
    assert notebook.run("%%remote_gpu --no-sync\nthing.value").result == "'pushed'"


def test_what_a_cell_imports_from_a_module_is_imported_here_too(notebook, files):
    files.write("mod_both.py", "class Model: pass\ndef f(): return 'f'\ntable = {'a': 1}")
    there(notebook, "from mod_both import Model, f as g, table\nfrom math import sqrt\nh = g")
    assert here(notebook, "import mod_both; Model is mod_both.Model, g is mod_both.f, table, sqrt(4), type(h).__name__") == (
        "(True, True, {'a': 1}, 2.0, 'CallableHandle')"
    )
    assert there(notebook, "isinstance(Model(), Model), g(), g is mod_both.f").result == "(True, 'f', True)"
    there(notebook, "from mod_both import f\nf = f.__get__(3)")
    assert "Handle" in here(notebook, "type(f).__name__")


def test_what_a_module_says_at_its_import_is_said_once(notebook, files):
    files.write("mod_says.py", "import warnings\nprint('loaded')\nwarnings.warn('careful')")
    cell = there(notebook, "import mod_says")
    assert cell.stream("stdout") == "loaded\n"
    assert cell.text.count("careful") == 2  # the warning, and the line of code that it shows
    assert here(notebook, "mod_says.__name__") == "'mod_says'"


def test_a_restarted_kernel_gets_the_modules_again(notebook, files):
    files.write("mod_again.py", "value = 1")
    assert there(notebook, "import mod_again\nmod_again.value").result == "1"
    notebook.run("%remote_gpu restart")
    assert there(notebook, "import mod_again\nmod_again.value").result == "1"


def test_another_kernel_of_the_notebook_that_takes_up_the_session_sends_its_own(notebook, files):
    files.write("mod_shared.py", "value = 'first'")
    name = here(notebook, "1") and there(notebook, "import mod_shared\nmod_shared.value").record["session"]
    with Notebook(LOAD) as other:
        mine = Files(files.folder.with_name("other"))
        mine.write("mod_shared.py", "value = 'second'")
        other.run(f"import sys; sys.path.insert(0, {str(mine.folder)!r})")
        assert other.run(f"%remote_gpu use {name}").error == ""
        assert there(other, "import mod_shared\nmod_shared.value").result == "'second'"
    assert there(notebook, "import mod_shared\nmod_shared.value").result == "'first'"


def test_a_node_that_cannot_keep_modules_says_so_and_does_not_run_the_cell(notebook, files):
    files.write("mod_full.py", "value = 1")
    notebook.run("%remote_gpu restart")
    folder = there(notebook, "import os; os.path.dirname(get_ipython().kernel.parent.connection_file)").result.strip("'")
    shutil.rmtree(f"{folder}/modules", ignore_errors=True)
    Path(f"{folder}/modules").write_text("in the way")
    cell = notebook.run("%%remote_gpu\nran = True\nimport mod_full")
    assert cell.error == "RemoteGpuError"
    assert "cannot take in the notebook's modules" in cell.traceback
    Path(f"{folder}/modules").unlink()
    assert there(notebook, "import mod_full\n'ran' in globals(), mod_full.value").result == "(False, 1)"


def test_the_modules_of_a_session_go_with_it(notebook, files, wait_until):
    files.write("mod_gone.py", "value = 1")
    path = Path(there(notebook, "import mod_gone\nmod_gone.__file__").result.strip("'"))
    assert path.is_file()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    notebook.run("%remote_gpu stop")
    assert wait_until(lambda: not path.parent.exists(), 10)


def test_modules_next_to_the_notebook_stay_there_where_the_node_sees_them(module_places):
    files = Files(module_places.base / "seen")
    files.write("mod_seen.py", "from pathlib import Path\ntext = Path(__file__).with_name('mod_beside.txt').read_text()")
    files.write("mod_beside.txt", "beside")
    with Notebook(f"%cd -q {files.folder}", LOAD) as notebook:
        assert there(notebook, "import mod_seen\nmod_seen.text, mod_seen.__file__").result == f"('beside', '{files.folder}/mod_seen.py')"
        files.write("mod_seen.py", "text = 'changed'")
        assert there(notebook, "import mod_seen\nmod_seen.text").result == "'changed'"
        notebook.run("%remote_gpu stop")
