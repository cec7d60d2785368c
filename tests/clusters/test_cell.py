"""A dozen cells on each way to a node, and the public conformance suite for Jupyter kernels: notebook → gateway → ssh, Slurm → kernel."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import jupyter_kernel_test as suite
import pytest
from tests.clusters.ways import REMOTE, configuration, forget, use_lab
from tests.contracts.cell import CellSmoke
from tests.end_to_end.test_conformance import Samples
from tests.fakes.notebook import Notebook

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(240)]

NAMES = {way: f"w{number}" for number, way in enumerate(REMOTE)}
"""The clusters' names: a kernelspec is called after each."""


@pytest.fixture(scope="module")
def places_with_clusters(module_places, lab) -> Iterator[Path]:
    """Folders whose gateway knows all the ways."""
    with pytest.MonkeyPatch.context() as patch:
        cache = use_lab(lab, patch)
        clusters = {name: configuration(way, lab) for way, name in NAMES.items()}
        folder = module_places.base / "config"
        folder.mkdir(exist_ok=True)
        (folder / "jupyter_server_config.json").write_text(json.dumps({"RemoteGpu": {"clusters": clusters, "attach_grace": 5}}))
        yield module_places.base
    forget(cache)


@pytest.fixture(scope="module", params=REMOTE)
def notebook(request, places_with_clusters) -> Iterator[Notebook]:
    with Notebook("%load_ext remote_gpu", f"%remote_gpu use {NAMES[request.param]}") as notebook:
        yield notebook
        with contextlib.suppress(AssertionError):
            notebook.run("%remote_gpu stop", timeout=60)


class TestCell(CellSmoke):
    """Everything that the smoke asks for."""


class Conformance(Samples, suite.KernelTests):
    """The suite, once per way."""

    @classmethod
    def setUpClass(cls):
        cls.kernel_name = f"remote-gpu-{NAMES[cls.way]}"
        super().setUpClass()


@pytest.fixture(scope="module", autouse=True)
def _kernelspecs(places_with_clusters):
    """A gateway writes the kernelspecs when it loads."""
    from remote_gpu.discovery import find_or_start_gateway

    find_or_start_gateway()


class TestConformanceBySsh(Conformance):
    way = "ssh"


class TestConformanceOfSlurmHere(Conformance):
    way = "slurm here"


class TestConformanceOfSlurmOverSsh(Conformance):
    way = "slurm over ssh"


class TestConformanceOverAJumpHost(Conformance):
    way = "slurm over ssh and a jump host"


del Conformance  # what pytest finds is to be run
