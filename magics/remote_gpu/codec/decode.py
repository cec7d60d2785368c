# ruff: noqa: PLR2004 opcodes are written as the numbers that they are
"""Values that a node sends, built here without trusting it: an interpreter of a small part of pickle's opcodes.

The node encodes with the standard C pickler, which is quick. This side never unpickles: `decode` knows only the opcodes that
make numbers, text, bytes and containers, and the one that calls a constructor. What can be called is the exact table
`remote_gpu.codec.rebuild.CONSTRUCTORS`; no module is imported and no attribute looked up by a name that the node chose, and no
``__setstate__``, ``__reduce__`` or ``__init__`` of a class runs. Memory grows in proportion to what was received.

Wrong input, of whatever kind, raises `UnsafeValue`.
"""

from __future__ import annotations

import functools
import gc
import io
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remote_gpu.codec.rebuild import CONSTRUCTORS, MODULE
from remote_gpu.codec.rebuild.checks import UnsafeValue
from remote_gpu.codec.rebuild.keys import check_keys
from remote_gpu.codec.rebuild.notebook import Context

__all__ = ["UnsafeValue", "decode", "decode_trusted"]

_Memory = memoryview | bytes | bytearray

_RUN = 1024  # numbers of one kind that are read in one step; the pickler groups 1,000
_PROTOCOLS = (4, 5)

_double, _int4 = struct.Struct(">d").unpack_from, struct.Struct("<i").unpack_from
_uint2, _uint4 = struct.Struct("<H").unpack_from, struct.Struct("<I").unpack_from


def decode(head: bytes | memoryview, buffers: Sequence[_Memory], names: Sequence[str], classes: Mapping[str, type]) -> dict[str, Any]:
    """The values in a parcel, by name; an object that two names share is one object.

    `head` has one value after the other in the order of `names`; `buffers` is the raw memory that it refers to, which the
    values keep: writable memory makes arrays without a copy. `classes` are the notebook's own, by the name under which each
    was sent. Raises `UnsafeValue` for anything but exactly that.
    """
    collects = gc.isenabled()
    gc.disable()  # nothing of what is made here is garbage yet, and looking for it among many objects doubles the time
    try:
        machine = _Machine(bytes(head), buffers, Context(classes, len(head)))
        values = {name: machine.value() for name in names}
        machine.finish()
    except UnsafeValue:
        raise
    except MemoryError as error:
        raise UnsafeValue("A value that the node sent does not fit into the memory here.") from error
    except Exception as error:  # a constructor, or a library below it, met what it cannot build
        raise UnsafeValue(f"What the node sent is no value: {type(error).__name__}: {str(error)[:200]}") from error
    finally:
        if collects:
            gc.enable()
    return values


def decode_trusted(head: bytes | memoryview, buffers: Sequence[_Memory], names: Sequence[str]) -> dict[str, Any]:
    """As `decode`, by an open unpickle: it runs what the node sends. Only for a cluster whose configuration says ``trust``."""
    unpickler = _Open(io.BytesIO(head), buffers=iter(buffers))
    return {name: unpickler.load() for name in names}


class _Open(pickle.Unpickler):
    """Unpickles everything. The node has its own copy of cloudpickle, which stands for the one that is installed here."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("cloudpickle.cloudpickle" if module == "remote_gpu.node.cloudpickle" else module, name)


class _Constructor:
    """The name of a constructor on the stack: REDUCE can call it, and it is nothing else."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


@functools.cache
def _numbers(kind: str, count: int) -> Callable[[bytes, int], tuple[Any, ...]]:
    """What reads `count` numbers, each behind its opcode; `kind` is the byte order and the struct letter."""
    return struct.Struct(kind[0] + f"x{kind[1]}" * count).unpack_from


def _run_length(data: bytes, at: int, width: int) -> int:
    """How many opcodes like the one at `at`, each with its `width` bytes in all, follow each other there."""
    run = data[at : at + width * _RUN : width]
    return len(run) - len(run.lstrip(run[:1]))


class _Machine:
    """Reads the head once, from front to end; the memo is shared by all values in it."""

    def __init__(self, head: bytes, buffers: Sequence[_Memory], context: Context) -> None:
        self._data = head
        self._at = 0
        self._buffers = iter(buffers)
        self._context = context
        self._memo: list[Any] = []
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._constructors = {name: _Constructor(functools.partial(build, context)) for name, build in CONSTRUCTORS.items()}

    def value(self) -> Any:
        """Read up to the next STOP."""
        self._stack, self._marks = [], []
        self.run()
        if len(self._stack) != 1 or self._marks or type(self._stack[0]) is _Constructor:
            raise UnsafeValue("A value that the node sent is not complete.")
        return self._stack[0]

    def finish(self) -> None:
        """Raise `UnsafeValue` when something was not used, or was begun and not finished."""
        if self._at != len(self._data) or next(self._buffers, None) is not None:
            raise UnsafeValue("The node sent more than the values that it named.")
        self._context.finish()

    def run(self) -> None:  # noqa: PLR0912, PLR0915  one loop: a call for each opcode would double the time
        """The loop. Input that is cut short raises IndexError or struct.error, which `decode` turns into `UnsafeValue`."""
        data, at, stack, memo, marks, rare = self._data, self._at, self._stack, self._memo, self._marks, _RARE
        push = stack.append
        while True:
            code = data[at]
            at += 1
            if code == 0x94:  # MEMOIZE
                memo.append(stack[-1])
            elif code == 0x8C:  # SHORT_BINUNICODE
                end = at + 1 + data[at]
                text = str(data[at + 1 : end], "utf-8", "surrogatepass")
                push(text)
                at = end
                if data[end] == 0x94:  # MEMOIZE follows where it is met for the first time
                    memo.append(text)
                    at += 1
            elif code == 0x4B:  # BININT1
                if data[at + 1] == 0x4B and (count := _run_length(data, at - 1, 2)):
                    stack += data[at : at + 2 * count : 2]
                    at += 2 * count - 1
                else:
                    push(data[at])
                    at += 1
            elif code == 0x47:  # BINFLOAT
                if data[at + 8] == 0x47 and (count := _run_length(data, at - 1, 9)):
                    stack += _numbers(">d", count)(data, at - 1)
                    at += 9 * count - 1
                else:
                    push(_double(data, at)[0])
                    at += 8
            elif code == 0x4A:  # BININT
                if data[at + 4] == 0x4A and (count := _run_length(data, at - 1, 5)):
                    stack += _numbers("<i", count)(data, at - 1)
                    at += 5 * count - 1
                else:
                    push(_int4(data, at)[0])
                    at += 4
            elif code == 0x4D:  # BININT2
                if data[at + 2] == 0x4D and (count := _run_length(data, at - 1, 3)):
                    stack += _numbers("<H", count)(data, at - 1)
                    at += 3 * count - 1
                else:
                    push(_uint2(data, at)[0])
                    at += 2
            elif code == 0x68:  # BINGET
                push(memo[data[at]])
                at += 1
            elif code == 0x6A:  # LONG_BINGET
                push(memo[_uint4(data, at)[0]])
                at += 4
            elif code == 0x28:  # MARK
                marks.append(len(stack))
            elif code == 0x2E:  # STOP
                self._at = at
                return
            else:
                self._at = at
                rare[code](self)
                at = self._at

    # what is less frequent; each begins and ends with self._at behind what it read

    def take(self, size: int) -> bytes:
        begin, end = self._at, self._at + size
        if end > len(self._data):
            raise UnsafeValue("What the node sent ends too early.")
        self._at = end
        return self._data[begin:end]

    def sized(self, width: int) -> bytes:
        return self.take(int.from_bytes(self.take(width), "little"))

    def number(self, width: int) -> None:
        self.push(int.from_bytes(self.sized(width), "little", signed=True))

    def string(self, width: int) -> None:
        self.push(str(self.sized(width), "utf-8", "surrogatepass"))

    def items(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def proto(self) -> None:
        if self.take(1)[0] not in _PROTOCOLS:
            raise UnsafeValue("The node sent a value in a form that this version does not read.")

    def pop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def append(self) -> None:
        item = self._stack.pop()
        _list(self._stack[-1]).append(item)

    def appends(self) -> None:
        items = self.items()
        _list(self._stack[-1]).extend(items)

    def setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        check_keys((key,))
        _dict(self._stack[-1])[key] = value

    def setitems(self) -> None:
        items = self.items()
        keys = items[::2]
        check_keys(keys)
        _dict(self._stack[-1]).update(zip(keys, items[1::2], strict=True))

    def additems(self) -> None:
        items = self.items()
        check_keys(items)
        target = self._stack[-1]
        if type(target) is not set:
            raise UnsafeValue("Items came for something that is no set.")
        target.update(items)

    def frozen(self) -> None:
        items = self.items()
        check_keys(items)
        self.push(frozenset(items))

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise UnsafeValue("A tuple that the node sent is not complete.")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def constructor(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        found = self._constructors.get(name) if type(name) is str and type(module) is str and module == MODULE else None
        if found is None:
            raise UnsafeValue(f"The node asked for {str(module)[:100]}.{str(name)[:100]}, which is no constructor of ours.")
        self.push(found)

    def reduce(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if type(called) is not _Constructor or type(arguments) is not tuple:
            raise UnsafeValue("The node asked to call something that is no constructor.")
        self.push(called.build(*arguments))

    def buffer(self) -> None:
        found = next(self._buffers, None)
        if found is None:
            raise UnsafeValue("The node sent fewer buffers than it named.")
        self.push(memoryview(found).cast("B"))

    def read_only(self) -> None:
        view = self._stack.pop()
        if type(view) is not memoryview:
            raise UnsafeValue("Only memory can be read-only.")
        self.push(view.toreadonly())


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise UnsafeValue("Items came for something that is no list.")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if type(value) is not dict:
        raise UnsafeValue("Items came for something that is no dict.")
    return value


def _refuse(_: _Machine) -> None:
    raise UnsafeValue("The node sent an instruction that values do not need; it was not followed.")


_RARE: list[Callable[[_Machine], None]] = [_refuse] * 256
for _code, _step in {
    pickle.PROTO: _Machine.proto,
    pickle.FRAME: lambda machine: machine.take(8),
    pickle.NONE: lambda machine: machine.push(None),
    pickle.NEWTRUE: lambda machine: machine.push(True),
    pickle.NEWFALSE: lambda machine: machine.push(False),
    pickle.LONG1: lambda machine: machine.number(1),
    pickle.LONG4: lambda machine: machine.number(4),
    pickle.BINUNICODE: lambda machine: machine.string(4),
    pickle.BINUNICODE8: lambda machine: machine.string(8),
    pickle.SHORT_BINBYTES: lambda machine: machine.push(machine.sized(1)),
    pickle.BINBYTES: lambda machine: machine.push(machine.sized(4)),
    pickle.BINBYTES8: lambda machine: machine.push(machine.sized(8)),
    pickle.BYTEARRAY8: lambda machine: machine.push(bytearray(machine.sized(8))),
    pickle.EMPTY_LIST: lambda machine: machine.push([]),
    pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
    pickle.EMPTY_DICT: lambda machine: machine.push({}),
    pickle.EMPTY_SET: lambda machine: machine.push(set()),
    pickle.TUPLE1: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3: lambda machine: machine.tuple_of(3),
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.items())),
    pickle.FROZENSET: _Machine.frozen,
    pickle.APPEND: _Machine.append,
    pickle.APPENDS: _Machine.appends,
    pickle.SETITEM: _Machine.setitem,
    pickle.SETITEMS: _Machine.setitems,
    pickle.ADDITEMS: _Machine.additems,
    pickle.POP: _Machine.pop,
    pickle.POP_MARK: _Machine.items,
    pickle.STACK_GLOBAL: _Machine.constructor,
    pickle.REDUCE: _Machine.reduce,
    pickle.NEXT_BUFFER: _Machine.buffer,
    pickle.READONLY_BUFFER: _Machine.read_only,
}.items():
    _RARE[_code[0]] = _step
