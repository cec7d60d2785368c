"""Every error that this project raises on purpose, in one tree.

::

    RemoteGpuError                     500  what happened, where, and what to try
    ├── UsageProblem                   400  the request itself is wrong
    │   ├── UnknownCluster             404
    │   ├── UnknownSession             404
    │   ├── UnknownAttachment          404
    │   ├── UnknownPrompt              404
    │   └── NameTaken                  409
    ├── NotAllowed                     403  the role or the user may not do this
    ├── GatewayUnavailable             503  no gateway answers, or it went away
    ├── StartFailed                    502  a session did not start; says at which step
    │   ├── NoKernelPackage            502  the node's Python has no ipykernel
    │   ├── StartTimedOut              504
    │   └── NotWritable                507  a folder or disk is full or not writable
    ├── SessionEnded                   410  the session is over; says why
    ├── KernelDied                     410  the remote kernel ended during the cell; says why
    ├── NoRoom                         507  an object is too large for the memory or disk that is free; nothing was sent
    ├── NoDataStream                   501  the cluster has no stream for arrays and files
    └── LinkProblem                    502  the connection to the node
        ├── AccessRefused              502  the login to the cluster failed; never tried again by itself
        ├── BadFrame                   502  bytes that are not our protocol
        ├── VersionMismatch            502  the two ends speak different versions
        └── JournalGap                 410  output that the journal no longer holds

An error is a sentence for the user. ``reason`` is a short label for JSON and metrics, ``hint`` says what to try,
``status`` is the HTTP status that the gateway answers with (problem+json, RFC 9457). Errors cross the HTTP border
by their ``reason`` (see `from_problem`), so a client raises the class that the gateway raised.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AccessRefused",
    "BadFrame",
    "GatewayUnavailable",
    "JournalGap",
    "KernelDied",
    "LinkProblem",
    "NameTaken",
    "NoDataStream",
    "NoKernelPackage",
    "NoRoom",
    "NotAllowed",
    "NotWritable",
    "RemoteGpuError",
    "SessionEnded",
    "StartFailed",
    "StartTimedOut",
    "UnknownAttachment",
    "UnknownCluster",
    "UnknownPrompt",
    "UnknownSession",
    "UsageProblem",
    "VersionMismatch",
    "from_problem",
]


class RemoteGpuError(Exception):
    """The root: `message` says what happened and where, `hint` what to try; both are for the user's eyes."""

    reason: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def problem(self) -> dict[str, Any]:
        """The body of an HTTP answer, as problem+json (RFC 9457) with our `reason`, `hint` and `details`."""
        return {
            "type": f"about:blank#{self.reason}",
            "title": self.message,
            "status": self.status,
            "reason": self.reason,
            "hint": self.hint,
            "details": self.details,
        }


class UsageProblem(RemoteGpuError):
    """The request itself is wrong; repeating it cannot help."""

    reason = "usage"
    status = 400


class UnknownCluster(UsageProblem):
    """No cluster has that name."""

    reason = "unknown_cluster"
    status = 404


class UnknownSession(UsageProblem):
    """No remote session has that name or id."""

    reason = "unknown_session"
    status = 404


class UnknownAttachment(UsageProblem):
    """The session has no such attachment (any more)."""

    reason = "unknown_attachment"
    status = 404


class UnknownPrompt(UsageProblem):
    """A login does not wait for that answer (any more)."""

    reason = "unknown_prompt"
    status = 404


class NameTaken(UsageProblem):
    """Another remote session already has that name."""

    reason = "name_taken"
    status = 409


class NotAllowed(RemoteGpuError):
    """The role of the attachment, or the user, may not do this."""

    reason = "not_allowed"
    status = 403


class GatewayUnavailable(RemoteGpuError):
    """No gateway answers on this machine, or it went away during the call."""

    reason = "gateway_unavailable"
    status = 503


class StartFailed(RemoteGpuError):
    """A session did not start; the message says at which step and in the launcher's own words."""

    reason = "start_failed"
    status = 502


class NoKernelPackage(StartFailed):
    """The node's Python cannot import ipykernel."""

    reason = "no_ipykernel"


class StartTimedOut(StartFailed):
    """The launch command did not answer in its time."""

    reason = "start_timed_out"
    status = 504


class NotWritable(StartFailed):
    """A folder on the node (or here) is full, missing or not writable."""

    reason = "not_writable"
    status = 507


class SessionEnded(RemoteGpuError):
    """The remote session is over; the message says why."""

    reason = "session_ended"
    status = 410


class KernelDied(RemoteGpuError):
    """The remote kernel ended while a cell ran; the message says why."""

    reason = "kernel_died"
    status = 410


class NoRoom(RemoteGpuError):
    """An object is too large for what is free, on the node or here; said before it is sent."""

    reason = "no_room"
    status = 507


class NoDataStream(RemoteGpuError):
    """The cluster has no stream for arrays and files; they go with the messages."""

    reason = "no_data_stream"
    status = 501


class LinkProblem(RemoteGpuError):
    """The connection between gateway and node."""

    reason = "link"
    status = 502


class AccessRefused(LinkProblem):
    """The login to the cluster failed. It is not tried again by itself: repeated failures lock accounts."""

    reason = "access_refused"


class BadFrame(LinkProblem):
    """Bytes arrived that are not our protocol; the message holds their beginning."""

    reason = "bad_frame"


class VersionMismatch(LinkProblem):
    """The two ends speak versions of the link protocol that do not fit."""

    reason = "version_mismatch"


class JournalGap(LinkProblem):
    """Output was asked for that the journal no longer holds; `details` has `first` and `last`, inclusive."""

    reason = "journal_gap"
    status = 410


def _tree(root: type[RemoteGpuError]) -> dict[str, type[RemoteGpuError]]:
    found = {root.reason: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def from_problem(problem: dict[str, Any]) -> RemoteGpuError:
    """The error that a problem+json body describes; an unknown `reason` becomes a plain `RemoteGpuError`."""
    kind = _tree(RemoteGpuError).get(str(problem.get("reason")), RemoteGpuError)
    title = str(problem.get("title") or problem.get("message") or "the gateway answered with an error")
    return kind(title, hint=str(problem.get("hint") or ""), **(problem.get("details") or {}))
