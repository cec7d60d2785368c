"""What is said of versions that differ between the notebook and the node."""

from __future__ import annotations

import sys
import types

import pytest

from remote_gpu.modules.versions import Comparison, compare, local_versions


def side(python: str = "3.11.7", implementation: str = "CPython", **packages: str | None) -> dict:
    version = [int(part) for part in python.split(".")]
    return {
        "python": version,
        "implementation": implementation,
        "packages": {name.replace("_", "-"): text for name, text in packages.items()},
    }


@pytest.mark.parametrize(
    ("local", "remote", "said"),
    [
        (side(), side(), ""),
        (side("3.11.7"), side("3.11.2"), ""),
        (side("3.11.7"), side("3.12.1"), "Python 3.11 here, 3.12 on gpu01: functions cross as source text."),
        (side(), side(implementation="PyPy"), "Python 3.11 here, PyPy 3.11 on gpu01: functions cross as source text."),
        (side(numpy="2.4.1"), side(numpy="1.26.4"), "numpy 2.4 here, 1.26 on gpu01."),
        (side(numpy="2.4.1"), side(numpy="2.1.0"), ""),
        (side(polars="0.20.1"), side(polars="0.19.9"), "polars 0.20 here, 0.19 on gpu01."),
        (side(torch="2.9.0+cpu"), side(torch="2.9.0+cu128"), ""),
        (
            side("3.11.7", numpy="2.4.1", pandas="3.0.0"),
            side("3.12.1", numpy="1.26.4", pandas="2.2.3"),
            "Python 3.11 here, 3.12 on gpu01: functions cross as source text. numpy 2.4 here, 1.26 there; pandas 3.0 here, 2.2 there.",
        ),
        (side(numpy="2.4.1"), side(numpy=None), ""),
        (side(numpy="2.4.1"), side(), ""),
        (side(numpy=None), side(numpy="1.0"), ""),
        (side(), {}, ""),
    ],
)
def test_one_line_says_what_matters(local, remote, said):
    assert compare(local, remote, node="gpu01") == said


def test_a_package_that_is_missing_there_is_named_once_its_values_cross():
    local, remote = side(pandas="3.0.0", polars="1.2.3", scikit_learn="1.8.0"), side(pandas=None, polars=None, scikit_learn=None)
    assert compare(local, remote, node="gpu01", crossing={"pandas.core.frame"}) == (
        "pandas is not installed on gpu01: values of it stay here."
    )
    assert compare(local, remote, node="gpu01", crossing={"sklearn.svm", "polars"}) == (
        "polars and scikit-learn are not installed on gpu01: values of them stay here."
    )


@pytest.fixture
def loaded(monkeypatch):
    """Exactly the packages that it is given are loaded, in these versions."""
    from remote_gpu.modules.versions import PACKAGES

    for module in PACKAGES:
        monkeypatch.delitem(sys.modules, module, raising=False)

    def load(**versions: str) -> None:
        for module, version in versions.items():
            made = types.ModuleType(module)
            made.__version__ = version
            monkeypatch.setitem(sys.modules, module, made)

    return load


def test_only_loaded_packages_count(loaded):
    loaded(numpy="2.4.1", sklearn="1.8.0")
    assert local_versions()["packages"] == {"numpy": "2.4.1", "scikit-learn": "1.8.0"}


def test_each_thing_is_said_once_per_kernel_and_only_new_packages_are_asked_for(loaded):
    asked, theirs = [], {"numpy": "1.26.4", "pandas": "2.2.3", "torch": "2.1"}
    remote = side("2.7.18")
    comparison = Comparison()

    def news(kernel: str) -> str:
        return comparison.news(kernel, remote, lambda names: asked.append(names) or {name: theirs[name] for name in names}, node="gpu01")

    here = ".".join(map(str, sys.version_info[:2]))
    python = f"Python {here} here, 2.7 on gpu01: functions cross as source text."
    assert news("a") == python
    assert news("a") == ""
    loaded(numpy="2.4.1")
    assert news("a") == "numpy 2.4 here, 1.26 on gpu01."
    loaded(pandas="2.0.0", torch="1.13")
    assert news("a") == "torch 1.13 here, 2.1 on gpu01."
    assert news("a") == ""
    assert asked == [["numpy"], ["pandas", "torch"]]
    assert news("b") == f"{python} numpy 2.4 here, 1.26 there; torch 1.13 here, 2.1 there."
    comparison.forget("a")
    assert news("a").startswith(python)
