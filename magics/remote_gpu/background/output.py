"""What a background cell has said: shown in its cell as it comes, and kept for whoever asks the job."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from remote_gpu.messages import Message
from remote_gpu.running import Running, Sink

__all__ = ["MOST", "JobOutput"]

MOST = 4 * 1024**2
"""Characters of text that a job keeps at most; of more, the oldest are dropped. The cell itself shows everything."""

_KINDS = frozenset({"display_data", "execute_result", "error"})
_FIELDS = {
    "display_data": ("data", "metadata"),
    "execute_result": ("data", "metadata", "execution_count"),
    "error": ("ename", "evalue", "traceback"),
}


class JobOutput:
    """A sink that passes everything on to the cell's own (`cell`), and folds it as a notebook does.

    Messages come on the pump's thread; `outputs` and `text` may be asked for on any. A terminal's sink would number a result
    as the input that is being typed meanwhile, so where `numbered` is false a result is a display.
    """

    def __init__(self, cell: Sink, *, numbered: bool = True, most: int = MOST) -> None:
        self._cell = cell
        self._numbered = numbered
        self._most = most
        self._lock = threading.Lock()
        self._outputs: list[dict[str, Any]] = []
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._clear = False
        self._size = 0
        self.dropped = 0
        """Characters of the oldest text that are not kept any more."""

    def __getattr__(self, name: str) -> Any:
        """What else the cell's sink has, such as its parent message."""
        return getattr(self._cell, name)

    def publish(self, message: Message) -> None:
        """See `Sink`."""
        with self._lock:
            self._fold(message)
        if message.msg_type == "execute_result" and not self._numbered:
            message = message._replace(msg_type="display_data")
        self._cell.publish(message)

    def record(self, running: Running, *, final: bool) -> None:
        """See `Sink`."""
        self._cell.record(running, final=final)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """All outputs, in the notebook format."""
        with self._lock:
            return [dict(each) if each["output_type"] != "stream" else {**each, "text": "".join(each["text"])} for each in self._outputs]

    @property
    def text(self) -> str:
        """The text of both streams, and of results, in the order in which they came."""
        parts = []
        for each in self.outputs:
            if each["output_type"] == "stream":
                parts.append(each["text"])
            elif plain := each.get("data", {}).get("text/plain"):
                parts.append(f"{plain}\n")
        return "".join(parts)

    def _fold(self, message: Message) -> None:
        kind, content = message.msg_type, message.content
        if kind == "clear_output":
            self._clear = True
            if not content.get("wait"):
                self._cleared()
        elif kind == "update_display_data":
            for each in self._displays.get(_display(content), ()):
                each.update(data=content.get("data") or {}, metadata=content.get("metadata") or {})
        elif kind == "stream":
            self._cleared()
            self._stream(str(content.get("name", "stdout")), str(content.get("text", "")))
        elif kind in _KINDS:
            self._cleared()
            output = {"output_type": kind, **{name: content.get(name) for name in _FIELDS[kind]}}
            self._outputs.append(output)
            if shown := _display(content):
                self._displays.setdefault(shown, []).append(output)

    def _stream(self, name: str, text: str) -> None:
        last = self._outputs[-1] if self._outputs else {}
        if last.get("output_type") == "stream" and last.get("name") == name:
            last["text"].append(text)
        else:
            self._outputs.append({"output_type": "stream", "name": name, "text": [text]})
        self._size += len(text)
        while self._size > self._most:
            self._drop()

    def _drop(self) -> None:
        """Forget the oldest piece of text."""
        oldest = next(each for each in self._outputs if each["output_type"] == "stream")
        piece = oldest["text"].pop(0)
        if not oldest["text"]:
            self._outputs.remove(oldest)
        self._size -= len(piece)
        self.dropped += len(piece)

    def _cleared(self) -> None:
        if self._clear:
            self._clear = False
            self._outputs.clear()
            self._displays.clear()
            self._size = 0


def _display(content: Mapping[str, Any]) -> str:
    return str((content.get("transient") or {}).get("display_id") or "")
