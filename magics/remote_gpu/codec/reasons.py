"""Why a value cannot cross, in words for the person who wrote the cell."""

from __future__ import annotations

import asyncio
import io
import itertools
import queue
import socket
import sqlite3
import subprocess
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, ClassVar

from remote_gpu.codec.deep import DEEPEST, is_recursion
from remote_gpu.errors import RemoteGpuError

__all__ = ["CannotCross", "describe", "explain", "path_to"]

_STEPS = 20_000
_LENGTH = 300
_KEY_LENGTH = 40
_NOUNS = ("a ", "an ", "data ", "compiled code", "the notebook's")


class CannotCross(RemoteGpuError):
    """A value cannot go to the node. `message` says why; `culprit` is the object inside it that is to blame, where known."""

    reason: ClassVar[str] = "cannot_cross"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, culprit: object = None) -> None:
        super().__init__(message)
        self.culprit = culprit


def _file(value: Any) -> str:
    name = getattr(value, "name", "")
    return f"an open file ({name})" if isinstance(name, str) and name else "an open file"


def _of(text: str) -> Callable[[Any], str]:
    return lambda _: text


_LOCK = _of("a lock")
_KNOWN: tuple[tuple[tuple[type, ...], Callable[[Any], str]], ...] = (
    ((io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper), _file),
    ((socket.socket,), _of("a network connection (socket)")),
    (
        (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Semaphore, threading.Event, threading.Barrier),
        _LOCK,
    ),
    ((asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore), _LOCK),
    ((types.GeneratorType,), lambda value: f"a generator ({value.__name__}), whose state cannot be moved"),
    ((types.AsyncGeneratorType,), lambda value: f"an asynchronous generator ({value.__name__}), whose state cannot be moved"),
    ((types.CoroutineType,), lambda value: f"a coroutine ({value.__name__}), which belongs to its event loop"),
    ((asyncio.Future, asyncio.AbstractEventLoop), _of("a part of this notebook's event loop")),
    ((threading.Thread,), lambda value: f"a thread ({value.name})"),
    ((threading.local,), _of("data that belongs to one thread (threading.local)")),
    ((Executor,), lambda value: f"a pool of workers ({type(value).__name__})"),
    ((Future,), _of("a result that a worker of this machine has yet to give (Future)")),
    ((queue.SimpleQueue,), _of("a queue between threads")),
    ((subprocess.Popen,), lambda value: f"a process of this machine (pid {value.pid})"),
    ((sqlite3.Connection, sqlite3.Cursor), _of("a database connection")),
    ((types.FrameType, types.TracebackType), _of("a frame of running code")),
    ((weakref.ReferenceType,), _of("a weak reference to an object that is gone")),
)


def _module_of(kind: type) -> str:
    return str(getattr(kind, "__module__", "") or "")


def _by_module(value: object) -> str | None:
    return next((text for kind in type(value).__mro__ if (text := _by_name(value, _module_of(kind), kind.__name__))), None)


def _by_name(value: object, module: str, name: str) -> str | None:
    """What a value is, by where one of its classes comes from: no library is imported to be asked."""
    top = module.partition(".")[0]
    if (top, name) == ("ipywidgets", "Widget"):
        return f"a live widget ({type(value).__name__})"
    if top in _DATABASES and name in ("Connection", "connection", "Engine", "Session", "DuckDBPyConnection"):
        return "a database connection"
    return _BY_NAME.get((top, name))


_DATABASES = frozenset({"MySQLdb", "duckdb", "_duckdb", "psycopg", "psycopg2", "pymysql", "sqlalchemy"})
_BY_NAME = {
    ("IPython", "InteractiveShell"): "the notebook's own shell",
    ("ipykernel", "OutStream"): "the notebook's output stream",
    ("zmq", "Socket"): "a network connection (ZeroMQ)",
    ("zmq", "Context"): "a network connection (ZeroMQ)",
    ("multiprocessing", "BaseProcess"): "a process of this machine",
    ("multiprocessing", "Pool"): "a pool of workers (multiprocessing)",
    **dict.fromkeys(
        [("multiprocessing", name) for name in ("Connection", "Queue", "SimpleQueue", "SemLock", "BaseManager", "SharedMemory")],
        "a connection between processes of this machine",
    ),
}


def describe(value: object) -> str | None:
    """What `value` is, when it is of a kind that never crosses; None for all else. Not for classes."""
    if isinstance(value, type):
        return None
    for kinds, text in _KNOWN:
        if isinstance(value, kinds):
            return text(value)
    return _by_module(value)


def explain(value: object, error: BaseException, last: object = None, name: str = "") -> str:
    """One phrase that says why `value` did not pickle. `last` is the object that the pickler was at, `name` the variable's."""
    culprit = getattr(error, "culprit", None)
    if isinstance(error, CannotCross):
        text = error.message
    else:
        culprit = last
        text = _unknown(error, last)
    if culprit is None or culprit is value:
        return text
    path, is_noun = path_to(value, culprit), text.startswith(_NOUNS)
    if path is None:
        return f"it holds {text}" if is_noun else text
    return f"{name or 'it'}{path} is {text}" if is_noun else f"{name or 'it'}{path}: {text}"


def _unknown(error: BaseException, last: object) -> str:
    if isinstance(error, MemoryError):
        return "it is too large to be encoded in this machine's memory"
    if is_recursion(error):
        return f"it is nested too deeply (more than {DEEPEST:,} levels of calls)" if DEEPEST else "it is nested too deeply for this Python"
    said = str(error).strip()[:_LENGTH]
    kind = type(last)
    known = describe(last) if last is not None else None
    if known:
        return known
    if isinstance(error, TypeError) and said.startswith(("cannot pickle", "can't pickle", "Can't pickle")):
        return f"an object that cannot be pickled ({said})"
    if last is None:
        return f"pickling it raised {type(error).__name__}: {said}"
    return f"pickling a value of type {kind.__module__}.{kind.__qualname__} raised {type(error).__name__}: {said}"


def path_to(value: object, wanted: object) -> str | None:
    """Where `wanted` is inside `value`, as one would write it: "['log']", ".model.lock"; None when it is not seen."""
    todo: list[tuple[object, str]] = [(value, "")]
    seen: set[int] = set()
    for at, path in todo:  # breadth first: the list grows as it is read
        if len(todo) > _STEPS:
            return None
        for child, step in _children(at):
            if child is wanted:
                return path + step
            if id(child) not in seen and not isinstance(child, (str, bytes, int, float, complex, types.ModuleType)):
                seen.add(id(child))
                todo.append((child, path + step))
    return None


def _children(value: object) -> Iterator[tuple[object, str]]:
    if isinstance(value, dict):
        yield from ((child, f"[{_short(key)}]") for key, child in itertools.islice(list(value.items()), _STEPS))
    elif isinstance(value, (list, tuple)):
        yield from ((child, f"[{index}]") for index, child in enumerate(value[:_STEPS]))
    elif isinstance(value, (set, frozenset)):
        yield from ((child, " (a member)") for child in itertools.islice(value, _STEPS))
    elif isinstance(value, types.FunctionType):
        yield from _inside_function(value)
    elif isinstance(value, types.MethodType):
        yield value.__self__, ".__self__"
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, (dict, types.MappingProxyType)):
        yield from ((child, f".{key}") for key, child in list(attributes.items()))


def _inside_function(value: types.FunctionType) -> Iterator[tuple[object, str]]:
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
        try:
            yield cell.cell_contents, f" (its variable {name})"
        except ValueError:
            continue
    yield from ((default, " (a default of its parameters)") for default in value.__defaults__ or ())


def _short(key: object) -> str:
    text = repr(key) if isinstance(key, (str, int, float, bytes, tuple)) else f"<{type(key).__name__}>"
    return text if len(text) <= _KEY_LENGTH else f"{text[: _KEY_LENGTH - 3]}…"
