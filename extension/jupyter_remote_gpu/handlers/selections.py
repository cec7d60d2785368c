"""Selections: ``/remote-gpu/selections``."""

from __future__ import annotations

from jupyter_remote_gpu.demands import demand_from
from jupyter_remote_gpu.handlers.base import Handler, authorized
from jupyter_remote_gpu.handlers.clusters import request_of
from remote_gpu.errors import UsageProblem

__all__ = ["SelectionHandler", "SelectionsHandler"]


class SelectionsHandler(Handler):
    """Where a request would run."""

    @authorized
    async def post(self) -> None:
        """Rank the clusters for ``request`` and ``demand``; nothing is started, but schedulers are asked what they think of it."""
        body = self.body()
        self.only(body, {"request", "demand"})
        demand = demand_from(self.typed(body, "demand", dict), request_of(self, body))
        self.answer((await self.parts.selecting.select(demand, thorough=True)).json())


class SelectionHandler(Handler):
    """A selection that was made."""

    _track_activity = False

    @authorized
    async def get(self, selection: str) -> None:
        """With all its figures: by its id, or the last one for a session."""
        session = self.parts.registry.session(selection)
        found = self.parts.selecting.remembered.decision(session.decision if session is not None and session.decision else selection)
        if found is None:
            known = (
                f"The session {session.name} was not selected: {session.why}"
                if session is not None
                else f"There is no selection {selection!r}."
            )
            raise UsageProblem(known, hint="`%remote_gpu where` shows what would be chosen now.")
        self.answer(found)
