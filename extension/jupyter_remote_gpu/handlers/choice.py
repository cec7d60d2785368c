"""The cluster that the user chose for a notebook: ``/remote-gpu/choice``."""

from __future__ import annotations

from jupyter_remote_gpu.choices import AUTO
from jupyter_remote_gpu.handlers.base import Handler, authorized
from remote_gpu.errors import UsageProblem

__all__ = ["ChoiceHandler"]


class ChoiceHandler(Handler):
    """The choice of one notebook, named by its path or by its kernel."""

    _track_activity = False

    @authorized
    async def get(self) -> None:
        """The choice."""
        notebook = await self._notebook()
        self.answer({"notebook": notebook, "cluster": self.parts.choices.get(notebook, self.parts.clusters)})

    @authorized
    async def put(self) -> None:
        """Choose; "auto" takes the choice back."""
        body = self.body()
        self.only(body, {"cluster"})
        cluster = self.typed(body, "cluster", str)
        if not cluster:
            raise UsageProblem("'cluster' is missing.", hint='For example {"cluster": "auto"}.')
        if cluster != AUTO:
            self.parts.clusters[cluster]
        notebook = await self._notebook()
        self.parts.choices.set(notebook, cluster)
        self.answer({"notebook": notebook, "cluster": cluster})

    async def _notebook(self) -> str:
        notebook, kernel_id = (self.get_query_argument(name, None) for name in ("notebook", "kernel_id"))
        return await self.parts.choices.notebook(notebook, kernel_id)
