"""What a cluster is to the gateway: five methods. Everything that differs between kinds of cluster is behind them.

A kind registers a factory under the entry point group `GROUP`; `tests/contracts/test_cluster.py` is the suite that
each kind must pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jupyter_remote_gpu.data_commands import DataCommand
    from jupyter_remote_gpu.models import Allocation, ClusterSnapshot, KernelLaunch, ResourceRequest, SessionId
    from jupyter_remote_gpu.settings import Settings
    from remote_gpu.streams import FrameStream

__all__ = ["GROUP", "CarriesData", "Cluster", "ClusterFactory", "Prewarms"]

GROUP = "jupyter_remote_gpu.clusters"
"""Entry points of this group: NAME = the `kind` in the configuration, value = a `ClusterFactory`."""


@runtime_checkable
class Cluster(Protocol):
    """A configured place that can give GPUs. One object per gateway and cluster; all calls come from its event loop."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def kind(self) -> str:
        """How it is reached; see `ClusterKind`."""
        ...

    async def snapshot(self) -> ClusterSnapshot:
        """What the cluster offers now.

        Called in the background, never while somebody waits for a cell. Raises `RemoteGpuError` when the cluster
        cannot be reached; the caller shows its message. Must end within a minute.
        """
        ...

    def launch(self, request: ResourceRequest, kernel: KernelLaunch) -> AsyncIterator[Allocation]:
        """Start the supervisor of `kernel.session`; an async generator of what is granted so far.

        Called once per session by `sessions`. Each allocation that it yields is in the registry before the next
        step begins, so a step that takes something of the cluster is preceded by a yield that says how to find it
        again. The last one is RUNNING. Raises `StartFailed` or a subclass, with the launcher's own words; the
        caller then calls `release` with the last allocation. May be cancelled at any await.
        """
        ...

    async def poll(self, allocation: Allocation) -> Allocation:
        """The allocation as it is now.

        Called often; idempotent. Whoever does not know answers what was known: *unknown* is alive. ENDED needs
        evidence and says why in `detail`.
        """
        ...

    async def open_stream(self, allocation: Allocation, session: SessionId) -> FrameStream:
        """A new stream of frames to the supervisor of a RUNNING allocation.

        Called by the link at the start and after each cut. Raises `LinkProblem` when it cannot be had now and
        `SessionEnded` when there is nobody to talk to any more.
        """
        ...

    async def release(self, allocation: Allocation) -> None:
        """End the session and give back what was granted, with its files.

        Idempotent: an ended allocation, or one that never started, is not an error. When it returns, nothing of
        the session is left on the cluster. Raises `RemoteGpuError` when that cannot be said.
        """
        ...


@runtime_checkable
class Prewarms(Protocol):
    """A cluster that can prepare itself for a session that will probably be asked for soon."""

    async def prewarm(self) -> None:
        """Prepare; called at most once in a while, idempotent. Failing is harmless: the next start says why."""
        ...


@runtime_checkable
class CarriesData(Protocol):
    """A cluster that has a way for arrays and files beside the link."""

    async def open_data(self, allocation: Allocation, session: SessionId) -> DataCommand:
        """Run the node's ``data`` for a RUNNING allocation.

        Called once for each attachment that moves arrays or files, and again after a cut. Raises `LinkProblem`. What the command
        itself finds (the session is gone) it says on the stream.
        """
        ...


ClusterFactory = Callable[[str, Mapping[str, Any], "Settings"], Cluster]
"""(name, its configuration, the gateway's settings) → the cluster; raises `UsageProblem` for a wrong configuration."""
