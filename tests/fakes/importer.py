"""A process of its own that takes in modules as a remote kernel does, and runs code that imports them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from remote_gpu.modules.shipping import Shipment

_CHILD = """
import base64, contextlib, io, json, sys, traceback
from pathlib import Path
from remote_gpu.errors import RemoteGpuError
from remote_gpu.node.shipped import Shipped
sys.path.remove("")
sys.path.insert(0, "")
shipped, names = Shipped(Path(sys.argv[1])), {"__name__": "__main__"}
for line in sys.stdin:
    asked, said = json.loads(line), {}
    text = io.StringIO()
    try:
        if "modules" in asked:
            shipped.receive(asked["modules"], [base64.b64decode(each) for each in asked["buffers"]])
        with contextlib.redirect_stdout(text):
            exec(asked.get("code", ""), names)
    except RemoteGpuError as error:
        said["refused"] = str(error)
    except BaseException as error:
        said["error"] = repr(error)
        said["traceback"] = shipped.rename(traceback.format_exc())
    print(json.dumps({"text": text.getvalue(), **said}), flush=True)
"""


class Importer:
    """The child; use it as a context manager. Its current folder is `cwd`, its modules lie in `folder`."""

    def __init__(self, folder: Path, cwd: Path) -> None:
        self.folder = folder
        self._cwd = cwd

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", _CHILD, str(self.folder)]
        self._child = subprocess.Popen(command, cwd=self._cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stdin.close()
        self._child.wait(10)
        self._child.stdout.close()

    def run(self, code: str = "", shipment: Shipment | None = None) -> dict[str, Any]:
        """What became of `code`: its `text`, and `error` with `traceback`, or why the shipment was `refused`."""
        asked: dict[str, Any] = {"code": code}
        if shipment is not None and (manifest := shipment.manifest()):
            asked |= {"modules": manifest, "buffers": [base64.b64encode(each).decode() for each in shipment.buffers]}
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()
        return dict(json.loads(self._child.stdout.readline()))
