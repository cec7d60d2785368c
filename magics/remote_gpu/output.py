"""Publishes what a remote cell says in the cell that called it, in a notebook or in a terminal.

In a notebook, messages go straight to the local kernel's iopub socket with the calling cell's parent header: the local
``sys.stdout`` would hold text back, and another thread's parent header is whichever cell runs now. Parts are passed on as the
bytes they came as, and signed anew. Display ids get the session's name before them, so that they meet only their own updates.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from remote_gpu.messages import DELIMITER, Message
from remote_gpu.record import record_bundle
from remote_gpu.running import Running, Sink

__all__ = ["NotebookOutput", "NotebookSink", "Output", "TerminalOutput", "TerminalSink", "output_for"]

_DISPLAYS = frozenset({"display_data", "update_display_data", "execute_result"})


class Output(Protocol):
    """Makes the sinks of one shell."""

    def sink(self, session_id: str, *, parent: Mapping[str, Any] | None = None) -> Sink:
        """Where output of `session_id` goes: the cell that runs now, or the one that `parent` (a whole message) belongs to."""

    @property
    def count(self) -> int:
        """The number of the cell that runs now."""

    @property
    def allows_stdin(self) -> bool:
        """Whether somebody answers prompts."""

    @property
    def is_live(self) -> bool:
        """Whether somebody sees an output of the cell that runs now change."""


class NotebookOutput:
    """Output of an ipykernel."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.kernel = shell.kernel
        self._session = self.kernel.session
        self._topic = b"kernel." + str(self.kernel.ident).encode()

    def parent(self) -> Mapping[str, Any]:
        """The message that the running cell came with, whole."""
        return self.kernel.get_parent("shell") or self.kernel.get_parent() or {}

    def sink(self, session_id: str, *, parent: Mapping[str, Any] | None = None) -> NotebookSink | CapturedSink:
        """See `Output`."""
        if parent is None and not hasattr(sys.stdout, "set_parent"):
            return CapturedSink(self.shell)
        return self.cell(session_id, parent=parent)

    def cell(self, session_id: str, *, parent: Mapping[str, Any] | None = None) -> NotebookSink:
        """The cell itself, whatever captures what is printed in it."""
        return NotebookSink(self, parent or self.parent(), session_id, self.count)

    @property
    def count(self) -> int:
        """The number of the cell that runs now (IPython before 9.17 counts on after a cell, later ones before it)."""
        return int(self.shell.displayhook.prompt_count)

    def send(self, msg_type: str, parent: bytes, metadata: bytes, content: bytes, buffers: Sequence[Any] = ()) -> None:
        """Publish one message; the parts are JSON already."""
        header = self._session.pack(self._session.msg_header(msg_type))
        parts = [header, parent, metadata, content]
        topic = self._topic + b"." + msg_type.encode()
        frames = [topic, DELIMITER, self._session.sign(parts), *parts, *buffers]
        self.kernel.iopub_socket.send_multipart(frames)

    def packed(self, value: Mapping[str, Any]) -> bytes:
        """`value` as JSON in the local kernel's own manner (dates)."""
        return bytes(self._session.pack(value))

    @property
    def allows_stdin(self) -> bool:
        """Whether the frontend that sent the cell answers prompts."""
        return bool(getattr(self.kernel, "_allow_stdin", False))

    @property
    def is_live(self) -> bool:
        """See `Output`: such a frontend has a user, whose cell's output is not captured."""
        return self.allows_stdin and hasattr(sys.stdout, "set_parent")


class NotebookSink:
    """One notebook cell."""

    def __init__(self, output: NotebookOutput, parent: Mapping[str, Any], session_id: str, count: int) -> None:
        self._output = output
        self.parent = parent
        self._header = output.packed(parent.get("header") or {})
        self._session_id = session_id
        self._count = count
        self._record_id = uuid.uuid4().hex
        self._record_shown = False
        self.msg_id = str((parent.get("header") or {}).get("msg_id", ""))
        self.captured_by: set[str] = set()
        """The Output widgets that show this cell's output now, in place of the cell."""

    def publish(self, message: Message) -> None:
        """See `Sink`."""
        if message.msg_type in _DISPLAYS:
            message = self._localised(message)
        elif message.msg_type == "clear_output" and not self.captured_by:
            self._record_shown = False  # the frontend clears the record with the rest
        self._output.send(message.msg_type, self._header, *message.raw, message.buffers)

    def record(self, running: Running, *, final: bool) -> None:
        """See `Sink`."""
        update = final and self._record_shown
        self._record_shown = True
        content = {"data": record_bundle(running), "metadata": {}, "transient": {"display_id": self._record_id}}
        self._output.send("update_display_data" if update else "display_data", self._header, b"{}", json.dumps(content).encode())

    def _localised(self, message: Message) -> Message:
        content = message.content
        changed: dict[str, Any] = {}
        transient = content.get("transient") or {}
        if "display_id" in transient:
            changed["transient"] = {**transient, "display_id": f"{self._session_id}-{transient['display_id']}"}
        if message.msg_type == "execute_result" and content.get("execution_count") != self._count:
            changed["execution_count"] = self._count
        return message.with_content({**content, **changed}) if changed else message


class TerminalOutput:
    """Output of IPython in a terminal."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell

    def sink(self, session_id: str, *, parent: Mapping[str, Any] | None = None) -> TerminalSink:  # noqa: ARG002  no cells to tell apart
        """See `Output`."""
        return TerminalSink(self.shell)

    @property
    def count(self) -> int:
        """The number of the input that runs now."""
        return int(self.shell.displayhook.prompt_count)

    @property
    def allows_stdin(self) -> bool:
        """Whether somebody can answer prompts."""
        return sys.stdin is not None and sys.stdin.isatty()

    @property
    def is_live(self) -> bool:
        """See `Output`: what is written stays."""
        return False


class TerminalSink:
    """The terminal."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._clear = False
        self._noted = False

    def publish(self, message: Message) -> None:
        """See `Sink`."""
        content = message.content
        if message.msg_type == "clear_output":
            self._clear = bool(content.get("wait"))
            if not self._clear:
                self._erase()
            return
        if self._clear:
            self._clear = False
            self._erase()
        if message.msg_type == "stream":
            stream = sys.stderr if content.get("name") == "stderr" else sys.stdout
            stream.write(content["text"])
            stream.flush()
        elif message.msg_type == "error":
            self._write("\n".join(content.get("traceback") or ()) + "\n")
        elif message.msg_type == "execute_result":
            self._result(content)
        elif message.msg_type in _DISPLAYS:
            self._shell.display_pub.publish(content.get("data") or {}, content.get("metadata") or {})

    def record(self, running: Running, *, final: bool) -> None:
        """Say what stayed or changed there; the rest of a record has no place in a terminal."""
        notes = (running.facts.get("names") or {}).get("notes") or ()
        if final and notes and not self._noted:
            self._noted = True
            sys.stderr.write("".join(f"{note}\n" for note in notes if not note.endswith("stays here")))  # that was told with its reason

    def _result(self, content: Mapping[str, Any]) -> None:
        text = (content.get("data") or {}).get("text/plain")
        if text is None:
            return
        self._write(self._shell.separate_out)
        self._shell.displayhook.write_output_prompt()
        self._write(("\n" if "\n" in text else "") + text + "\n" + self._shell.separate_out2)

    @staticmethod
    def _erase() -> None:
        sys.stdout.write("\033[2K\r")
        sys.stdout.flush()

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class CapturedSink(TerminalSink):
    """What captures the local cell's output (``%%capture``, `contextlib.redirect_stdout`), as it is when the cell begins."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._publish = shell.display_pub.publish

    def publish(self, message: Message) -> None:
        """See `Sink`."""
        content = message.content
        if message.msg_type == "stream":
            self._streams["stderr" if content.get("name") == "stderr" else "stdout"].write(content["text"])
        elif message.msg_type in _DISPLAYS:
            self._publish(content.get("data") or {}, content.get("metadata") or {})


def output_for(shell: Any) -> NotebookOutput | TerminalOutput:
    """The output of `shell`."""
    return NotebookOutput(shell) if getattr(shell, "kernel", None) is not None else TerminalOutput(shell)
