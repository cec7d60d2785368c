"""The values that the parts of the gateway hand to each other: frozen, without behaviour beyond their own JSON.

Three state axes stay apart on purpose: what the cluster granted (`AllocationState`), how the gateway reaches it
(`LinkState`), and the kernel's own state, which is whatever the supervisor last said (`Session.kernel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NewType
from zlib import crc32

__all__ = [
    "GONE",
    "Allocation",
    "AllocationState",
    "ClusterKind",
    "Found",
    "Gpu",
    "KernelLaunch",
    "LinkState",
    "ResourceRequest",
    "Role",
    "Session",
    "SessionId",
    "gpu_label",
    "iso",
]

GONE = "Its supervisor has ended."
"""All that a cluster can say of a session which is not there any more, when nobody has told why."""

SessionId = NewType("SessionId", str)
"""Ten characters of [a-z0-9]; also the name of the session's folder on the node."""


class ClusterKind(StrEnum):
    """How a cluster is reached. A site's own kinds are plain strings, registered by entry point."""

    LOCAL = "local"
    SSH = "ssh"
    SLURM = "slurm"
    SITE = "site"


class AllocationState(StrEnum):
    """What the cluster granted. ENDED was running once; FAILED never ran."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self in (AllocationState.ENDED, AllocationState.FAILED)


class LinkState(StrEnum):
    """How this gateway reaches a session. LOST: it is not connected and nothing is trying."""

    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    LOST = "lost"


class Role(StrEnum):
    """What an attachment may do; the link-protocol page has the messages of each."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its model and its memory in MiB."""

    name: str
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What is asked for, on each of `nodes` nodes. Memory in MiB, `time` in seconds; 0, None and "" leave it to the cluster.

    From `partition` on, the words are a scheduler's own (sbatch(1)); a cluster without one ignores them.
    """

    gpus: int | None = None
    gpu_model: str = ""
    gpu_memory_mb: int = 0
    """The least memory that each GPU must have."""
    cpus: int = 0
    memory_mb: int = 0
    time: int = 0
    nodes: int = 0
    exclusive: bool = False
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """What a cluster needs to start a session's supervisor. Timeouts in seconds (0 = never), `journal_limit` in bytes."""

    session: SessionId
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    idle_timeout: int = 0
    unattended_timeout: int = 0
    journal_limit: int = 0
    matplotlib: bool = True

    def json(self) -> dict[str, Any]:
        """What the node's ``start`` and ``run`` read from their stdin."""
        return {**asdict(self), "env": dict(self.env)}


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a cluster granted to a session. `pid` and `start_time` (clock ticks since boot) name the supervisor's process without doubt."""

    cluster: str
    session: SessionId
    state: AllocationState = AllocationState.PENDING
    node: str = ""
    pid: int = 0
    start_time: int = 0
    folder: str = ""
    job_id: str = ""
    gpus: tuple[Gpu, ...] = ()
    python: str = ""
    arch: str = ""
    warm: bool = False
    ends: float = 0.0
    """When its time is over, in seconds since the epoch; 0 = never, or not known."""
    detail: str = ""

    def json(self) -> dict[str, Any]:
        """Everything, for the registry."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Allocation:
        """The allocation that `json` described; keys that this version does not know are left out."""
        known = {key: value[key] for key in cls.__slots__ if key in value}
        gpus = tuple(Gpu(str(gpu["name"]), int(gpu["memory_mb"])) for gpu in known.pop("gpus", ()))
        state = AllocationState(known.pop("state", AllocationState.PENDING))
        return cls(**known, state=state, gpus=gpus)


@dataclass(frozen=True, slots=True)
class Found:
    """A session that a cluster knows of: what was granted to it, and the name that its gateway gave it ("" = not known)."""

    allocation: Allocation
    name: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One remote session as the registry has it, with what this gateway sees of it now (`link`, `kernel`, `attachments`)."""

    id: SessionId
    name: str
    cluster: str
    kernel_id: str
    allocation: Allocation
    owner: str = ""
    notebook: str = ""
    default: bool = False
    """Whether its name was chosen for it: the session that a notebook gets without asking for one by name."""
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    why: str = ""
    decision: str = ""
    """The selection that chose its cluster, if one did."""
    problem: Mapping[str, Any] | None = None
    gateway: int = 0
    """The process that started it, and that alone drives it while it is pending."""
    link: LinkState = LinkState.LOST
    kernel: Mapping[str, Any] | None = None
    attachments: int = 0
    prompts: tuple[Mapping[str, Any], ...] = ()
    """What the login to its cluster asks the user now; until that is answered, nothing goes on."""
    trust: bool = False
    """Whether the configuration of its cluster lets its node run code in the notebook."""

    @property
    def state(self) -> AllocationState:
        """The allocation's state."""
        return self.allocation.state

    @property
    def detail(self) -> str:
        """A few words on the state: the place in the queue, or why it ended."""
        return self.allocation.detail

    @property
    def stamp(self) -> str:
        """Changes with all that somebody who waits for the session wants to see."""
        seen = (self.state, self.detail, self.link, tuple(str(prompt["id"]) for prompt in self.prompts))
        return f"{crc32(repr(seen).encode()):08x}"

    def json(self) -> dict[str, Any]:
        """The `Session` of the REST API."""
        grant = self.allocation
        return {
            "id": self.id,
            "name": self.name,
            "cluster": self.cluster,
            "kernel_id": self.kernel_id,
            "state": grant.state,
            "detail": grant.detail,
            "node": grant.node,
            "gpus": [asdict(gpu) for gpu in grant.gpus],
            "label": gpu_label([gpu.name for gpu in grant.gpus]) if grant.node else "",
            "owner": self.owner,
            "notebook": self.notebook,
            "created": iso(self.created),
            "started": iso(self.started),
            "ended": iso(self.ended),
            "link": self.link,
            "kernel": dict(self.kernel) if self.kernel is not None else None,
            "python": grant.python,
            "arch": grant.arch,
            "warm": grant.warm,
            "folder": grant.folder,
            "log_hint": f"%remote_gpu logs {self.name}",
            "why": self.why,
            "decision": self.decision,
            "problem": dict(self.problem) if self.problem is not None else None,
            "attachments": self.attachments,
            "ends": iso(grant.ends or None),
            "prompts": [dict(prompt) for prompt in self.prompts],
            "stamp": self.stamp,
            "trust": self.trust,
        }


def gpu_label(models: list[str]) -> str:
    """GPUs in words: "CPU only", "1 × NVIDIA H200", "2 × A100 + 1 × L4"."""
    if not models:
        return "CPU only"
    return " + ".join(f"{models.count(model)} × {model or 'GPU'}" for model in dict.fromkeys(models))


def iso(seconds: float | None) -> str | None:
    """A time of the epoch as ISO 8601 in UTC; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
