"""The public conformance suite for Jupyter kernels, against a plain ipykernel and against a remote session: the same list."""

from __future__ import annotations

import jupyter_kernel_test as suite
import pytest

pytestmark = pytest.mark.shared_places

_PNG = "from IPython.display import Image, display; display(Image(data=b'\\x89PNG\\r\\n', format='png'))"


@pytest.fixture(scope="module", autouse=True)
def _set_up(module_places):
    """Before the suite's own set-up, which starts the kernel once for all its tests."""


class Samples:
    """What the suite shall try, for both kernels."""

    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('oops', file=sys.stderr)"
    completion_samples = ({"text": "zi", "matches": {"zip"}}, {"text": "impor", "matches": {"import"}})
    complete_code_samples = ("1", "print('hello')", "def f(x):\n  return x\n\n")
    incomplete_code_samples = ("print('''hello", "def f(x):\n  x*2")
    invalid_code_samples = ("import = 7q", "x y")
    code_page_something = "zip?"
    code_generate_error = "raise RuntimeError('on purpose')"
    code_execute_result = ({"code": "1 + 2 + 3", "result": "6"}, {"code": "[n * n for n in range(1, 4)]", "result": "[1, 4, 9]"})
    code_display_data = (
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": _PNG, "mime": "image/png"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
    )
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail",)  # "range" and "search" read what a plain ipykernel has not written yet, too
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestAPlainKernel(Samples, suite.KernelTests):
    kernel_name = "python3"


class TestARemoteKernel(Samples, suite.KernelTests):
    kernel_name = "remote-gpu-local"


class TestTheWelcomeOfAPlainKernel(suite.IopubWelcomeTests):
    kernel_name = "python3"
    support_iopub_welcome = True


class TestTheWelcomeOfARemoteKernel(suite.IopubWelcomeTests):
    kernel_name = "remote-gpu-local"
    support_iopub_welcome = True
