"""What a client asks for when it wants a session, and whether a session that is there will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from jupyter_remote_gpu.choices import AUTO
from jupyter_remote_gpu.clusters import Clusters
from jupyter_remote_gpu.models import AllocationState, ResourceRequest, Session
from jupyter_remote_gpu.selection import Demand
from remote_gpu.errors import NameTaken, SessionEnded, StartFailed, from_problem

__all__ = ["Wish", "check_reuse", "raise_if_over"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for when it wants a session. `name` None: the one that its notebook gets by default."""

    name: str | None = None
    cluster: str = AUTO
    notebook: str = ""
    own_kernel_id: str | None = None
    """The id of the kernel manager's kernel that the session will be; then it is that manager's own."""
    request: ResourceRequest = field(default_factory=ResourceRequest)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    reuse: bool = True
    owner: str = ""
    beside: Demand = field(default_factory=Demand)
    """What matters for the selection beside the request; its own `resources` do not count."""
    fallback: bool = False
    """Whether the next candidate is asked when one refuses, or does not start it as soon as it should."""
    race: int = 1
    """On how many clusters it is asked for at once; the first that starts it keeps it."""

    @property
    def demand(self) -> Demand:
        """All that matters for the selection."""
        return replace(self.beside, resources=self.request)


def raise_if_over(session: Session) -> None:
    """Raise why `session` cannot be used any more, if it cannot."""
    if session.state is AllocationState.FAILED:
        raise from_problem(session.problem) if session.problem else StartFailed(f"The session {session.name} did not start.")  # type: ignore[arg-type]
    if session.state is AllocationState.ENDED:
        raise SessionEnded(f"The remote session {session.name} has ended. {session.detail}", hint="Start a new one.")


def check_reuse(found: Session, wish: Wish, clusters: Clusters) -> None:
    """Raise `NameTaken` when `found` has the wished name but is not what is wished for."""
    if not wish.reuse:
        raise NameTaken(f"There is a remote session {found.name!r} already.", hint="Stop it first, or choose another name.")
    if wish.cluster not in (AUTO, found.cluster):
        clusters[wish.cluster]  # that a cluster does not exist is the better message
        message = f"The remote session {found.name!r} runs on {found.cluster}, not on {wish.cluster}."
        raise NameTaken(message, hint="Choose another session name, or stop it first.", cluster=found.cluster)
    has, model = found.allocation.gpus, wish.request.gpu_model.lower()
    fitting = [gpu for gpu in has if model in gpu.name.lower() and gpu.memory_mb >= wish.request.gpu_memory_mb]
    if found.state is AllocationState.RUNNING and len(fitting) < (wish.request.gpus or bool(model or wish.request.gpu_memory_mb)):
        message = f"The remote session {found.name!r} runs already, with {found.json()['label']}, which is not what is asked for now."
        raise NameTaken(message, hint="Stop it first, or use another session name.")
