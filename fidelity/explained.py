"""Differences that are meant, or that cannot be helped; each is explained in docs/explanation/fidelity.md under the same title. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fidelity.rules import Verdict

__all__ = ["EXPLAINED", "Explanation", "explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`applies(document, source, verdict)` says whether this is why a cell differs."""

    title: str
    applies: Callable[[str, str, Verdict], bool]


def _cell(document: str, source: str) -> Callable[[str, str, Verdict], bool]:
    pattern = re.compile(source)
    return lambda name, code, _: name.startswith(document) and bool(pattern.search(code))


def _by_stream(record: Any) -> list[Any]:
    """`record` with what is printed between two other outputs in one piece for each stream, as if order were not kept."""
    merged: list[Any] = []
    texts: dict[str, str] = {}
    for output in [*record, {"type": "end"}]:
        if output["type"] == "stream":
            texts[output["name"]] = texts.get(output["name"], "") + output["text"]
            continue
        merged += [{"type": "stream", "name": name, "text": text} for name, text in sorted(texts.items())]
        texts = {}
        merged.append(output)
    return merged


def _only_the_order_of_streams(_document: str, _source: str, verdict: Verdict) -> bool:
    return _by_stream(verdict.local) == _by_stream(verdict.remote)


EXPLAINED: Sequence[Explanation] = (
    Explanation("The two streams keep their order", _only_the_order_of_streams),
    Explanation("No editor opens", _cell("ipython/", r"^%?ed(?:it)?\b")),
    Explanation("Tasks are numbered", lambda _document, _source, verdict: _without_tasks(verdict.local) == _without_tasks(verdict.remote)),
)


def _without_tasks(record: Any) -> str:
    return re.sub(r"Task-\d+", "Task", str(record))


def explanation(document: str, source: str, verdict: Verdict) -> str:
    """The title of the explanation for a cell that differs, or nothing."""
    return next((each.title for each in EXPLAINED if each.applies(document, source, verdict)), "")
