"""A session that this kernel is attached to, and what of it still runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remote_gpu.cursors import CursorFile
from remote_gpu.execution import Finished, Outcome, Result
from remote_gpu.gateway import AttachmentInfo, SessionInfo
from remote_gpu.kernel import Connection
from remote_gpu.running import Running

__all__ = ["Attached", "facts_of"]


@dataclass(slots=True, eq=False)
class Attached:
    """A session that this kernel is attached to. `queued` is how long its start was waited for, until a cell has told it."""

    info: SessionInfo
    attachment: AttachmentInfo
    connection: Connection
    cursor: CursorFile
    facts: Mapping[str, Any]
    left: Running | None = None
    told: Outcome | None = None
    queued: float | None = None
    background: list[Running] = field(default_factory=list)
    """Cells that nobody waits for; see `jobs`."""
    warned: set[tuple[str, str]] = field(default_factory=set)
    """What was said of its end; see `ends`."""

    def update(self, info: SessionInfo) -> None:
        """The gateway said how it is now."""
        self.info, self.facts = info, facts_of(info)

    def unfinished(self) -> tuple[Running, ...]:
        """The background cells that run or wait."""
        return tuple(each for each in self.background if each.outcome is None)

    def runs_on(self) -> str:
        """What still runs there and is this kernel's, in words; empty if nothing does."""
        if jobs := len(self.unfinished()):
            return "a background cell" if jobs == 1 else f"{jobs} background cells"
        return "a cell that was left running" if self.left is not None and self.left.outcome is None else ""

    def lose_jobs(self) -> None:
        """The session is over: so are its background cells. On the pump's thread."""
        for each in self.unfinished():
            each.ended, each.outcome = (
                time.time(),
                Outcome(Result.DIED, evalue=f"Session {self.info.name!r} is over.", reason="session_ended"),
            )
            each.sink.record(each, final=True)
            each.events.put(Finished(each.outcome))


def facts_of(info: SessionInfo) -> dict[str, Any]:
    """What run records say of a session."""
    return {
        "session": info.name,
        "session_id": info.id,
        "cluster": info.cluster,
        "node": info.node,
        "gpu": info.label,
        "why": info.why,
        "decision": info.decision or None,
        "ends": info.ends or None,
    }
