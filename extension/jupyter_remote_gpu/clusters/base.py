"""What a cluster is to the gateway: five methods. Everything that differs between kinds of cluster is behind them.

A kind registers a factory under the entry point group `GROUP`; `tests/contracts/test_cluster.py` is the suite that
each kind must pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jupyter_remote_gpu.clusters.bundle import Bundle
    from jupyter_remote_gpu.clusters.login import Login
    from jupyter_remote_gpu.clusters.logins import Logins
    from jupyter_remote_gpu.data_commands import DataCommand
    from jupyter_remote_gpu.models import Allocation, Found, KernelLaunch, ResourceRequest, SessionId
    from jupyter_remote_gpu.offers import ClusterSnapshot, StartEstimate
    from jupyter_remote_gpu.settings import Settings
    from remote_gpu.streams import FrameStream

__all__ = [
    "GROUP",
    "CarriesData",
    "Cluster",
    "ClusterFactory",
    "Estimates",
    "FindsSessions",
    "HoldsConnections",
    "NeedsLogin",
    "Prewarms",
    "Scheduled",
    "Surroundings",
]

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


@runtime_checkable
class NeedsLogin(Protocol):
    """A cluster behind a login."""

    @property
    def login(self) -> Login | None:
        """The login that leads to it; None when this machine is a part of it."""
        ...


@runtime_checkable
class HoldsConnections(Protocol):
    """A cluster that keeps connections open between calls."""

    async def aclose(self) -> None:
        """Close them; idempotent. What runs on the cluster goes on."""
        ...


@runtime_checkable
class FindsSessions(Protocol):
    """A cluster that knows what runs on it, also what another gateway of the user started."""

    async def sessions(self) -> Sequence[Found]:
        """The sessions of this user that are there, pending or running. Raises `RemoteGpuError`."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """A cluster whose allocations wait in a queue and have an end."""

    def resume(self, allocation: Allocation) -> AsyncIterator[Allocation]:
        """As `Cluster.launch`, from where another gateway's launch was when that gateway ended.

        `allocation` is the last one that was written down; what it asked for may have been taken or not.
        """
        ...

    async def extend(self, allocation: Allocation, seconds: int) -> Allocation:
        """Move the end of a RUNNING or PENDING allocation by `seconds`. Raises `NotAllowed` with the scheduler's own words."""
        ...

    async def log(self, allocation: Allocation, lines: int) -> str:
        """The last lines of what the allocation itself wrote; "" when there is nothing (any more)."""
        ...


@runtime_checkable
class Estimates(Protocol):
    """A cluster whose scheduler says when a request would start, without taking it."""

    async def estimate(self, request: ResourceRequest) -> StartEstimate | None:
        """When a session that asks for `request` would start if it were asked for now; None when nobody can say.

        Called beside a selection, for all clusters side by side; answers within some seconds, and may answer what it did half a minute ago. Raises
        `UsageProblem`, in the scheduler's own words, when it would not take such a request at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a gateway lends to its clusters."""

    settings: Settings
    logins: Logins
    bundle: Bundle


ClusterFactory = Callable[[str, Mapping[str, Any], Surroundings], Cluster]
"""(name, its configuration, what the gateway lends) → the cluster; raises `UsageProblem` for a wrong configuration."""
