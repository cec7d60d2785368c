"""Files move between the notebook's folder and the session's: by command, and with a cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.notebook import Notebook

pytestmark = pytest.mark.shared_places

LOAD = "%load_ext remote_gpu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def notebook(module_places, folder, tmp_path_factory) -> Iterator[Notebook]:
    """A notebook whose remote session works in another folder than the notebook."""
    elsewhere = tmp_path_factory.mktemp("session")
    with Notebook(f"import os; os.chdir({str(elsewhere)!r})", LOAD, "%%remote_gpu\n1", f"os.chdir({str(folder)!r})") as notebook:
        yield notebook
        notebook.run("%remote_gpu stop")


def test_a_file_goes_there_and_comes_back(notebook, folder):
    (folder / "a.txt").write_text("first")
    said = notebook.run("%remote_gpu put a.txt").text
    assert "a.txt" in said
    assert notebook.run("%%remote_gpu\nopen('a.txt').read()").result == "'first'"
    notebook.run("%%remote_gpu\n_ = open('made.txt', 'w').write('there')")
    assert "made.txt" in notebook.run("%remote_gpu get made.txt").text
    assert (folder / "made.txt").read_text() == "there"


def test_a_cell_brings_the_files_that_it_names_under_the_same_path(notebook, folder):
    (folder / "data").mkdir()
    (folder / "data" / "b.csv").write_text("1,2")
    cell = notebook.run("%%remote_gpu --files data/b.csv\nopen('data/b.csv').read()")
    assert cell.result == "'1,2'", cell.traceback


def test_a_file_that_is_not_there_is_named(notebook):
    assert "missing.txt" in notebook.run("%remote_gpu put missing.txt").text
    said = notebook.run("%remote_gpu get missing.txt")
    assert "missing.txt" in said.text + said.traceback
    assert "missing.txt" in notebook.run("%%remote_gpu --files missing.txt\nran = 1").text
    assert notebook.run("%%remote_gpu --no-sync\nran").error == "NameError"


def test_status_shows_the_working_folder(notebook):
    assert "working folder /" in notebook.run("%remote_gpu status").text
