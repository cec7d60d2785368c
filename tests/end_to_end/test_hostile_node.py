"""A node that answers real cells with pickles that run code: nothing runs in the notebook, in any channel. Real kernels and a real gateway.

The remote kernel is made hostile by a cell: it replaces what encodes its values by the test double.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from tests.fakes.hostile import Canary, pickles
from tests.fakes.notebook import Notebook

pytestmark = pytest.mark.shared_places

ARM = """
import base64
attack = base64.b64decode({attack!r})
outgoing = type(get_ipython().kernel.variables).tell.__globals__["outgoing"]
honest = outgoing.collect
def hostile(names, *arguments, **options):
    found = honest(names, *arguments, **options)
    if {entries!r} is None:
        found.entries = {{name: {{"kind": "value"}} for name in found.entries}}
        found.head, found.buffers = attack * len(found.entries), []
    else:
        found.entries = {{name: {entries!r} for name in found.entries}}
        found.head, found.buffers = b"", []
    return found
outgoing.collect = hostile
"""


@pytest.fixture(scope="module")
def notebook(module_places) -> Iterator[Notebook]:
    with Notebook("%load_ext remote_gpu") as notebook:
        yield notebook
        notebook.run("%remote_gpu stop")


def _arm(notebook, attack: bytes, entries=None):
    notebook.run("%remote_gpu stop")
    cell = notebook.run("%%remote_gpu --no-sync\n" + ARM.format(attack=base64.b64encode(attack).decode(), entries=entries))
    assert not cell.error, cell.traceback


@pytest.mark.parametrize("kind", ["protocol 5", "cloudpickle", "BUILD"])
def test_a_pickle_as_a_value_runs_nothing_and_the_notebook_goes_on(notebook, tmp_path, kind):
    canary = Canary(tmp_path)
    _arm(notebook, pickles(canary)[kind])
    notebook.run("mine = 'kept'")
    cell = notebook.run("%%remote_gpu\nmine = 5\nother = 6")
    assert not canary.sang
    assert cell.error == "UnsafeValue"
    assert notebook.run("mine").result == "'kept'"


def test_a_pickle_in_the_description_of_a_handle_runs_nothing(notebook, tmp_path):
    canary = Canary(tmp_path)
    poison = pickles(canary)["protocol 0"].decode("latin-1")
    _arm(notebook, b"", {"kind": "handle", "id": 1, "type": "T", "shape": [poison], "text": poison, "fetch": False})
    cell = notebook.run("%%remote_gpu\nmine = 5")
    assert not canary.sang
    assert cell.error == "UnsafeValue"


def test_a_pickle_as_an_error_or_a_display_runs_nothing(notebook, tmp_path):
    canary = Canary(tmp_path)
    attack = pickles(canary)["protocol 0"].decode("latin-1")
    notebook.run("%remote_gpu stop")
    cell = notebook.run(f"%%remote_gpu\nraise type('ValueError', (Exception,), {{}})({attack!r})")
    assert cell.error == "ValueError"
    bundle = {"application/x-python-pickle": attack, "application/octet-stream": attack, "text/plain": "shown"}
    cell = notebook.run(f"%%remote_gpu\nfrom IPython.display import display\ndisplay({bundle!r}, raw=True)")
    assert not cell.error, cell.traceback
    assert not canary.sang


def test_a_pickle_as_a_value_that_is_fetched_runs_nothing(notebook, tmp_path):
    canary = Canary(tmp_path)
    _arm(notebook, pickles(canary)["protocol 5"])
    notebook.run("%%remote_gpu --no-sync\noutgoing.collect = honest")
    assert not notebook.run("%%remote_gpu\nstays = [print]").error
    notebook.run("%%remote_gpu --no-sync\noutgoing.collect = hostile")
    cell = notebook.run("stays.fetch()")
    assert cell.error
    assert cell.error != "TypeError"
    assert not canary.sang
