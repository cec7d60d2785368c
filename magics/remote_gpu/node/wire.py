"""Jupyter messages as the supervisor sees them: signatures, who may send what, and the messages that it makes itself.

The supervisor parses headers only, never contents, except those of `status` messages and of its own.
"""

from __future__ import annotations

import hmac
import json
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from remote_gpu.frames import Lane

__all__ = [
    "Request",
    "DELIMITER",
    "EMPTY",
    "OUR_MARK",
    "allowed",
    "error_reply",
    "header_of",
    "is_interrupt",
    "make_parts",
    "problem",
    "reply_type",
    "sign",
    "split",
    "status_parts",
]

DELIMITER = b"<IDS|MSG>"
EMPTY = b"{}"
_SIGNED = 4
_SESSION = uuid.uuid4().hex
OUR_MARK = _SESSION.encode()
"""Bytes that are in the header of each message that `make_parts` made in this process, and in no other."""

_VIEWER_SHELL = frozenset(
    {
        "kernel_info_request",
        "history_request",
        "comm_info_request",
        "is_complete_request",
        "complete_request",
        "inspect_request",
    }
)


class Request(NamedTuple):
    """A request that the kernel has not answered: enough to answer it in its place."""

    lane: Lane
    identities: list[bytes]
    header: bytes
    kind: str
    metadata: bytes
    since: float


def sign(key: bytes, parts: Sequence[bytes | memoryview]) -> bytes:
    """The signature of a message: HMAC-SHA256 of header, parent header, metadata and content, in hexadecimal."""
    digest = hmac.new(key, digestmod="sha256")
    for part in parts[:_SIGNED]:
        digest.update(part)
    return digest.hexdigest().encode()


def split(frames: list[bytes], key: bytes) -> tuple[list[bytes], list[bytes]] | None:
    """Identities and parts of a message from a ZMQ socket; None when it is malformed or its signature is wrong."""
    try:
        at = frames.index(DELIMITER)
    except ValueError:
        return None
    parts = frames[at + 2 :]
    if len(parts) < _SIGNED or not hmac.compare_digest(frames[at + 1], sign(key, parts)):
        return None
    return frames[:at], parts


def header_of(part: bytes | memoryview) -> dict[str, Any]:
    """A header or parent header; {} when it is none."""
    try:
        value = json.loads(bytes(part))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_interrupt(parts: Sequence[bytes | memoryview]) -> bool:
    """Whether a message says that its cell ended in a `KeyboardInterrupt`: its error, or the reply."""
    kind = header_of(parts[0]).get("msg_type", "")
    return kind in ("error", "execute_reply") and header_of(parts[3]).get("ename") == "KeyboardInterrupt"


def allowed(role: str, lane: Lane, kind: str) -> bool:
    """Whether an attachment of `role` may send a message of type `kind` on `lane`."""
    if role == "owner":
        return True
    if role == "editor":
        return kind != "shutdown_request"
    if lane is Lane.SHELL:
        return kind in _VIEWER_SHELL
    return lane is Lane.CONTROL and kind == "kernel_info_request"


def reply_type(kind: str) -> str:
    """The type of the reply to a request; "" for messages that have none (comms)."""
    return kind[: -len("request")] + "reply" if kind.endswith("_request") else ""


def make_parts(kind: str, content: dict[str, Any], parent: bytes | memoryview = EMPTY) -> list[bytes | memoryview]:
    """The parts of a message of our own; `parent` is the header that it answers."""
    now = time.time()
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    header = {
        "msg_id": f"{_SESSION}_{os.getpid()}_{uuid.uuid4().hex}",
        "msg_type": kind,
        "username": "remote_gpu",
        "session": _SESSION,
        "date": date,
        "version": "5.3",
    }
    return [json.dumps(header).encode(), parent, EMPTY, json.dumps(content).encode()]


def error_reply(kind: str, header: bytes | memoryview, ename: str, evalue: str) -> list[bytes | memoryview]:
    """The error reply to the request of type `kind` that has `header`."""
    content: dict[str, Any] = {"status": "error", "ename": ename, "evalue": evalue, "traceback": [f"{ename}: {evalue}"]}
    if kind == "execute_request":
        content |= {"execution_count": 0, "user_expressions": {}, "payload": []}
    return make_parts(reply_type(kind), content, header)


def status_parts(state: str, parent: bytes | memoryview = EMPTY, extra: dict[str, Any] | None = None) -> list[bytes | memoryview]:
    """An iopub `status` message; `extra` is what we add to its content under `remote_gpu`."""
    content: dict[str, Any] = {"execution_state": state}
    if extra is not None:
        content["remote_gpu"] = extra
    return make_parts("status", content, parent)


def problem(reason: str, title: str, *, hint: str = "", status: int = 502, **details: Any) -> dict[str, Any]:
    """A problem for a BYE, a RESULT or an answer, in the shape of `errors.RemoteGpuError.problem`."""
    return {
        "type": f"about:blank#{reason}",
        "title": title,
        "status": status,
        "reason": reason,
        "hint": hint,
        "details": details,
    }
