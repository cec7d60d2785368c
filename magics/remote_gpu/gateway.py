"""A typed, synchronous client of the gateway's REST API, over its Unix socket.

One `Gateway` belongs to one thread at a time. It keeps one connection open, so a call costs about a millisecond, and opens
it again when the gateway closed it meanwhile. Answers become frozen dataclasses; fields that this version does not know are
left out, so a newer gateway does not break an older client. Errors are raised as the class that the gateway raised.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote, urlencode

from remote_gpu.discovery import GatewayRecord
from remote_gpu.errors import GatewayUnavailable, NotAllowed, RemoteGpuError, from_problem

__all__ = [
    "AttachmentInfo",
    "ClusterInfo",
    "Gateway",
    "GatewayInfo",
    "PoolInfo",
    "SelectionInfo",
    "SessionInfo",
]

_ANSWER_TIME = 30.0  # seconds for an ordinary answer, and the grace on top of what a long poll asked for
_PREFIX = "/remote-gpu"

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
class SessionInfo:
    """A remote session: `state` of its allocation, `link` of its connection, `kernel` as the supervisor last described it."""

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
    attachments: int = 0
    trust: bool = False
    """Whether values from its node are unpickled: only the gateway's configuration says so, never the node."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        return cls(**_known(cls, data))

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
    """The explained answer to "where should this run?": each candidate has cluster, eligible and reasons."""

    chosen: str = ""
    sentence: str = ""
    candidates: tuple[Mapping[str, Any], ...] = ()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_TIME)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection

    def set_timeout(self, seconds: float | None) -> None:
        self.timeout = seconds
        if self.sock is not None:
            self.sock.settimeout(seconds)


class Gateway:
    """A gateway's REST API. Each method raises what the gateway raised, or `GatewayUnavailable` when it does not answer."""

    def __init__(self, record: GatewayRecord) -> None:
        self.record = record
        self._connection = _UnixConnection(record.socket)

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def info(self) -> GatewayInfo:
        """Who answers."""
        return GatewayInfo(**_known(GatewayInfo, self._call("GET", "")))

    def clusters(self) -> tuple[ClusterInfo, ...]:
        """The configured clusters, as last seen."""
        return tuple(ClusterInfo.of(each) for each in self._call("GET", "/clusters")["clusters"])

    def sessions(self) -> tuple[SessionInfo, ...]:
        """The user's remote sessions."""
        return tuple(SessionInfo.of(each) for each in self._call("GET", "/sessions")["sessions"])

    def session(self, session: str, *, wait: float | None = None, seen: str | None = None) -> SessionInfo:
        """One session by id or name; with `wait`, the answer comes when its state is not `seen` any more, or after `wait` s."""
        query = {name: value for name, value in (("wait", wait), ("seen", seen)) if value is not None}
        return SessionInfo.of(self._call("GET", _session(session), query=query, wait=wait or 0))

    def start_session(self, *, wait: float | None = None, **body: Any) -> SessionInfo:
        """Find or start a session; `body` as in the API's description of ``POST /remote-gpu/sessions``.

        With `wait`, the answer comes when the session runs, or after `wait` s with whatever state it then has.
        """
        if wait is not None:
            body["wait"] = wait
        return SessionInfo.of(self._call("POST", "/sessions", body=body, wait=wait or 0))

    def stop_session(self, session: str, *, patience: float = _ANSWER_TIME) -> None:
        """End a session for good: its kernel, its allocation and its journal. After `patience` s the answer is not waited for."""
        self._call("DELETE", _session(session), wait=patience - _ANSWER_TIME)

    def interrupt(self, session: str) -> SessionInfo:
        """Interrupt the session's kernel."""
        return SessionInfo.of(self._call("POST", _session(session, "interrupt"), body={}))

    def restart(self, session: str) -> SessionInfo:
        """Restart the kernel in the same allocation; the answer comes when the new kernel is there."""
        return SessionInfo.of(self._call("POST", _session(session, "restart"), body={}, wait=_ANSWER_TIME))

    def logs(self, session: str, *, lines: int = 100) -> str:
        """The last `lines` lines of what supervisor and kernel wrote outside the protocol."""
        return str(self._call("GET", _session(session, "logs"), query={"lines": lines})["text"])

    def queue(self, session: str) -> tuple[Mapping[str, Any], ...]:
        """The cells that run and wait in the session's kernel, in their order; fields as in the API's description."""
        return tuple(self._call("GET", _session(session, "queue"))["cells"])

    def cancel(self, session: str, cell: str) -> str:
        """Cancel one cell of the queue by its message id; returns what it was: ``running``, ``waiting`` or ``over``."""
        return str(self._call("DELETE", _session(session, "queue", cell))["was"])

    def attach(
        self,
        session: str,
        *,
        role: str | None = None,
        after: int | None = None,
        claims: Sequence[str] = (),
        name: str | None = None,
        own_kernel_id: str | None = None,
        lasting: bool = False,
    ) -> AttachmentInfo:
        """Attach with a front of one's own. `after` is the last journal number that is already there (None: from now on).

        A kernel manager gives its `own_kernel_id`: its front keeps the same id and place over a restart of the gateway.
        A `lasting` one is for another process: it ends when nobody listens any more, not with this process.
        """
        body = {"role": role, "after": after, "claims": list(claims) or None, "name": name, "own_kernel_id": own_kernel_id}
        body["lasting"] = lasting or None
        body = {key: value for key, value in body.items() if value is not None}
        return AttachmentInfo.of(self._call("POST", _session(session, "attachments"), body=body))

    def detach(self, session: str, attachment: str) -> None:
        """End an attachment and its front; the session goes on."""
        self._call("DELETE", _session(session, "attachments", attachment))

    def rebind(self, session: str, attachment: str) -> None:
        """Bind the front's sockets again at the same paths, after a client's manager deleted them."""
        self._call("POST", _session(session, "attachments", attachment, "rebind"), body={})

    def choice(self, *, kernel_id: str | None = None, notebook: str | None = None) -> str:
        """The cluster chosen for a notebook, or ``auto``."""
        return str(self._call("GET", "/choice", query=_whose(kernel_id, notebook))["cluster"])

    def set_choice(self, cluster: str, *, kernel_id: str | None = None, notebook: str | None = None) -> str:
        """Choose the cluster for a notebook; ``auto`` takes the choice back."""
        return str(self._call("PUT", "/choice", query=_whose(kernel_id, notebook), body={"cluster": cluster})["cluster"])

    def selection(self, request: Mapping[str, Any] | None = None) -> SelectionInfo:
        """Where `request` would run, and why."""
        return SelectionInfo(**_known(SelectionInfo, self._call("POST", "/selections", body={"request": dict(request or {})})))

    def prewarm(self, cluster: str) -> None:
        """Have the cluster make ready for a quick start; returns at once."""
        self._call("POST", "/prewarm", body={"cluster": cluster})

    def _call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None, wait: float = 0
    ) -> Any:
        target = _PREFIX + path + (f"?{urlencode(query)}" if query else "")
        payload = None if body is None else json.dumps(body).encode()
        self._connection.set_timeout(_ANSWER_TIME + wait)
        used = self._connection.sock is not None
        try:
            return self._exchange(method, target, payload)
        except (ConnectionError, http.client.HTTPException) as error:
            if not used:
                raise self._unavailable(error) from error
        try:  # the gateway may have closed the idle connection; a fresh one tells whether it is there
            return self._exchange(method, target, payload)
        except (ConnectionError, http.client.HTTPException) as error:
            raise self._unavailable(error) from error

    def _exchange(self, method: str, target: str, payload: bytes | None) -> Any:
        headers = {"Authorization": f"remote-gpu {self.record.secret}", "Accept": "application/json"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(method, target, payload, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except TimeoutError as error:
            self._connection.close()
            message = f"The gateway (process {self.record.pid}) did not answer {method} {target.partition('?')[0]} in time."
            raise GatewayUnavailable(message) from error
        except FileNotFoundError as error:
            self._connection.close()
            raise self._unavailable(error) from error
        except BaseException:  # also Ctrl-C: half an answer must not be taken for the next one's
            self._connection.close()
            raise
        return _result(answer.status, text)

    def _unavailable(self, error: Exception) -> GatewayUnavailable:
        message = f"The gateway (process {self.record.pid}) does not answer: {str(error) or type(error).__name__}."
        return GatewayUnavailable(message, hint="Remote sessions keep running; try again, or see `jupyter remote-gpu doctor`.")


def _whose(kernel_id: str | None, notebook: str | None) -> dict[str, str]:
    return {name: value for name, value in (("kernel_id", kernel_id), ("notebook", notebook)) if value is not None}


def _session(*names: str) -> str:
    return "/sessions/" + "/".join(quote(name, safe="") for name in names)


def _result(status: int, text: bytes) -> Any:
    try:
        data = json.loads(text) if text else {}
    except ValueError:
        data = {}
    if status < http.client.BAD_REQUEST:
        return data
    if isinstance(data, dict) and "reason" in data:
        raise from_problem(data)
    words = data.get("message") if isinstance(data, dict) else None
    message = f"The gateway answered with status {status}: {words or http.client.responses.get(status, 'unknown')}."
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        raise NotAllowed(message, hint="The gateway's secret is not the one in its runtime file; start it again.")
    raise RemoteGpuError(message)
