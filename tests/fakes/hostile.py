"""A node that wants to run code on the laptop: what it sends in each channel, and the file that shows whether it succeeded.

Each attack is alive: `test_hostile_node.py` first unpickles it openly and sees the file.
"""

from __future__ import annotations

import base64
import functools
import pickle
import struct
from pathlib import Path

import cloudpickle


class Canary:
    """A file that an attack would make."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "canary"

    @property
    def sang(self) -> bool:
        return self.path.exists()

    @property
    def code(self) -> str:
        return f"open({str(self.path)!r}, 'w').close()"


class _Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class _Sets:
    """Pickles as an exec that a `__setstate__` of somebody else's would run."""


def pickles(canary: Canary) -> dict[str, bytes]:
    """Pickles that make the canary sing where they are unpickled."""
    path, code = str(canary.path), canary.code
    call = _Calls(exec, code)
    found = {f"protocol {number}": pickle.dumps(call, number) for number in range(6)}
    found["in a list"] = pickle.dumps([1, {"a": (call,)}], 5)
    found["as a key"] = pickle.dumps({_Calls(functools.partial, exec, code): 1, 2: call}, 5)
    found["os.system"] = pickle.dumps(_Calls(__import__("os").system, f"touch {path}"), 5)
    found["open"] = pickle.dumps(_Calls(open, path, "w"), 5)
    found["cloudpickle"] = cloudpickle.dumps(_Calls(lambda where: Path(where).touch(), path))
    found["INST"] = b"(S" + repr(code).encode() + b"\nibuiltins\nexec\n."
    found["OBJ"] = b"(cbuiltins\nexec\nS" + repr(code).encode() + b"\no."
    found["GLOBAL"] = b"cbuiltins\nexec\n(S" + repr(code).encode() + b"\ntR."
    found["NEWOBJ"] = _stack("functools", "partial") + _stack("builtins", "exec") + b"\x85\x81" + _text(code) + b"\x85R."
    found["BUILD"] = pickle.dumps(_Sets, 5)[:-1] + b")\x81}" + _text("x") + _stack("builtins", "exec") + _text(code) + b"\x85Rsb."
    found["numpy testing"] = pickle.dumps(_Calls(__import__("numpy").testing.runstring, code, {}), 5)
    found["an attribute by dots"] = b"\x80\x04" + _text("builtins") + _text("eval.__call__") + b"\x93" + _text(code) + b"\x85R."
    found["memoized"] = b"\x80\x04" + _stack("builtins", "exec") + b"\x94h\x00" + _text(code) + b"\x85R."
    return found


def impostors(canary: Canary) -> dict[str, bytes]:
    """Streams in our own dialect that try to reach more than our constructors; an open unpickle cannot read them."""
    code = _text(canary.code)
    ours = "remote_gpu_values"
    return {
        "a name of Python's as ours": b"\x80\x05" + _stack(ours, "exec") + code + b"\x85R.",
        "a dotted name": b"\x80\x05" + _stack(ours, "class.__globals__") + code + b"\x85R.",
        "our own module": b"\x80\x05" + _stack("remote_gpu.codec.decode", "decode_trusted") + code + b"\x85R.",
        "the constructors' module": b"\x80\x05" + _stack("remote_gpu.codec.rebuild.plain", "re") + code + b"\x85R.",
        "a class is called": b"\x80\x05" + _stack(ours, "class") + _text("object") + b"\x85R" + b")R.",
        "a class that may not come": b"\x80\x05" + _stack(ours, "class") + _text("eval") + b"\x85R.",
        "a constructor without its call": b"\x80\x05" + _stack(ours, "class") + b".",
        "state is set on a value": b"\x80\x05" + _stack(ours, "class") + _text("dict") + b"\x85R}b.",
        "a complete object is filled": b"\x80\x05" + _stack(ours, "fill") + b"]" + b"}N\x86\x86R.",
        "a constant of another name": b"\x80\x05" + _stack(ours, "constant") + _text("exec") + b"\x85R.",
        "a class of numpy's": b"\x80\x05" + _stack(ours, "scalar_type") + _text("load") + b"\x85R.",
        "a dtype of torch's": b"\x80\x05" + _stack(ours, "torch_dtype") + _text("load") + b"\x85R.",
        "objects as memory": b"\x80\x05"
        + _stack(ours, "ndarray")
        + b"(C\x08"
        + b"\0" * 8
        + _text("|O")
        + b"K\x01\x85"
        + _text("C")
        + b"\x88tR.",
        "a persistent id": b"\x80\x05" + code + b"Q.",
        "an extension code": b"\x80\x05\x82\x01.",
        "a factory of a defaultdict": b"\x80\x05"
        + _stack(ours, "container")
        + _text("defaultdict")
        + _stack("builtins", "exec")
        + b"\x86R.",
        "a path of a time zone": b"\x80\x05" + _stack(ours, "zone") + _text("../../../etc/passwd") + b"\x85R.",
        "a pattern that prints": b"\x80\x05" + _stack(ours, "pattern") + _text("a") + b"K\x80\x86R.",
    }


def bombs() -> dict[str, bytes]:
    """Short streams that would take much memory, much time, or the C stack."""
    ours = "remote_gpu_values"
    laughs = b"\x80\x05)" + b"".join(b"\x94" + b"h" + bytes([n]) + b"\x86" for n in range(100))
    deep = b"\x80\x05)" + b"\x85" * 1_000_000
    huge = struct.pack("<Q", 1 << 40)
    return {
        "a key that holds itself 2**100 times": b"\x80\x05}" + laughs[2:] + b"Ns.",
        "a set of such a key": b"\x80\x05\x8f(" + laughs[2:] + b"\x90.",
        "a key nested a million deep": b"\x80\x05}" + deep[2:] + b"Ns.",
        "a frozenset nested a million deep": b"\x80\x05" + b"(" * 1_000_000 + b"\x91" * 1_000_000 + b".",
        "bytes that are not there": b"\x80\x05\x8e" + huge + b".",
        "text that is not there": b"\x80\x05\x8d" + huge + b".",
        "an array of objects that did not come": b"\x80\x05"
        + _stack(ours, "objects")
        + b"\x8a\x05\0\0\0\0\x10\x85"
        + _text("C")
        + b"\x86R.",
        "an image that did not come": b"\x80\x05" + _stack(ours, "image") + b"(" + _text("RGB") + b"J\0\0\0\x10J\0\0\0\x10C\0NNtR.",
        "an array of sides without end": b"\x80\x05"
        + _stack(ours, "ndarray")
        + b"(C\0"
        + _text("<f8")
        + b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fK\0\x87"
        + _text("C")
        + b"\x88tR.",
        "a column that is one number over and over": b"\x80\x05"
        + _stack(ours, "series")
        + b"(K\x01"
        + _stack(ours, "range_index")
        + b"(K\0\x8a\x05\0\0\0\0\x10K\x01NtRN}tR.",
        "a frame that is not there": b"\x80\x05\x95" + b"\xff" * 8,
    }


def entries(canary: Canary) -> dict[str, dict]:
    """Descriptions of handles with pickles, objects and markup where text and numbers belong."""
    poison = base64.b64encode(pickles(canary)["protocol 5"]).decode()
    markup = f"<img src=x onerror=\"fetch('/api/contents')\"><script>{canary.code}</script>"
    return {
        "id": {"kind": "handle", "id": poison, "type": "T"},
        "a negative id": {"kind": "handle", "id": -1, "type": "T"},
        "an id that is true": {"kind": "handle", "id": True, "type": "T"},
        "type": {"kind": "handle", "id": 1, "type": {"py/reduce": [poison]}},
        "shape": {"kind": "handle", "id": 1, "type": "T", "shape": poison},
        "a side": {"kind": "handle", "id": 1, "type": "T", "shape": [1, markup]},
        "dtype": {"kind": "handle", "id": 1, "type": "T", "dtype": [poison]},
        "device": {"kind": "handle", "id": 1, "type": "T", "device": 5},
        "size": {"kind": "handle", "id": 1, "type": "T", "size": markup},
        "text": {"kind": "handle", "id": 1, "type": "T", "text": [markup]},
    }


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _stack(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"
