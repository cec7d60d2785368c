"""A typed, synchronous client of the gateway's REST API, over its Unix socket.

One `Gateway` belongs to one thread at a time. It keeps one connection open, so a call costs about a millisecond, and opens
it again when the gateway closed it meanwhile. Answers become frozen dataclasses (`gateway_infos`, whose names are here, too). Errors are
raised as the class that the gateway raised.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from remote_gpu.discovery import GatewayRecord
from remote_gpu.errors import GatewayUnavailable, NotAllowed, RemoteGpuError, from_problem
from remote_gpu.gateway_infos import (
    AttachmentInfo,
    ClusterInfo,
    GatewayInfo,
    LoginInfo,
    PoolInfo,
    PromptInfo,
    SelectionInfo,
    SessionInfo,
)

__all__ = [
    "AttachmentInfo",
    "ClusterInfo",
    "Gateway",
    "GatewayInfo",
    "LoginInfo",
    "PoolInfo",
    "PromptInfo",
    "SelectionInfo",
    "SessionInfo",
]

_ANSWER_TIME = 30.0  # seconds for an ordinary answer, and the grace on top of what a long poll asked for
_SEARCH = 40.0  # seconds that the clusters have to list what runs there
_PREFIX = "/remote-gpu"


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
        return GatewayInfo.of(self._call("GET", ""))

    def clusters(self) -> tuple[ClusterInfo, ...]:
        """The configured clusters, as last seen."""
        return tuple(ClusterInfo.of(each) for each in self._call("GET", "/clusters")["clusters"])

    def sessions(self) -> tuple[SessionInfo, ...]:
        """The user's remote sessions."""
        return tuple(SessionInfo.of(each) for each in self._call("GET", "/sessions")["sessions"])

    def all_sessions(self) -> tuple[tuple[SessionInfo, ...], tuple[str, ...]]:
        """The user's sessions, also those that only the clusters know; and, in words, which clusters could not be asked."""
        answer = self._call("GET", "/sessions", query={"discover": "true"}, wait=_SEARCH)
        return tuple(SessionInfo.of(each) for each in answer["sessions"]), tuple(answer["problems"])

    def session(self, session: str, *, wait: float | None = None, seen: str | None = None) -> SessionInfo:
        """One session by id or name; with `wait`, the answer comes when neither its state nor its stamp is `seen`, or after `wait` s."""
        return SessionInfo.of(self._call("GET", _session(session), query=_poll(wait, seen), wait=wait or 0))

    def start_session(self, *, wait: float | None = None, **body: Any) -> SessionInfo:
        """Find or start a session; `body` as in the API's description of ``POST /remote-gpu/sessions``.

        With `wait`, the answer comes when the session runs or its login asks something, or after `wait` s with whatever state it then has.
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

    def extend(self, session: str, seconds: int) -> SessionInfo:
        """Move the end of the session's allocation by `seconds`. Raises `NotAllowed` in the scheduler's words, `UsageProblem` without an end."""
        return SessionInfo.of(self._call("POST", _session(session, "extend"), body={"seconds": seconds}, wait=_ANSWER_TIME))

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

    def logins(self) -> tuple[LoginInfo, ...]:
        """The logins to the hosts of the clusters."""
        return tuple(LoginInfo.of(each) for each in self._call("GET", "/logins")["logins"])

    def login(self, name: str, *, wait: float | None = None, seen: str | None = None) -> LoginInfo:
        """The login to a cluster (or to a host); with `wait`, the answer comes when its stamp is not `seen`, or after `wait` s."""
        return LoginInfo.of(self._call("GET", _login(name), query=_poll(wait, seen), wait=wait or 0))

    def begin_login(self, name: str) -> LoginInfo:
        """Begin to log in. The answer comes at once, with the state from before; what is asked stands in the prompts of later ones."""
        return LoginInfo.of(self._call("POST", _login(name), body={}))

    def end_login(self, name: str) -> None:
        """Log out; sessions go on."""
        self._call("DELETE", _login(name))

    def answer(self, prompt: str, text: str) -> None:
        """Answer a question of a login. Raises `UnknownPrompt` when it does not wait any more."""
        self._call("POST", f"/prompts/{quote(prompt, safe='')}", body={"answer": text})

    def refuse(self, prompt: str) -> None:
        """Do not answer a question; the login then fails. Raises `UnknownPrompt`."""
        self._call("DELETE", f"/prompts/{quote(prompt, safe='')}")

    def choice(self, *, kernel_id: str | None = None, notebook: str | None = None) -> str:
        """The cluster chosen for a notebook, or ``auto``."""
        return str(self._call("GET", "/choice", query=_whose(kernel_id, notebook))["cluster"])

    def set_choice(self, cluster: str, *, kernel_id: str | None = None, notebook: str | None = None) -> str:
        """Choose the cluster for a notebook; ``auto`` takes the choice back."""
        return str(self._call("PUT", "/choice", query=_whose(kernel_id, notebook), body={"cluster": cluster})["cluster"])

    def selection(self, request: Mapping[str, Any] | None = None, demand: Mapping[str, Any] | None = None) -> SelectionInfo:
        """Where `request` would run, and why; nothing is started. Schedulers are asked for an estimate."""
        body = {"request": dict(request or {}), "demand": dict(demand or {})}
        return SelectionInfo.of(self._call("POST", "/selections", body=body, wait=_ANSWER_TIME))

    def decision(self, key: str) -> SelectionInfo:
        """The selection of that id, or the one that chose a session's cluster. Raises `UsageProblem` that says why there is none."""
        return SelectionInfo.of(self._call("GET", f"/selections/{quote(key, safe='')}"))

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


def _poll(wait: float | None, seen: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("wait", wait), ("seen", seen)) if value is not None}


def _login(name: str) -> str:
    return f"/logins/{quote(name, safe='')}"


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
