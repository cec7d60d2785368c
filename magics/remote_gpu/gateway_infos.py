"""What the gateway's answers become: frozen dataclasses, as `docs/reference/rest-api.yaml` describes them.

Fields that this version does not know are left out, so a newer gateway does not break an older client; times stay ISO 8601 texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar, cast

__all__ = [
    "AttachmentInfo",
    "ClusterInfo",
    "GatewayInfo",
    "LoginInfo",
    "PoolInfo",
    "PromptInfo",
    "SelectionInfo",
    "SessionInfo",
]

_Info = TypeVar("_Info")


def _known(kind: type[_Info], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(cast("Any", kind))}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name in names and value is not None}


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """The gateway itself: its version, the link protocol it speaks, its kind (``server`` or ``headless``), user and process."""

    version: str
    protocol: int = 1
    kind: str = "server"
    user: str = ""
    pid: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        return cls(**_known(cls, data))


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """The like nodes of a cluster; memory in MB."""

    name: str
    gpu_model: str = ""
    gpu_memory_mb: int = 0
    gpus_total: int = 0
    gpus_free: int = 0
    gpus_per_node: int = 0
    cpu_arch: str = ""
    accelerator: str = ""


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A cluster as the gateway last saw it; `state` is ready, checking or unreachable, `label` what people read."""

    name: str
    kind: str = ""
    state: str = ""
    detail: str = ""
    pools: tuple[PoolInfo, ...] = ()
    gpus_total: int = 0
    gpus_free: int = 0
    label: str = ""
    updated: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        known = _known(cls, data)
        return cls(**{**known, "pools": tuple(PoolInfo(**_known(PoolInfo, pool)) for pool in known.get("pools", ()))})


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """A question of a login to `host` in ssh's own words; `kind` is secret (hide the answer), confirm (yes or no) or notice (no answer)."""

    id: str
    host: str = ""
    text: str = ""
    kind: str = "secret"
    asked: str = ""


@dataclass(frozen=True, slots=True)
class LoginInfo:
    """The login to `host`, which leads to `clusters`; `state` is out, trying, in or refused. `stamp` changes with state, detail and prompts."""

    host: str
    clusters: tuple[str, ...] = ()
    state: str = ""
    detail: str = ""
    expires: str = ""
    prompts: tuple[PromptInfo, ...] = ()
    stamp: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        return cls(**_known(cls, data) | _prompts(data))


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A remote session: `state` of its allocation, `link` of its connection, `kernel` as the supervisor last described it.

    `ends` is when its time is over ("": never, or not known), `problem` why it failed, `prompts` what the login to its cluster asks now;
    `stamp` changes with all that somebody who waits for it wants to see.
    """

    id: str
    name: str = ""
    cluster: str = ""
    kernel_id: str = ""
    state: str = ""
    detail: str = ""
    node: str = ""
    gpus: tuple[Any, ...] = ()
    label: str = ""
    owner: str = ""
    notebook: str = ""
    created: str = ""
    started: str = ""
    link: str = ""
    kernel: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    folder: str = ""
    log_hint: str = ""
    why: str = ""
    decision: str = ""
    problem: Mapping[str, Any] = field(default_factory=dict)
    attachments: int = 0
    ends: str = ""
    prompts: tuple[PromptInfo, ...] = ()
    stamp: str = ""
    trust: bool = False
    """Whether values from its node are unpickled: only the gateway's configuration says so, never the node."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        return cls(**_known(cls, data) | _prompts(data))

    @property
    def pending(self) -> bool:
        """True until the allocation is granted."""
        return self.state.upper() == "PENDING"

    @property
    def over(self) -> bool:
        """True when the allocation ended or never came to be."""
        return self.state.upper() in ("ENDED", "FAILED")


@dataclass(frozen=True, slots=True)
class AttachmentInfo:
    """One attachment: its front's connection file, that file's SHA-256, and the journal's last number (`head`) when it was made."""

    id: str
    connection_file: Path
    session: SessionInfo
    head: int = 0
    fingerprint: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        session = SessionInfo.of(data["session"])
        return cls(data["id"], Path(data["connection_file"]), session, int(data.get("head") or 0), str(data.get("fingerprint") or ""))


@dataclass(frozen=True, slots=True)
class SelectionInfo:
    """The explained answer to "where should this run?": each candidate as in the API's description, the best first."""

    id: str = ""
    made: str = ""
    chosen: str = ""
    sentence: str = ""
    candidates: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        return cls(**_known(cls, data))


def _prompts(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompts": tuple(PromptInfo(**_known(PromptInfo, each)) for each in data.get("prompts") or ())}
