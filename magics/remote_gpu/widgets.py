"""Widgets as the frontend knows them: the state of each, and the comm by which a reloaded page asks for all of them at once.

A frontend that (re)connects opens a comm with target ``jupyter.widget.control``, says ``request_states`` and takes the one
answer, ``update_states``, for all widgets that there are. So the local widgets' answer and the remote ones' become one message.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONTROL", "CONTROL_VERSION", "WIDGET", "WIDGET_VERSION", "ControlComm", "States", "WidgetState"]

WIDGET = "jupyter.widget"
CONTROL = "jupyter.widget.control"
WIDGET_VERSION = "2.1.0"
"""The version of the widgets' messages that frontends of ipywidgets 7.7 and later understand."""
CONTROL_VERSION = "1.0.0"
_MODEL = re.compile(r"\"IPY_MODEL_([^\"]+)\"")
_CHANGES = frozenset({"update", "echo_update"})

Path = tuple[Any, ...]
"""Where in a state a binary part belongs: keys and indexes."""


class WidgetState:
    """The latest state of one widget, from what passed by. Changed on the pump's thread and on those of the local kernel."""

    def __init__(self, data: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {}
        self._binary: dict[Any, list[tuple[Path, Any]]] = {}
        self._take(data, buffers)

    @classmethod
    def of(cls, state: Mapping[str, Any], binary: Sequence[tuple[Path, Any]]) -> WidgetState:
        """From one widget's entry in the answer to `request_states`."""
        return cls({"state": state, "buffer_paths": [path for path, _ in binary]}, [buffer for _, buffer in binary])

    def change(self, data: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        """A message about the widget passed by, in either direction; only those that change its state count."""
        if data.get("method") in _CHANGES and isinstance(data.get("state"), Mapping):
            self._take(data, buffers)

    def _take(self, data: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        state = data.get("state") or {}
        binary: dict[Any, list[tuple[Path, Any]]] = {}
        for path, buffer in zip(data.get("buffer_paths") or (), buffers, strict=False):
            binary.setdefault(path[0], []).append((tuple(path), bytes(buffer)))
        with self._lock:
            for key in {*state, *binary}:
                self._state.pop(key, None)
                self._binary.pop(key, None)
            self._state.update(state)
            self._binary.update(binary)

    def now(self) -> tuple[dict[str, Any], list[tuple[Path, Any]]]:
        """The state without its binary parts, and these."""
        with self._lock:
            return dict(self._state), [each for parts in self._binary.values() for each in parts]


@dataclass(slots=True)
class States:
    """The states of many widgets, by id, in the form of an ``update_states`` message."""

    states: dict[str, Any] = field(default_factory=dict)
    binary: list[tuple[Path, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, data: Mapping[str, Any], buffers: Sequence[Any]) -> States:
        """From a kernel's answer."""
        paths = (tuple(path) for path in data.get("buffer_paths") or ())
        return cls(dict(data.get("states") or {}), list(zip(paths, buffers, strict=False)))

    def add(self, comm_id: str, widget: WidgetState) -> None:
        """Add one widget."""
        state, binary = widget.now()
        about = {name: state.get(f"_{name}") for name in ("model_name", "model_module", "model_module_version")}
        self.states[comm_id] = {**about, "state": state}
        self.binary += [((comm_id, "state", *path), buffer) for path, buffer in binary]

    def only(self, ids: Mapping[str, Any] | frozenset[str]) -> States:
        """Those of some ids."""
        return States(
            {comm_id: entry for comm_id, entry in self.states.items() if comm_id in ids},
            [each for each in self.binary if each[0][0] in ids],
        )

    def merged(self, others: States) -> States:
        """These and the others."""
        return States({**self.states, **others.states}, [*self.binary, *others.binary])

    def widget(self, comm_id: str) -> WidgetState:
        """One of them."""
        binary = [(path[2:], buffer) for path, buffer in self.binary if path[0] == comm_id]
        return WidgetState.of(self.states[comm_id].get("state") or {}, binary)

    def data(self) -> dict[str, Any]:
        """The message's data; its buffers are `buffers`."""
        return {"method": "update_states", "states": self.states, "buffer_paths": [list(path) for path, _ in self.binary]}

    @property
    def buffers(self) -> list[Any]:
        """The binary parts, in the order of their paths."""
        return [buffer for _, buffer in self.binary]

    def parts_first(self) -> Iterator[str]:
        """The ids in an order in which each comes after those that its state refers to."""
        done: set[str] = set()

        def visit(comm_id: str) -> Iterator[str]:
            if comm_id in done or comm_id not in self.states:
                return
            done.add(comm_id)
            for part in _MODEL.findall(json.dumps(self.states[comm_id].get("state"))):
                yield from visit(part)
            yield comm_id

        for comm_id in self.states:
            yield from visit(comm_id)


class ControlComm:
    """What the frontend asks for all widgets, in place of the local ipywidgets' own comm, which may not exist.

    `inner` is a comm of the local kernel, which publishes. ipywidgets is handed this object and answers through `send`; what
    `remote` says is added to its answer.
    """

    def __init__(self, inner: Any, remote: Callable[[], States]) -> None:
        self.comm_id = inner.comm_id
        self.target_name = inner.target_name
        self.primary = False
        self._inner = inner
        self._remote = remote
        self._asked: Callable[[Any], None] | None = None
        self._closed = False

    def on_msg(self, callback: Callable[[Any], None] | None) -> None:
        """The local ipywidgets wants to hear the questions."""
        self._asked = callback

    def on_close(self, callback: Callable[[Any], None] | None) -> None:
        """Nothing here has to end."""

    def handle_msg(self, message: Mapping[str, Any]) -> None:
        """The frontend asks. Whatever the local ipywidgets raises is raised: without an answer, the frontend asks each widget."""
        if self._asked is not None:
            self._asked(message)
        elif message["content"]["data"].get("method") == "request_states":
            self.send(States().data())

    def handle_close(self, message: Mapping[str, Any]) -> None:  # noqa: ARG002  the comm manager's signature
        """The frontend has its answer."""
        self._closed = self._inner._closed = True  # noqa: SLF001  or it says good-bye when it is collected

    def send(self, data: Mapping[str, Any], metadata: Any = None, buffers: Sequence[Any] | None = None) -> None:
        """Answer the frontend."""
        if data.get("method") == "update_states":
            states = States.read(data, buffers or ()).merged(self._remote())
            data, buffers = states.data(), states.buffers
        self._inner.send(data=data, metadata=metadata, buffers=list(buffers or ()))

    def close(self, *_: Any, **__: Any) -> None:
        """Close the comm."""
        self._closed = True
        self._inner.close()
