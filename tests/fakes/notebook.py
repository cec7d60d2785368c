"""A notebook in front of a real local ipykernel: runs cells as a frontend does, and says what the user would see."""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

RECORD = "application/vnd.jupyter-remote-gpu.run+json"
_OUTPUTS = ("stream", "display_data", "execute_result", "error")


@dataclass
class Cell:
    """What one cell showed: `outputs` folded as a notebook folds them, without the run record, which is `record`."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] | None = None
    prompts: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(each["text"] for each in self.outputs if each["type"] == "stream")

    def stream(self, name: str) -> str:
        return "".join(each["text"] for each in self.outputs if each["type"] == "stream" and each["name"] == name)

    @property
    def result(self) -> str:
        return next((each["data"]["text/plain"] for each in self.outputs if each["type"] == "execute_result"), "")

    @property
    def error(self) -> str:
        return str(next((each["ename"] for each in self.outputs if each["type"] == "error"), ""))

    @property
    def traceback(self) -> str:
        return next(("\n".join(each["traceback"]) for each in self.outputs if each["type"] == "error"), "")

    def bundles(self) -> list[dict[str, Any]]:
        return [each["data"] for each in self.outputs if each["type"] in ("display_data", "execute_result")]


class Notebook:
    """Starts the kernel; use it as a context manager."""

    def __init__(self, *first: str, environment: dict[str, str] | None = None) -> None:
        self.manager = KernelManager(transport="ipc" if os.environ.get("NOTEBOOK_IPC") else "tcp")
        self._first = first
        self._environment = {**os.environ, **(environment or {})}
        self.displays: dict[str, list[dict[str, Any]]] = {}
        self.comms: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.manager.start_kernel(env=self._environment, stderr=sys.__stderr__)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        for code in self._first:
            cell = self.run(code)
            assert not cell.error, cell.traceback
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=False)

    def kill(self) -> None:
        """End the kernel as the kernel's machine would: without a word to anybody (a manager interrupts what runs first)."""
        process = self.manager.provisioner.process
        process.kill()
        process.wait()
        self.manager.shutdown_kernel(now=True)

    def send(self, code: str, *, allow_stdin: bool = False) -> str:
        return self.client.execute(code, allow_stdin=allow_stdin, stop_on_error=True)

    def run(
        self,
        code: str,
        *,
        answers: Sequence[str] = (),
        when: Callable[[Cell], Sequence[Callable[[], Any]]] | None = None,
        timeout: float = 100,
        msg_id: str = "",
    ) -> Cell:
        """Run a cell to its end. `answers` are given to prompts; `when(cell)`, called at each message, returns things to do."""
        msg_id = msg_id or self.send(code, allow_stdin=bool(answers))
        cell, given, idle = Cell(), list(answers), False
        deadline = time.monotonic() + timeout
        while not (idle and cell.reply):
            assert time.monotonic() < deadline, f"{code!r} did not end; it said {cell.text[-2000:]!r}"
            try:
                message = self.client.get_iopub_msg(timeout=0.02)
            except queue.Empty:
                message = None
            if message is not None and message["parent_header"].get("msg_id") == msg_id:
                idle = idle or (message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")
                self._show(cell, message)
            elif message is not None:
                self._show(Cell(), message)
            if not cell.reply and self.client.shell_channel.msg_ready():
                reply = self.client.get_shell_msg(timeout=1)
                if reply["parent_header"].get("msg_id") == msg_id:
                    cell.reply = reply["content"]
            if self.client.stdin_channel.msg_ready():
                asked = self.client.get_stdin_msg(timeout=1)["content"]
                cell.prompts.append((asked["prompt"], asked["password"]))
                if given and given[0] != "\0never":
                    self.client.input(given.pop(0))
            for action in when(cell) if when is not None else ():
                action()
        return cell

    def messages_until(self, condition: Callable[[dict[str, Any]], bool], timeout: float = 30) -> dict[str, Any]:
        """The first iopub message, of any cell, that fits."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            if condition(message):
                return message
        raise AssertionError("no such message came")

    def ask(self, kind: str, code: str, cursor: int | None = None) -> dict[str, Any]:
        """Completion (``complete``) or inspection (``inspect``). The first one takes long: jedi reads all that the notebook has imported."""
        msg_id = getattr(self.client, kind)(code, len(code) if cursor is None else cursor)
        while True:
            reply = self.client.get_shell_msg(timeout=120)
            if reply["parent_header"].get("msg_id") == msg_id:
                return dict(reply["content"])

    def _show(self, cell: Cell, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        cell.messages.append(message)
        data = content.get("data") or {}
        display = (content.get("transient") or {}).get("display_id")
        if kind == "clear_output":
            cell.outputs.clear()
        elif kind == "update_display_data":
            for output in self.displays.get(display, ()):
                output["data"] = data
            if RECORD in data:
                cell.record = data[RECORD]
        elif kind.startswith("comm_"):
            self.comms.append(message)
        elif kind == "stream" and cell.outputs and cell.outputs[-1].get("name") == content["name"]:
            cell.outputs[-1]["text"] += content["text"]
        elif RECORD in data:
            cell.record = data[RECORD]
        elif kind in _OUTPUTS:
            cell.outputs.append({"type": kind, **content})
            if display:
                self.displays.setdefault(display, []).append(cell.outputs[-1])
