"""A notebook's names, and a node that takes them in: in this process with a cloudpickle of its own, or a real process."""

from __future__ import annotations

import importlib.util
import itertools
import json
import linecache
import os
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

from cloudpickle import cloudpickle

from jupyter_remote_gpu.clusters.bundle import Bundle
from remote_gpu.codec.encode import Encoded, Scope, encode
from remote_gpu.node import builders, incoming

_numbers = itertools.count(1)


class Notebook:
    """Cells that are run here; like a kernel's, their names are those of the module `__main__` as long as it is used."""

    def __init__(self, monkeypatch: Any) -> None:
        module = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", module)
        self.names: dict[str, Any] = vars(module)

    def cell(self, source: str) -> None:
        """Run a cell as IPython does: its text is known by the name of its file."""
        name = f"/tmp/ipykernel_1/{next(_numbers)}.py"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec", dont_inherit=True), self.names)

    def scope(self, *, same_python: bool = True, session: str = "s") -> Scope:
        return Scope(self.names, same_python, session)

    def encoded(self, *names: str, same_python: bool = True) -> Encoded:
        return encode({name: self.names[name] for name in names}, self.scope(same_python=same_python))

    def send(self, node: Any, *names: str, same_python: bool = True) -> Any:
        """Have `node` bind these names; all must cross. Returns the node."""
        parcel = self.encoded(*names, same_python=same_python)
        assert parcel.refused == {}, parcel.refused
        assert parcel.names == names
        node.take(parcel)
        return node


class NearNode:
    """The node's half in this process. Its classes are its own, as in another process; `held` are values of handles."""

    def __init__(self, monkeypatch: Any) -> None:
        spec = importlib.util.spec_from_file_location("cloudpickle_of_the_node", str(cloudpickle.__file__))
        assert spec is not None
        assert spec.loader is not None
        own = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(own)
        monkeypatch.setattr(builders, "cloudpickle", own)
        monkeypatch.setattr(incoming, "cloudpickle", own)
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.held: dict[int, Any] = {}

    def take(self, parcel: Encoded) -> dict[str, Any]:
        """Load and bind; arrays get memory of their own, as over a wire."""
        values = incoming.load(parcel.head, [bytearray(each) for each in parcel.buffers], parcel.names, self.names, self.held.__getitem__)
        self.names.update(values)
        return values

    def run(self, source: str) -> None:
        exec(source, self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


_FAR = """
import json, struct, sys, types
sys.path.insert(0, sys.argv[1])
from remote_gpu.node import incoming
main = sys.modules["__main__"] = types.ModuleType("__main__")
names = main.__dict__
wire, sys.stdout = sys.stdout.buffer, sys.stderr
def read():
    size, = struct.unpack("<Q", sys.stdin.buffer.read(8))
    return bytearray(sys.stdin.buffer.read(size))
while True:
    asked = json.loads(read())
    answer = None
    try:
        if "run" in asked:
            exec(asked["run"], names)
        else:
            head, buffers = read(), [read() for _ in range(asked["buffers"])]
            names.update(incoming.load(head, buffers, asked["names"], names, {}.__getitem__))
    except incoming.NamesRefused as error:
        answer = {"refused": error.reasons}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    wire.write(json.dumps(answer).encode() + b"\\n")
    wire.flush()
"""


class FarNode:
    """The node's half in a process of its own, from the bundle and nothing else of ours (``python -I``)."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        bundle = folder / "b.pyz"
        bundle.write_bytes(Bundle().data())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [python, "-I", "-c", _FAR, str(bundle)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, asked: dict[str, Any], *parts: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for part in (json.dumps(asked).encode(), *parts):
            view = memoryview(part)
            self._process.stdin.write(struct.pack("<Q", view.nbytes))
            self._process.stdin.write(view)
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer is not None and "refused" in answer:
            raise incoming.NamesRefused(answer["refused"])
        assert answer is None, answer

    def take(self, parcel: Encoded) -> None:
        self._ask({"names": parcel.names, "buffers": len(parcel.buffers)}, parcel.head, *parcel.buffers)

    def run(self, source: str) -> None:
        """Run code there; what fails there fails here."""
        self._ask({"run": source})
