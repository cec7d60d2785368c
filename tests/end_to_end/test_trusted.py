"""A cluster whose configuration says that it is trusted: what comes back is unpickled, so also an estimator is a value."""

from __future__ import annotations

import pytest
from tests.fakes.notebook import Notebook

CONFIGURATION = "c.RemoteGpu.clusters = {'local': {'kind': 'local', 'trust': True}}\n"
CELL = """
import functools
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
largest = functools.partial(max, 3)
data = [1, 2]
big = 'x' * 1_000_000
"""


@pytest.mark.slow
@pytest.mark.parametrize("trust", [True, False])
def test_an_estimator_is_a_value_where_the_cluster_is_trusted_and_a_handle_elsewhere(places, trust):
    config = places.base / "config"
    config.mkdir(mode=0o700)
    if trust:
        (config / "jupyter_server_config.py").write_text(CONFIGURATION)
    with Notebook("%load_ext remote_gpu") as notebook:
        try:
            cell = notebook.run(f"%%remote_gpu\n{CELL}")
            assert not cell.error, cell.traceback
            kinds = notebook.run("[type(each).__name__ for each in (model, largest, data, big)]").result
            expected = ["LinearRegression", "partial"] if trust else ["Handle", "CallableHandle"]
            assert kinds == str([*expected, "list", "str"])
            assert (
                notebook.run("round(float(model.predict([[2.0]])[0]), 6), largest(1), data, len(big)").result == "(5.0, 3, [1, 2], 1000000)"
            )
        finally:
            notebook.run("%remote_gpu stop")
