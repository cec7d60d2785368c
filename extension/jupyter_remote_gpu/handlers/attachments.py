"""Attachments: ``/remote-gpu/sessions/SESSION/attachments``. Each has a front, and the front a connection file."""

from __future__ import annotations

import hashlib
import os

from jupyter_remote_gpu.adoption import front_id
from jupyter_remote_gpu.handlers.base import Handler, authorized
from jupyter_remote_gpu.live import Client, Terms
from jupyter_remote_gpu.models import Role
from remote_gpu.errors import UsageProblem

__all__ = ["AttachmentHandler", "AttachmentsHandler", "RebindHandler"]


class AttachmentsHandler(Handler):
    """The clients of a session."""

    @authorized
    async def post(self, session: str) -> None:
        """Attach: open a front for this client alone."""
        attachment, found = await self.parts.sessions.attach(session, self._terms())
        front = attachment.front
        file = front.connection_file
        answer = {"id": attachment.id, "connection_file": str(file), "session": found.json(), "head": front.head}
        self.answer({**answer, "fingerprint": hashlib.sha256(file.read_bytes()).hexdigest()}, 201)

    def _terms(self) -> Terms:
        body = self.body()
        self.only(body, {"role", "after", "claims", "name", "own_kernel_id", "lasting"})
        role, claims = self.typed(body, "role", str) or Role.OWNER, self.typed(body, "claims", list) or []
        after = self.typed(body, "after", int)
        if role not in set(Role):
            raise UsageProblem(f"There is no role {role!r}.", hint=f"Roles: {', '.join(Role)}.")
        if not all(isinstance(claim, str) for claim in claims) or (after is not None and after < 0):
            raise UsageProblem("'claims' must be a list of message ids, and 'after' a number of the journal.")
        peer = self.peer()
        client = Client.of(peer) if peer and not self.typed(body, "lasting", bool) else None
        own = self.typed(body, "own_kernel_id", str)
        return Terms(
            Role(role),
            after,
            tuple(claims),
            name=self.typed(body, "name", str) or "",
            client=client,
            identity=front_id(own) if own else "",
            cursor_file=bool(own),
            paced=peer == os.getpid(),
        )


class AttachmentHandler(Handler):
    """One client of a session."""

    @authorized
    async def delete(self, session: str, attachment: str) -> None:
        """Detach: close its front; the session goes on."""
        await self.parts.sessions.detach(session, attachment)
        self.answer(None)


class RebindHandler(Handler):
    """The sockets of a front."""

    @authorized
    async def post(self, session: str, attachment: str) -> None:
        """Bind them again at the same paths, after a kernel manager deleted them."""
        self.parts.sessions.rebind(session, attachment)
        self.answer({})
