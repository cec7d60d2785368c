"""What crossed with a cell, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Summary", "amount"]

_SHOWN = 4
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


@dataclass(slots=True)
class Summary:
    """Names by what became of them; `sent_bytes` of the names that went over, `handles` with what each is."""

    sent: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    back: list[str] = field(default_factory=list)
    handles: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.sent or self.back or self.handles or self.notes)

    @property
    def text(self) -> str:
        """As the run record says it: ``sent x, y (1.2 MB) · back z · model as handle (LogisticRegression)``."""
        parts = []
        if self.sent:
            parts.append(f"sent {_some(self.sent)} ({amount(self.sent_bytes)})")
        if self.back:
            parts.append(f"back {_some(self.back)}")
        if self.handles:
            parts.append(_some([f"{name} as handle ({what})" for name, what in self.handles.items()]))
        return " · ".join([*parts, *self.notes])

    def json(self) -> dict[str, Any]:
        """As the run record's data has it."""
        return {
            "text": self.text,
            "sent": self.sent,
            "sent_bytes": self.sent_bytes,
            "back": self.back,
            "handles": self.handles,
            "notes": self.notes,
        }


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def amount(size: float) -> str:
    """`size` bytes as people say it: 12 B, 3.4 kB, 1.2 GB."""
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size /= _STEP
        unit += 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
