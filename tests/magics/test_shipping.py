"""The notebook's own modules, from its folder to a process that imports them there."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import time
import types
from pathlib import Path

import pytest
from tests.fakes.importer import Importer

from remote_gpu.modules.imports import imports_in, imports_of
from remote_gpu.modules.local import Limits
from remote_gpu.modules.shipping import Shipping, limits_from

HERE = {"platform": sysconfig.get_platform(), "extensions": importlib.machinery.EXTENSION_SUFFIXES}
OLD = time.time() - 3600


class Folder:
    """The notebook's folder. Files are written with times an hour ago, each a second later than the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes = 0

    def write(self, **files: str) -> None:
        """`a__b` stands for ``a/b.py``."""
        for name, text in files.items():
            self.file(name.replace("__", "/").replace("/init", "/__init__") + ".py", text)

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._writes += 1
        os.utime(path, (OLD + self._writes, OLD + self._writes))
        return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "notebook"
    path.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(path))
    yield Folder(path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(path)):
            del sys.modules[name]


@pytest.fixture
def importer(tmp_path):
    cwd = tmp_path / "node"
    cwd.mkdir()
    with Importer(tmp_path / "session" / "modules", cwd) as importer:
        yield importer


@pytest.fixture
def shipping():
    return Shipping(shown=lambda path: path)


@pytest.fixture
def cell(shipping, importer):
    """Runs code there with the modules that it imports."""

    def run(code: str, *names: str) -> dict:
        shipment = shipping.needed(names or imports_of(code), "kernel", HERE)
        said = importer.run(code, shipment)
        if shipment is not None and "refused" not in said:
            shipping.arrived(shipment)
        return said

    return run


def files(shipment) -> list[str]:
    return [each[0] for each in shipment.described["files"]]


def test_a_module_next_to_the_notebook_is_imported_there(folder, cell, importer):
    folder.write(near="def double(x):\n    return 2 * x")
    assert cell("import near; print(near.double(21), near.__file__)")["text"] == f"42 {importer.folder}/near.py\n"
    assert importer.folder.stat().st_mode & 0o777 == 0o700


def test_what_did_not_change_is_not_sent_again(folder, shipping, cell):
    folder.write(near="value = 1")
    cell("import near")
    again = shipping.needed({"near"}, "kernel", HERE)
    assert (again.buffers, files(again), again.changed) == ((), [], frozenset())


def test_each_kernel_gets_its_own(folder, shipping, cell):
    folder.write(near="value = 1")
    cell("import near")
    assert files(shipping.needed({"near"}, "another", HERE)) == ["near.py"]


def test_nothing_counts_as_sent_before_it_arrived(folder, shipping):
    folder.write(near="value = 1")
    assert files(shipping.needed({"near"}, "kernel", HERE)) == ["near.py"]
    assert files(shipping.needed({"near"}, "kernel", HERE)) == ["near.py"]


@pytest.mark.parametrize("name", ["json", "numpy", "IPython", "remote_gpu", "pytest", "_thread", "__main__", "no_such_module", "sys"])
def test_what_is_installed_or_does_not_exist_is_not_the_users_own(folder, shipping, name):
    assert shipping.needed({name}, "kernel", HERE) is None


def test_a_changed_module_is_run_anew_by_the_next_import(folder, cell):
    folder.write(near="value = 1")
    assert cell("import near; old = near; print(near.value)")["text"] == "1\n"
    folder.write(near="value = 2")
    assert cell("import near; print(near.value, old.value)")["text"] == "2 1\n"
    assert cell("import near; again = near; import near; print(near is again)")["text"] == "True\n"


def test_a_change_within_one_second_that_leaves_the_size_is_seen(folder, cell):
    path = folder.file("near.py", "value = 1")
    assert cell("import near; print(near.value)")["text"] == "1\n"
    before = path.stat()
    path.write_text("value = 2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert cell("import near; print(near.value)")["text"] == "2\n"


def test_a_file_that_was_just_written_is_read_again(folder, shipping):
    path = folder.file("near.py", "value = 1")
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    first = shipping.needed({"near"}, "kernel", HERE)
    path.write_text("value = 2")
    os.utime(path, ns=(now, now))
    assert shipping.needed({"near"}, "kernel", HERE).described["state"] != first.described["state"]


def test_a_package_comes_whole_with_its_small_files_and_without_its_caches(folder, shipping, cell, importer):
    folder.write(
        pack__init="from .core import answer", pack__core="answer = 42", pack__unused="x = 1", pack__deep__init="", pack__deep__leaf="y = 5"
    )
    folder.file("pack/words.txt", "some words")
    for hidden in ("pack/.env", "pack/__pycache__/core.cpython-311.pyc", "pack/.git/config", "pack/node_modules/a.js"):
        folder.file(hidden, "no")
    folder.file("pack/env/pyvenv.cfg", "")
    folder.file("pack/env/lib.py", "no = 1")
    code = "import pack, pathlib; print(pack.answer, (pathlib.Path(pack.__file__).parent / 'words.txt').read_text())"
    assert cell(code)["text"] == "42 some words\n"
    found = sorted(
        str(path.relative_to(importer.folder / "pack")) for path in importer.folder.rglob("*") if path.is_file() and "pyc" not in path.name
    )
    assert found == ["__init__.py", "core.py", "deep/__init__.py", "deep/leaf.py", "unused.py", "words.txt"]
    assert cell("import pack.deep.leaf; print(pack.deep.leaf.y)")["text"] == "5\n"
    assert cell("from pack import unused; print(unused.x)")["text"] == "1\n"


def test_what_modules_import_comes_too_and_is_refreshed_through_them(folder, cell):
    folder.write(
        outer="from middle import f",
        middle="import inner\ndef f():\n    from lazy import late\n    return inner.value, late",
        inner="value = 1",
    )
    folder.write(lazy="late = 'x'")
    assert cell("import outer; print(outer.f())")["text"] == "(1, 'x')\n"
    folder.write(inner="value = 2")
    assert cell("import outer; print(outer.f())")["text"] == "(2, 'x')\n"
    folder.write(lazy="late = 'y'")
    assert cell("from outer import f; print(f())")["text"] == "(2, 'y')\n"


def test_only_what_changed_is_run_anew(folder, cell):
    folder.write(one="import two", two="", three="")
    cell("import one, two, three; first = one, two, three")
    folder.write(two="changed = True")
    assert cell("import one, two, three; print(one is first[0], two is first[1], three is first[2])")["text"] == "False False True\n"


def test_submodules_and_relative_imports_of_a_package_are_refreshed_together(folder, cell):
    folder.write(pack__init="from . import a", pack__a="from .sub.b import value", pack__sub__init="", pack__sub__b="value = 1")
    assert cell("from pack import a; import pack.sub.b as b; print(a.value, b.value)")["text"] == "1 1\n"
    folder.write(pack__sub__b="value = 20")
    assert cell("from pack import a; import pack.sub.b as b; print(a.value, b.value)")["text"] == "20 20\n"


def test_of_a_namespace_package_only_what_is_imported_comes(folder, shipping, cell):
    folder.write(space__one="from space import two", space__two="value = 2", space__three="", space__far__four="value = 4")
    folder.file("space/large.bin", "no")
    assert files(shipping.needed({"space.one"}, "kernel", HERE)) == ["space/one.py", "space/two.py"]
    assert cell("import space.one; print(space.one.two.value)")["text"] == "2\n"
    assert cell("from space.far import four; print(four.value)")["text"] == "4\n"
    folder.write(space__two="value = 22")
    assert cell("import space.one; print(space.one.two.value, space.far.four.value)")["text"] == "22 4\n"


def test_submodules_that_an_earlier_cell_imported_stay_where_they_were(folder, cell):
    folder.write(pack__init="", pack__a="value = 1", pack__b="value = 2")
    assert cell("import pack.a, pack.b")["text"] == ""
    folder.write(pack__a="value = 11", pack__b="value = 12")
    assert cell("import pack.a; print(pack.a.value, pack.b.value)")["text"] == "11 12\n"
    folder.write(pack__a="1 / 0")
    assert cell("import pack.b; print(pack.b.value)")["text"] == "12\n"
    assert "ZeroDivisionError" in cell("import pack.a")["error"]


def test_a_namespace_package_that_others_share_keeps_their_part(folder, cell, importer, tmp_path):
    folder.write(space__mine="value = 1")
    theirs = tmp_path / "node" / "space" / "theirs.py"
    theirs.parent.mkdir()
    theirs.write_text("value = 'theirs'")
    assert cell("import space.theirs; kept = space.theirs; import space.mine; print(space.mine.value)", "space.mine")["text"] == "1\n"
    folder.write(space__mine="value = 2")
    assert cell("import space.mine, space.theirs; print(space.mine.value, space.theirs is kept)", "space.mine")["text"] == "2 True\n"


def test_the_shipped_module_wins_over_another_one_of_that_name(folder, cell, importer, tmp_path):
    (tmp_path / "node" / "near.py").write_text("value = 'the node'")
    assert importer.run("import near; print(near.value)")["text"] == "the node\n"
    folder.write(near="value = 'mine'")
    assert cell("import near; print(near.value)")["text"] == "mine\n"
    assert (tmp_path / "node" / "near.py").read_text() == "value = 'the node'"


def test_a_module_that_is_named_like_one_of_the_standard_library_is_imported_as_here(folder, cell):
    folder.write(chunk="value = 'mine'")
    sys.modules.pop("chunk", None)
    assert cell("import chunk; print(chunk.value)")["text"] == "mine\n"


def test_a_loaded_module_of_the_standard_library_stays_what_it_is(folder, shipping):
    folder.write(random="value = 'mine'")
    assert shipping.needed({"random"}, "kernel", HERE) is None


def test_a_removed_module_is_gone_there_too(folder, cell):
    folder.write(near="value = 1", pack__init="", pack__a="x = 1")
    cell("import near, pack.a")
    (folder.path / "near.py").unlink()
    (folder.path / "pack" / "a.py").unlink()
    assert cell("import pack.a")["error"].startswith("ModuleNotFoundError")
    assert cell("import near")["error"].startswith("ModuleNotFoundError")


def test_a_module_becomes_a_package_and_back(folder, cell):
    folder.write(near="value = 1")
    assert cell("import near; print(near.value)")["text"] == "1\n"
    (folder.path / "near.py").unlink()
    folder.write(near__init="value = 2", near__sub="")
    assert cell("import near.sub; print(near.value)")["text"] == "2\n"
    (folder.path / "near" / "__init__.py").unlink()
    (folder.path / "near" / "sub.py").unlink()
    (folder.path / "near").rmdir()
    folder.write(near="value = 3")
    assert cell("import near; print(near.value)")["text"] == "3\n"


def test_a_module_that_fails_shows_its_own_line_under_its_path_here(folder, cell):
    folder.write(bad="import os\n\n1 / 0  # here")
    said = cell("import bad")
    assert said["error"] == "ZeroDivisionError('division by zero')"
    assert f'"{folder.path}/bad.py", line 3' in said["traceback"]
    assert "1 / 0  # here" in said["traceback"]
    folder.write(bad="def (")
    said = cell("import bad")
    assert said["error"].startswith("SyntaxError")
    assert f'"{folder.path}/bad.py", line 1' in said["traceback"]
    folder.write(bad="value = 'mended'")
    assert cell("import bad; print(bad.value)")["text"] == "mended\n"


def test_a_kernel_that_lacks_what_was_sent_refuses_and_gets_everything_anew(folder, shipping, tmp_path):
    folder.write(near="value = 1", other="value = 2")
    (tmp_path / "cwd").mkdir()
    with Importer(tmp_path / "m", tmp_path / "cwd") as first:
        shipment = shipping.needed({"near"}, "kernel", HERE)
        assert first.run("import near", shipment)["text"] == ""
        shipping.arrived(shipment)
    (tmp_path / "m" / "stale.py").write_text("")
    with Importer(tmp_path / "m", tmp_path / "cwd") as second:
        assert "not here any more" in second.run("", shipping.needed({"other"}, "kernel", HERE))["refused"]
        assert shipping.forget("kernel")
        assert not shipping.forget("kernel")
        assert second.run("import other; print(other.value)", shipping.needed({"other"}, "kernel", HERE))["text"] == "2\n"
    assert not (tmp_path / "m" / "stale.py").exists()


def test_what_came_with_a_cell_that_did_not_begin_may_come_again(folder, shipping, importer):
    folder.write(near="value = 1")
    assert importer.run("import near; kept = near", shipping.needed({"near"}, "kernel", HERE))["text"] == ""
    again = shipping.needed({"near"}, "kernel", HERE)
    assert files(again) == ["near.py"]
    assert importer.run("import near; print(near is kept)", again)["text"] == "True\n"
    folder.write(near="value = 2")
    assert "refused" not in importer.run("", shipping.needed({"near"}, "kernel", HERE))
    shipping.arrived(again)
    folder.write(near="value = 3")
    said = importer.run("import near; print(near.value)", shipping.needed({"near"}, "kernel", HERE))
    assert "not here any more" in said["refused"]


def test_two_notebooks_that_share_a_kernel_each_see_their_own(folder, importer, tmp_path, monkeypatch):
    folder.write(near="value = 'first'", same="")
    one, two = Shipping(), Shipping()

    def run(shipping: Shipping) -> str:
        for _ in range(2):
            said = importer.run(
                "import near, same; print(near.value, same is globals().get('kept', same)); kept = same",
                shipment := shipping.needed({"near", "same"}, "kernel", HERE),
            )
            if "refused" not in said:
                shipping.arrived(shipment)
                return said["text"]
            shipping.forget("kernel")
        raise AssertionError(said)

    assert run(one) == "first True\n"
    folder.write(near="value = 'second'")
    assert run(two) == "second True\n"
    folder.write(near="value = 'first'")
    assert run(one) == "first True\n"


def test_files_that_the_node_sees_under_the_same_path_stay_there(folder, shipping, tmp_path):
    folder.write(near="from pathlib import Path\ntext = (Path(__file__).parent / 'beside.txt').read_text()", pack__init="", pack__a="v = 1")
    folder.file("beside.txt", "beside")
    with Importer(tmp_path / "m", folder.path) as importer:

        def cell(code: str) -> dict:
            said = importer.run(code, shipment := shipping.needed(imports_of(code), "kernel", HERE))
            shipping.arrived(shipment)
            return said

        assert cell("import near, pack.a; print(near.text, pack.a.v)")["text"] == "beside 1\n"
        assert cell("import near; print(near.__file__)")["text"] == f"{folder.path}/near.py\n"
        assert not any(path.is_file() for path in (tmp_path / "m").rglob("*"))
        folder.write(pack__a="v = 2")
        assert cell("import pack.a; print(pack.a.v, pack.__file__)")["text"] == f"2 {folder.path}/pack/__init__.py\n"


def test_compiled_modules_go_where_they_can_be_loaded(folder, shipping):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    folder.write(fast__init="")
    folder.file(f"fast/_core{suffix}", b"\x7fELF")
    folder.file("fast/_core.cpython-39-x86_64-linux-gnu.so", b"\x7fELF")
    assert files(shipping.needed({"fast"}, "kernel", HERE)) == ["fast/__init__.py", f"fast/_core{suffix}"]
    other = shipping.needed({"fast"}, "other", {"platform": "linux-aarch64", "extensions": [".cpython-311-aarch64-linux-gnu.so", ".so"]})
    assert other.manifest() == {}
    assert (
        other.notes
        == (f"fast is not sent: _core{suffix} was compiled for {sysconfig.get_platform()}, not for linux-aarch64. Install it there.",)
        or "_core.cpython-39" in other.notes[0]
    )


def test_what_is_too_large_is_said_once_with_the_way_out(folder):
    shipping = Shipping(Limits(total=1000, data_file=100, files=3))
    folder.write(big="#" * 2000)
    folder.write(many__init="", many__a="", many__b="", many__c="")
    folder.write(pack__init="")
    folder.file("pack/table.csv", "1" * 200)
    note = shipping.needed({"big"}, "kernel", HERE).notes[0]
    assert note.startswith("big is not sent: 0.0 MiB in 1 file, and the limit is 0.0 MiB in 3 files. ")
    assert "JUPYTER_REMOTE_GPU_MODULES_LIMIT" in note
    assert shipping.needed({"big"}, "kernel", HERE) is None
    assert files(shipping.needed({"many.a"}, "kernel", HERE)) == ["many/__init__.py", "many/a.py"]
    folder.write(wide__init="", wide__a="#" * 600, wide__b="#" * 600)
    assert files(shipping.needed({"wide.a"}, "kernel", HERE)) == ["wide/__init__.py", "wide/a.py"]
    shipment = shipping.needed({"pack"}, "kernel", HERE)
    assert files(shipment) == ["pack/__init__.py"]
    assert shipment.notes == ("pack is sent without pack/table.csv: data files above 0.0 MiB stay here. Send them with --files.",)


def test_the_limit_is_raised_by_a_variable():
    assert limits_from({"JUPYTER_REMOTE_GPU_MODULES_LIMIT": "64"}) == Limits(64 * 1024**2, 4 * 1024**2, 8000)
    assert limits_from({"JUPYTER_REMOTE_GPU_MODULES_LIMIT": "much"}) == limits_from({}) == Limits()


def test_a_path_that_leads_out_of_the_folder_is_refused(folder, shipping, importer, tmp_path):
    folder.write(near="")
    shipment = shipping.needed({"near"}, "kernel", HERE)
    import hashlib
    import json

    entry = shipment.described["files"][0]
    entry[0] = "../near.py"
    shipment.described["state"] = hashlib.blake2b(f"../near.py\0{entry[1]}\n".encode(), digest_size=16).hexdigest()
    assert "is not the path of a module" in importer.run("", shipment)["refused"]
    assert json.dumps(entry)
    assert not (importer.folder.parent / "near.py").exists()


def test_a_loaded_module_is_sent_as_its_file_is_now(folder, shipping, cell):
    folder.write(near="value = 1")
    importlib.import_module("near")
    folder.write(near="value = 2")
    assert cell("import near; print(near.value)")["text"] == "2\n"


def test_a_loaded_module_whose_file_was_away_is_found_again(folder, shipping, cell):
    path = folder.file("near.py", "value = 1")
    importlib.import_module("near")
    path.unlink()
    assert shipping.needed({"near"}, "kernel", HERE) is None
    folder.write(near="value = 2")
    assert cell("import near; print(near.value)")["text"] == "2\n"


def test_a_module_that_put_an_object_in_its_place_is_sent(folder, shipping, cell):
    folder.write(near="import sys\nclass Near:\n    value = 'an object'\nsys.modules[__name__] = Near()")
    importlib.import_module("near")
    assert cell("import near; print(near.value)")["text"] == "an object\n"
    del sys.modules["near"]


def test_a_module_that_was_made_by_hand_is_not_sent(folder, shipping, monkeypatch):
    monkeypatch.setitem(sys.modules, "handmade", types.ModuleType("handmade"))
    assert shipping.needed({"handmade.part"}, "kernel", HERE) is None


def test_an_editable_installation_is_the_users_own(folder, cell, tmp_path, monkeypatch):
    source = tmp_path / "checkout" / "src" / "mine_elsewhere"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("from .part import value")
    (source / "part.py").write_text("value = 'editable'")

    class Finder:
        """As the ones that setuptools installs."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
            if name != "mine":
                return None
            return importlib.util.spec_from_file_location(name, source / "__init__.py", submodule_search_locations=[str(source)])

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert cell("import mine; print(mine.value)")["text"] == "editable\n"


def test_what_changed_names_the_modules_that_are_run_anew(folder, shipping, cell):
    folder.write(one="import two", two="", three="")
    cell("import one, two, three")
    folder.write(two="changed = True")
    assert shipping.needed({"one", "three"}, "kernel", HERE).changed == {"one", "two"}


def test_a_thousand_unchanged_files_cost_little(folder, shipping, cell):
    folder.write(pack__init="")
    for number in range(300):
        folder.file(f"pack/m{number}.py", f"from . import m{(number + 1) % 300}")
    cell("import pack.m0")
    began = time.perf_counter()
    assert shipping.needed({"pack.m0"}, "kernel", HERE).buffers == ()
    assert time.perf_counter() - began < 0.2


def test_what_a_function_imports_is_read_off_its_code():
    def function(flag):
        import a_one  # noqa: F401
        import a_two.sub  # noqa: F401

        x = 1 if flag else 0
        if flag:
            from a_three import name  # noqa: F401

        class Inner:
            def method(self):
                from a_four.deep import (  # noqa: F401
                    left,
                    right,
                )

                return 5

        return lambda: __import__("json"), x, Inner

    expected = {"a_one", "a_two.sub", "a_three", "a_three.name", "a_four.deep", "a_four.deep.left", "a_four.deep.right"}
    assert imports_in(function.__code__) == expected
    relative = compile("from . import near\nfrom ..up import far\nimport absolute", "x", "exec")
    assert imports_in(relative) == {"absolute"}


class TestImportsOf:
    """What a source imports."""

    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("import a, b.c as d", {"a", "b.c"}),
            ("from a import b, c", {"a", "a.b", "a.c"}),
            ("from a.b import *", {"a.b"}),
            ("def f():\n    try:\n        import a\n    except ImportError:\n        import b", {"a", "b"}),
            ("from . import x", {"p.q", "p.q.x"}),
            ("from .. import x", {"p", "p.x"}),
            ("from ..s.t import x", {"p.s.t", "p.s.t.x"}),
            ("from .... import x", set()),
            ("importlib.import_module('a.b'); __import__('c'); import_module('.x'); import_module(name)", {"a.b", "c", "p.q.x"}),
            ("def (", set()),
            ("", set()),
        ],
    )
    def test_names(self, source, found):
        assert imports_of(source, "p.q") == found

    def test_a_declared_encoding_is_read(self):
        assert imports_of("# -*- coding: latin-1 -*-\nimport a  # é".encode("latin-1")) == {"a"}
