"""Plays a widget frontend on a notebook kernel: opens, says and closes comms, asks for all states, and notes what comes of it."""

from __future__ import annotations

import hashlib
import json
import queue
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from tests.fakes.notebook import RECORD, Cell, Notebook

VIEW = "application/vnd.jupyter.widget-view+json"
_SKIPPED = ("status", "execute_input")


class Frontend:
    """`heard` holds every iopub message, in order."""

    def __init__(self, notebook: Notebook, prefix: str = "") -> None:
        self.notebook = notebook
        self.prefix = prefix
        self.heard: list[dict[str, Any]] = []

    def run(self, code: str, **more: Any) -> Cell:
        """Run a cell, remote where the frontend's notebook is."""
        cell = self.notebook.run(self.prefix + code, **more)
        self.heard += cell.messages
        assert cell.reply["status"] == "ok" or cell.error, cell.reply
        return cell

    def send(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes] = (), metadata: dict[str, Any] | None = None) -> str:
        """Send a comm message; returns its id."""
        client = self.notebook.client
        message = client.session.msg(kind, content, metadata=metadata)
        message["buffers"] = list(buffers)
        client.session.send(client.shell_channel.socket, message)
        return str(message["header"]["msg_id"])

    def until(self, condition: Callable[[dict[str, Any]], Any], timeout: float = 60) -> dict[str, Any]:
        """Listen until a message fits; returns it."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                message = self.notebook.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            self.heard.append(message)
            if condition(message):
                return message
        raise AssertionError(f"no such message came; the last ones were {[brief(each) for each in self.heard[-8:]]}")

    def done(self, msg_id: str, timeout: float = 60) -> list[dict[str, Any]]:
        """Listen until the kernel is idle after a message; returns all that it caused."""
        start = len(self.heard)
        self.until(lambda each: is_idle(each) and parent(each) == msg_id, timeout)
        return [each for each in self.heard[start:] if parent(each) == msg_id]

    def say(self, comm_id: str, data: dict[str, Any], buffers: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Say something to a comm, and return all that came of it."""
        return self.done(self.send("comm_msg", {"comm_id": comm_id, "data": data}, buffers))

    def set(self, comm_id: str, buffers: Sequence[bytes] = (), paths: Sequence[Any] = (), **state: Any) -> list[dict[str, Any]]:
        """Change a widget as its view does."""
        return self.say(comm_id, {"method": "update", "state": state, "buffer_paths": list(paths)}, buffers)

    def click(self, comm_id: str) -> list[dict[str, Any]]:
        """Click a button."""
        return self.say(comm_id, {"method": "custom", "content": {"event": "click"}})

    def reload(self) -> tuple[dict[str, Any], dict[tuple[Any, ...], bytes]]:
        """Ask for all widgets, as a page does that was just loaded; their states, and the binary parts by path."""
        comm_id = uuid.uuid4().hex
        self.send("comm_open", {"comm_id": comm_id, "target_name": "jupyter.widget.control", "data": {}}, metadata={"version": "1.0.0"})
        said = self.say(comm_id, {"method": "request_states"})
        answers = [each for each in said if each["msg_type"] == "comm_msg" and each["content"]["comm_id"] == comm_id]
        self.done(self.send("comm_close", {"comm_id": comm_id, "data": {}}))
        (answer,) = answers
        data = answer["content"]["data"]
        assert data["method"] == "update_states"
        paths = [tuple(path) for path in data["buffer_paths"]]
        return data["states"], {path: bytes(buffer) for path, buffer in zip(paths, answer["buffers"], strict=True)}

    def comm_info(self) -> dict[str, Any]:
        """The comms that the kernel lists."""
        msg_id = self.notebook.client.comm_info()
        while True:
            reply = self.notebook.client.get_shell_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == msg_id:
                return dict(reply["content"]["comms"])

    def model(self, name: str) -> str:
        """The id of the newest widget of a kind, `IntSliderModel` say, that is still open."""
        closed = {each["content"]["comm_id"] for each in self.heard if each["msg_type"] == "comm_close"}
        return next(
            each["content"]["comm_id"]
            for each in reversed(self.heard)
            if each["msg_type"] == "comm_open"
            and each["content"]["data"].get("state", {}).get("_model_name") == name
            and each["content"]["comm_id"] not in closed
        )


def is_idle(message: dict[str, Any]) -> bool:
    return bool(message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")


def parent(message: dict[str, Any]) -> str:
    return str(message["parent_header"].get("msg_id"))


def text(messages: Sequence[dict[str, Any]]) -> str:
    return "".join(each["content"]["text"] for each in messages if each["msg_type"] == "stream")


def brief(message: dict[str, Any]) -> tuple[str, str]:
    return message["msg_type"], json.dumps(message["content"], default=str)[:200]


def traffic(messages: Sequence[dict[str, Any]]) -> list[Any]:
    """What came, in a form in which two kernels say the same: ids are numbered as they appear, buffers are digests."""
    names: dict[str, str] = {}
    known = [("widget", each["content"]["comm_id"]) for each in messages if each["msg_type"] == "comm_open"]
    known += [("request", parent(each)) for each in messages if each["parent_header"]]
    known += [("display", (each["content"].get("transient") or {}).get("display_id")) for each in messages]
    for kind, name in known:
        if name and name not in names:
            names[name] = f"{kind}-{len(names)}"
    lines: list[Any] = []
    for each in messages:
        content = each["content"]
        if each["msg_type"] in _SKIPPED or RECORD in (content.get("data") or {}):
            continue
        if set((content.get("data") or {}).get("state") or ()) == {"_cursor"}:  # matplotlib's, while a drawing takes long
            continue
        if each["msg_type"] == "stream" and lines and lines[-1][0] == "stream" and lines[-1][1] == content["name"]:
            lines[-1] = ("stream", content["name"], lines[-1][2] + content["text"])
            continue
        if each["msg_type"] == "stream":
            lines.append(("stream", content["name"], content["text"]))
            continue
        said = json.dumps({key: value for key, value in content.items() if key != "execution_count"}, sort_keys=True, default=str)
        for name in sorted(names, key=len, reverse=True):
            said = said.replace(name, names[name])
        said = re.sub(r"0x[0-9a-f]{6,}|\b[0-9a-f]{32}\b", "ID", said)
        said = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", said)
        said = re.sub(r"In\s?\[\d+\]", "In[N]", said)
        lines.append((each["msg_type"], said, [hashlib.sha256(buffer).hexdigest() for buffer in each.get("buffers") or ()]))
    return lines
