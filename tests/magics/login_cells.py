"""What the tests of logins in cells share."""

from __future__ import annotations

import ast
from typing import Any

from tests.fakes.notebook import Notebook

REFUSED = "host.example wants you to log in. Sessions there go on."
RIGHT = "the right answer"
CUT = (
    "kernel = get_ipython().kernel\nimport sys\nsys.stdout.flush()\n"
    "why = {{'execution_state': 'unknown', 'remote_gpu': {{'reason': 'access_refused', 'text': {text!r}}}}}\n"
    "kernel.session.send(kernel.iopub_socket, 'status', why, parent={{}}, ident=b'iopub.1')\n"
    "import os, time\nwhile not os.path.exists({works!r}): time.sleep(0.01)\n"
)
"""What a front publishes when its gateway may not log in without asking, said here by the remote kernel in its place. Then it waits."""


def value(notebook: Notebook, code: str) -> Any:
    """The value of an expression in the notebook."""
    return ast.literal_eval(notebook.run(code).result)
