"""What a cell says of versions that differ: a real session, in a notebook that pretends to have an old numpy."""

from __future__ import annotations

import re
import socket

from tests.fakes.notebook import Notebook


def test_a_package_of_another_major_version_is_told_once_per_kernel():
    with Notebook("%load_ext remote_gpu") as notebook:
        notebook.run("%%remote_gpu\n1")
        notebook.run("import numpy; numpy.__version__ = '0.1'")
        said = notebook.run("%%remote_gpu\nx = 1").stream("stderr")
        assert re.fullmatch(rf"numpy 0\.1 here, \d+\.\d+ on {re.escape(socket.gethostname())}\.\n", said), said
        assert notebook.run("%%remote_gpu\nx = 2").text == ""
        notebook.run("%remote_gpu restart")
        assert "numpy 0.1 here" in notebook.run("%%remote_gpu\nx = 3").stream("stderr")
        notebook.run("%remote_gpu stop")
