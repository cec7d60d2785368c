"""Jupyter messages as bytes: signed on the way out, checked on the way in.

`jupyter_client.session.Session` does the same and more (duplicate detection, adapters, traitlets); this does only what one
raw connection needs, in a tenth of the time, and keeps the parts as they came, so that they can be published again unchanged.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hmac
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["DELIMITER", "Message", "Signer", "UnsignedMessage"]

DELIMITER = b"<IDS|MSG>"
_PROTOCOL = "5.4"
_PARTS = 4
_EMPTY = b"{}"


class UnsignedMessage(ValueError):
    """A message that is cut short, or whose signature does not fit its connection's key."""


class Message(NamedTuple):
    """One message as it arrived. `raw` are the metadata and content as bytes; `seq` is the journal's number, if known."""

    channel: str
    msg_type: str
    msg_id: str
    parent_id: str
    content: dict[str, Any]
    raw: tuple[bytes, bytes] = (_EMPTY, _EMPTY)
    buffers: tuple[Any, ...] = ()
    seq: int | None = None
    parent: Mapping[str, Any] = {}
    header: Mapping[str, Any] = {}

    def with_content(self, content: dict[str, Any]) -> Message:
        """The same message with another content."""
        return self._replace(content=content, raw=(self.raw[0], json.dumps(content).encode()))


def _seq_of(topic: bytes) -> int | None:
    head, _, tail = topic.rpartition(b".")
    return int(tail) if head == b"iopub" and tail.isdigit() else None


class Signer:
    """Packs and unpacks messages under one connection's key."""

    def __init__(self, key: bytes, scheme: str = "hmac-sha256", *, session: str = "", username: str = "") -> None:
        self._auth = hmac.new(key, digestmod=scheme.partition("-")[2] or "sha256") if key else None
        self.session = session or uuid.uuid4().hex
        self.username = username or _username()
        self._count = 0

    def sign(self, parts: Sequence[Any]) -> bytes:
        """The signature of header, parent, metadata and content, as hex."""
        if self._auth is None:
            return b""
        digest = self._auth.copy()
        for part in parts:
            digest.update(part)
        return digest.hexdigest().encode()

    def next_id(self) -> str:
        """A new message id."""
        self._count += 1
        return f"{self.session}_{os.getpid()}_{self._count}"

    def header(self, msg_type: str, msg_id: str, subshell: str | None = None) -> bytes:
        """A message's header."""
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "username": self.username,
            "session": self.session,
            "date": dt.datetime.now(dt.UTC).isoformat(),
            "version": _PROTOCOL,
        }
        if subshell is not None:
            header["subshell_id"] = subshell
        return json.dumps(header).encode()

    def pack(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        msg_id: str = "",
        parent: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[Any] = (),
        subshell: str | None = None,
    ) -> list[Any]:
        """The frames of a new message, from the delimiter on."""
        parts = [
            self.header(msg_type, msg_id or self.next_id(), subshell),
            json.dumps(parent).encode() if parent else _EMPTY,
            json.dumps(metadata).encode() if metadata else _EMPTY,
            json.dumps(content).encode(),
        ]
        return [DELIMITER, self.sign(parts), *parts, *buffers]

    def unpack(self, channel: str, frames: Sequence[bytes]) -> Message:
        """The message in `frames`; raises `UnsignedMessage` when it is not one of this connection's."""
        try:
            start = frames.index(DELIMITER) + 1
            parts = frames[start + 1 : start + 1 + _PARTS]
            signature = frames[start]
        except (ValueError, IndexError) as error:
            raise UnsignedMessage("frames without a delimiter") from error
        if len(parts) != _PARTS or not hmac.compare_digest(signature, self.sign(parts)):
            raise UnsignedMessage("a signature that does not fit")
        header, parent = json.loads(parts[0]), json.loads(parts[1])
        seq = _seq_of(frames[0]) if channel == "iopub" and start > 1 else None
        return Message(
            channel,
            str(header["msg_type"]),
            str(header["msg_id"]),
            str(parent.get("msg_id", "")),
            json.loads(parts[3]),
            (parts[2], parts[3]),
            tuple(frames[start + 1 + _PARTS :]),
            seq,
            parent,
            header,
        )


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "user"
