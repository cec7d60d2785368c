"""What every route of ours has in common: who asks, whether he may, and how errors become answers.

There are two ways in. On the server's own address, Jupyter's identity and authorisation apply as for any other route. On the
gateway's Unix socket, which only this user can open, the secret of the runtime file opens it too; on TCP it never does.
"""

from __future__ import annotations

import hmac
import json
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jupyter_server.auth import AllowAllAuthorizer, Authorizer, User
from jupyter_server.auth.decorator import authorized as jupyter_authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import HTTPError, authenticated

from remote_gpu.errors import NotAllowed, RemoteGpuError, UsageProblem

if TYPE_CHECKING:
    from jupyter_remote_gpu.gateway import GatewayParts

__all__ = ["RESOURCE", "Handler", "authorized"]

RESOURCE = "remote_gpu"
"""The resource that an authorizer is asked about; actions are read, write and execute."""

_SCHEME = "remote-gpu "
_LONGEST_WAIT = 300.0
_Value = TypeVar("_Value")
_Method = TypeVar("_Method", bound=Callable[..., Any])


def authorized(method: _Method) -> _Method:
    """For each method of a handler: somebody is logged in, and the server's authorizer lets him do this."""
    return cast("_Method", authenticated(jupyter_authorized(method)))


class Handler(APIHandler):
    """Base of all our handlers."""

    auth_resource = RESOURCE

    def initialize(self, parts: GatewayParts | RemoteGpuError) -> None:
        """`parts` is an error when the gateway could not be set up: then each request answers with it."""
        self._parts = parts
        self._is_owner = False

    @property
    def parts(self) -> GatewayParts:
        """The gateway's objects."""
        if isinstance(self._parts, RemoteGpuError):
            raise self._parts
        return self._parts

    @property
    def authorizer(self) -> Authorizer:
        """Who came in by the Unix socket is the user whom this process belongs to, and may do what it may."""
        return AllowAllAuthorizer() if self._is_owner else super().authorizer

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler itself has it
        """Find out who asks; everybody unknown gets 403."""
        given = self.request.headers.get("Authorization", "")
        if given.startswith(_SCHEME):
            self._let_in(given[len(_SCHEME) :])
            return
        await super().prepare()
        if not self.current_user:
            raise HTTPError(403, "Forbidden")

    def _let_in(self, secret: str) -> None:
        expected = self.parts.secret.encode()
        if self._peer_socket() is None or not hmac.compare_digest(secret.encode(), expected):
            self.current_user = self._jupyter_current_user = None
            raise NotAllowed("The secret is not this gateway's.", hint="It is in the gateway's runtime file.")
        self._is_owner = True
        self.current_user = self._jupyter_current_user = User(self.parts.user)

    def check_xsrf_cookie(self) -> None:
        """A request with an Authorization header of ours was not sent by a browser's form: nothing to check."""
        if not self.request.headers.get("Authorization", "").startswith(_SCHEME):
            super().check_xsrf_cookie()

    def peer(self) -> int:
        """The process at the other end of the Unix socket; 0 when it came another way or the system does not say."""
        found = self._peer_socket()
        if found is None or not hasattr(socket, "SO_PEERCRED"):
            return 0
        credentials = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])

    def _peer_socket(self) -> socket.socket | None:
        stream = getattr(self.request.connection, "stream", None)
        found: socket.socket | None = getattr(stream, "socket", None)
        return found if found is not None and found.family == socket.AF_UNIX else None

    # what a request says

    def body(self) -> dict[str, Any]:
        """The request's JSON object ({} without a body); raises `UsageProblem` for anything else."""
        if not self.request.body.strip():
            return {}
        try:
            value = json.loads(self.request.body)
        except ValueError as error:
            raise UsageProblem(f"The request's body is not JSON: {error}.") from error
        if not isinstance(value, dict):
            raise UsageProblem("The request's body is not a JSON object.")
        return value

    def seconds(self, value: object, default: float = 0.0) -> float:
        """A waiting time, at most five minutes; raises `UsageProblem` when it is no number."""
        if value is None or value == "":
            return default
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number) or number < 0:
            raise UsageProblem(f"{value!r} is not a number of seconds.")
        return min(number, _LONGEST_WAIT)

    def typed(self, body: dict[str, Any], name: str, kind: type[_Value]) -> _Value | None:
        """The value of `name` in `body`, None when it is missing or null; raises `UsageProblem` for another type."""
        value = body.get(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UsageProblem(f"{name!r} must be of type {kind.__name__}, not {type(value).__name__}.")
        return value

    def only(self, body: dict[str, Any], kind: type | set[str]) -> None:
        """Raise `UsageProblem` when `body` has a name that is not known (`kind`: a dataclass or the names)."""
        known = kind if isinstance(kind, set) else {each.name for each in fields(kind)}
        unknown = sorted(set(body) - known)
        if unknown:
            raise UsageProblem(f"{unknown[0]!r} is not known here.", hint=f"Known: {', '.join(sorted(known))}.")

    # what is answered

    def answer(self, value: dict[str, Any] | None, status: int = 200) -> None:
        """Send `value` as JSON, or 204 and nothing."""
        self.set_status(status if value is not None else 204)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(value) if value is not None else None)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Our own errors are answers, not accidents: no traceback in the log."""
        if isinstance(value, RemoteGpuError):
            self.log.info("%s %s: %s", self.request.method, self.request.path, value.message)
            return
        super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with problem+json (RFC 9457)."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, RemoteGpuError):
            problem = error.problem()
        else:
            title = (
                getattr(error, "log_message", None) or self._reason
                if isinstance(error, HTTPError)
                else "The gateway has an error; its log has more."
            )
            kind = {401: "not_allowed", 403: "not_allowed", 404: "usage", 405: "usage", 400: "usage"}.get(status_code, "error")
            problem = {"type": "about:blank", "title": title, "status": status_code, "reason": kind, "hint": "", "details": {}}
        self.set_status(problem["status"])
        self.finish(json.dumps({**problem, "message": problem["title"]}), set_content_type="application/problem+json")
