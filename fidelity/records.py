"""What a cell said, as comparable records: a reader's view of the messages, without the names that are new in each run. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fidelity.kernels import RECORD_MIME, Ran
from fidelity.rules import mapped

__all__ = ["lines", "records"]

_REPLY = ("status", "execution_count", "payload", "ename", "evalue")
_LONG = 2000
_RANDOM = 16  # characters: ids that are this long are replaced within longer texts, too


def records(ran: Sequence[Ran]) -> list[list[dict[str, Any]]]:
    """For each cell, its outputs in order and its reply. Run records are taken out, neighbouring texts of one stream are one.

    Ids of displays and comms are made at random in each run, so each is replaced by the order of its first appearance in the
    document, wherever it is said: which update belongs to which display, and which widget holds which, is compared.
    What a cell tells its widgets is a sequence of its own behind the outputs: it has no place among them, and ipykernel holds
    printed text back for up to 0.2 s while messages to widgets go at once.
    """
    cells = [[*_outputs(cell), {"type": "reply", **{name: cell.reply[name] for name in _REPLY if name in cell.reply}}] for cell in ran]
    ids = {name: f"id-{number}" for number, name in enumerate(_ids(cells))}
    within = {name: ids[name] for name in sorted(ids, key=len, reverse=True) if len(name) >= _RANDOM}

    def named(text: str) -> str:
        if text in ids:
            return ids[text]
        for name, instead in within.items():
            text = text.replace(name, instead)
        return text

    found: list[list[dict[str, Any]]] = mapped(cells, named)
    return found


def _outputs(cell: Ran) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    widgets: list[dict[str, Any]] = []
    for kind, content in cell.said:
        if RECORD_MIME in (content.get("data") or {}):
            continue
        if kind.startswith("comm_"):
            widgets.append({"type": kind, **content})
            continue
        last = outputs[-1] if outputs else {}
        if kind == "stream" == last.get("type") and last["name"] == content["name"]:
            last["text"] += content["text"]
            continue
        outputs.append({"type": kind, **content})
    return [*outputs, *widgets]


def _ids(cells: Iterable[Sequence[dict[str, Any]]]) -> list[str]:
    """Ids of displays and comms, in the order of their first appearance."""
    found: dict[str, None] = {}
    for cell in cells:
        for output in cell:
            for name in ((output.get("transient") or {}).get("display_id"), output.get("comm_id")):
                if name:
                    found.setdefault(str(name))
    return list(found)


def lines(record: Sequence[dict[str, Any]]) -> list[str]:
    """A cell's record as lines for a person: texts as they are, pictures and other long data by digest."""
    said: list[str] = []
    for output in record:
        rest = {name: value for name, value in output.items() if name not in ("type", "name", "text", "data", "traceback")}
        about = {name: value for name, value in rest.items() if value not in ({}, [], None)}
        title = " ".join(filter(None, (output["type"], output.get("name"))))
        said.append(f"[{title}] {json.dumps(about, sort_keys=True, ensure_ascii=False) if about else ''}".rstrip())
        said += _text(output.get("text"))
        said += _text("\n".join(output.get("traceback") or ()))
        if output["type"].startswith("comm_"):
            said[-1] += f" {json.dumps(output.get('data'), sort_keys=True, ensure_ascii=False)}"
            continue
        for mime, value in sorted((output.get("data") or {}).items()):
            said.append(f"  {mime}:")
            said += _text(value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False), mime)
    return said


def _text(value: Any, mime: str = "") -> list[str]:
    if not value:
        return []
    text = re.sub(r"\x1b\[[0-9;]*m", lambda code: code[0].replace("\x1b", "ESC"), str(value))
    if mime.startswith("image/") and len(text) > _LONG:
        return [f"    {len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"]
    return [f"    {line}" for line in text.split("\n")]
