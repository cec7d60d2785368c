"""The data streams of one notebook kernel: one per session, opened when something large crosses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from remote_gpu.codec.decode import decode, decode_trusted
from remote_gpu.errors import NoDataStream, RemoteGpuError, UsageProblem
from remote_gpu.sessions import Attached, Sessions
from remote_gpu.transfer.door import connect_data
from remote_gpu.transfer.progress import Progress
from remote_gpu.transfer.transfers import Transfers

__all__ = ["Carriers"]


class Carriers:
    """Carries large buffers to a session's node, and whole objects back."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._transfers: dict[str, Transfers] = {}
        self._without: set[str] = set()

    def of(self, attached: Attached) -> Transfers:
        """The session's stream; it is opened at its first use, and again after a cut."""
        known = self._transfers.get(attached.info.id)
        if known is None:

            def connect() -> Any:
                return connect_data(self._sessions.gateway.record.socket, attached.info.id, attached.attachment.id)

            known = self._transfers[attached.info.id] = Transfers(connect)
        return known

    def put(self, attached: Attached, what: str) -> Callable[[Sequence[memoryview]], Sequence[str]] | None:
        """Sends buffers ahead of a request, saying `what` it sends; None where only the request itself can carry them."""
        if attached.info.id in self._without:
            return None

        def put(views: Sequence[memoryview]) -> Sequence[str]:
            with Progress(f"sending {what}") as progress:
                try:
                    return self.of(attached).put_missing(views, progress)
                except NoDataStream:
                    self._without.add(attached.info.id)
                    raise

        return put

    def fetch(self, attached: Attached, handle_id: int, classes: Any, *, trusted: bool) -> Any:
        """The object that the session's kernel holds under `handle_id`. Raises `UsageProblem` when it cannot leave the node."""
        with Progress("fetching") as progress:
            fetched = self.of(attached).fetch({"handle": handle_id, "trusted": trusted}, progress)
        if fetched.entries.get("kind") != "value":
            kind = str(fetched.entries.get("type", "object"))[:100]
            raise UsageProblem(
                f"This {kind} stays on the node: only data comes back as a value.",
                hint="Use it by its methods, or trust the cluster in the configuration of the gateway.",
            )
        if trusted:
            return decode_trusted(fetched.head, fetched.buffers, ["value"])["value"]
        return decode(fetched.head, fetched.buffers, ["value"], classes)["value"]

    def forget(self, session_id: str) -> None:
        """The session is over."""
        transfers = self._transfers.pop(session_id, None)
        if transfers is not None:
            transfers.close()

    def close(self) -> None:
        """Let go of all streams."""
        for session_id in list(self._transfers):
            try:
                self.forget(session_id)
            except RemoteGpuError:
                continue
