"""Remote sessions as kernels of this server: in ``/api/kernels`` from before the first request until they are over.

At load, each session that runs gets its place among the server's kernels, under the id that it had; so do the notebooks that used it. No
network is touched for that: links attach behind, and a front is opened when a client connects. When the server stops, remote kernels are
taken out of its hands before it ends the ones that are left. All calls come from the server's event loop, or before it runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from jupyter_remote_gpu.adopted import AdoptedKernelManager
from jupyter_remote_gpu.front import Front
from jupyter_remote_gpu.front_files import ConnectionFile, remove_folder
from jupyter_remote_gpu.kernelspecs import kernel_name, write_kernelspecs
from jupyter_remote_gpu.live import Terms
from jupyter_remote_gpu.models import AllocationState, Session, SessionId
from jupyter_remote_gpu.notebooks import Notebooks
from jupyter_remote_gpu.provisioner import RemoteGpuProvisioner, connection_info
from jupyter_remote_gpu.registry import ServerKernelRow
from remote_gpu.discovery import process_start_time
from remote_gpu.errors import RemoteGpuError
from remote_gpu.folders import node_folder

if TYPE_CHECKING:
    from jupyter_remote_gpu.app import RemoteGpuApp
    from jupyter_remote_gpu.gateway import GatewayParts

__all__ = ["Adoption", "adopt", "front_id", "release"]

_KEY = "remote_gpu_adoption"  # in the web application's settings


def adopt(app: RemoteGpuApp) -> None:
    """List the running sessions as this server's kernels; called when the extension loads, before the server listens."""
    parts, server = app.gateway, app.serverapp
    if parts is None or server is None:
        return
    try:
        write_kernelspecs(parts.clusters)
    except RemoteGpuError as error:
        app.log.warning("%s", error)
    if not isinstance(server.kernel_manager, AsyncMappingKernelManager):
        app.log.warning("This server's kernel manager is not AsyncMappingKernelManager: remote sessions are not listed as its kernels.")
        return
    adoption = Adoption(parts, server.kernel_manager, server.session_manager, root=str(server.root_dir), log=app.log)
    server.web_app.settings[_KEY] = adoption
    adoption.place_all()
    server.io_loop.add_callback(adoption.connect_all)


def release(app: RemoteGpuApp) -> Awaitable[None] | None:
    """Take the remote kernels out of the server's hands, so that it does not end them; called when the server stops."""
    adoption: Adoption | None = app.serverapp.web_app.settings.pop(_KEY, None) if app.serverapp is not None else None
    if adoption is not None:
        adoption.release_all()
    return None


def front_id(kernel_id: str) -> str:
    """The attachment id of a kernel manager's front: always the same, so that the next gateway goes on where the last one was."""
    return "k" + sha256(kernel_id.encode()).hexdigest()[:7]


@dataclass(slots=True)
class _Place:
    """An adopted session's place: its manager, and its front while there is one."""

    session: SessionId
    manager: AdoptedKernelManager
    provisioner: RemoteGpuProvisioner
    opening: asyncio.Task[None] | None = None
    front: Front | None = None
    """The last front; it may be closed again."""


class Adoption:
    """The remote sessions among a server's kernels."""

    def __init__(self, parts: GatewayParts, kernels: AsyncMappingKernelManager, sessions: Any, *, root: str, log: Any) -> None:
        self._parts = parts
        self._kernels = kernels
        self._root = root
        self._log = log
        self._me = (os.getpid(), process_start_time(os.getpid()) or 0)
        self._places: dict[str, _Place] = {}
        self._known: set[str] = set()  # kernel ids whose row is written
        self._managed: dict[str, bool] = {}  # kernels with a manager's front, and whether they were asked to end
        self._notebooks = Notebooks(sessions, parts.registry, self._is_remote, log)
        self._unsubscribe = parts.sessions.subscribe(self._changed)

    # at load

    def place_all(self) -> None:
        """Give every running session its place, unless another living gateway lists it; then their notebooks."""
        rows = {row.kernel_id: row for row in self._parts.registry.server_kernels()}
        for session in self._parts.registry.sessions():
            row = rows.pop(session.kernel_id, None)
            if session.state is AllocationState.RUNNING and self._may_take(session, row):
                self._place(session, row.kernel_name if row else kernel_name(session.cluster))
        for row in rows.values():
            if not _lives(row.gateway, row.gateway_start):
                self._parts.registry.forget_server_kernel(row.kernel_id)
        self._notebooks.restore()

    def _may_take(self, session: Session, row: ServerKernelRow | None) -> bool:
        if row is None:
            return not _lives(*self._parts.registry.gateway_of(session.id))
        return row.root in ("", self._root) and not _lives(row.gateway, row.gateway_start)

    async def connect_all(self) -> None:
        """Open the links behind the places, side by side."""
        for place in list(self._places.values()):
            self._parts.sessions.spawn(self._parts.sessions.connect(place.session))

    # while the server runs

    def _changed(self, session: Session) -> None:
        kernel_id = session.kernel_id
        if session.state.over:
            self._drop(kernel_id)
        elif session.state is AllocationState.RUNNING:
            if kernel_id in self._places:
                self._show(self._places[kernel_id].manager, session)
            elif kernel_id not in self._kernels and kernel_id not in self._kernels._pending_kernels and self._is_mine(session):  # noqa: SLF001
                self._place(session, kernel_name(session.cluster))
            self._remember(session, kernel_name(session.cluster))
            self._end_with_its_manager(session)

    def _end_with_its_manager(self, session: Session) -> None:
        """End a session whose manager's process asked the kernel to end and is gone: a console does no more than that."""
        kernel_id, kernel = session.kernel_id, session.kernel or {}
        if self._parts.sessions.attachment(session.id, front_id(kernel_id)) is not None:
            self._managed[kernel_id] = kernel.get("state") == "ended" and kernel.get("reason") == "asked"
        elif self._managed.pop(kernel_id, False):
            self._parts.sessions.spawn(self._parts.sessions.stop(session.id, "Its kernel was asked to end."))

    def _is_mine(self, session: Session) -> bool:
        return session.gateway == os.getpid()

    def _is_remote(self, kernel_id: str) -> bool:
        if kernel_id not in self._kernels:
            return False
        return isinstance(self._kernels.get_kernel(kernel_id).provisioner, RemoteGpuProvisioner)

    def _remember(self, session: Session, name: str) -> None:
        if session.kernel_id in self._known or not (self._is_mine(session) or session.kernel_id in self._places):
            return
        self._known.add(session.kernel_id)
        root = "" if self._parts.kind == "headless" else self._root
        self._parts.registry.save_server_kernel(ServerKernelRow(session.kernel_id, session.id, name, root, *self._me, detail={}))

    def _place(self, session: Session, name: str) -> None:
        kernel_id = session.kernel_id
        manager, provisioner = self._manager(session, name)
        place = self._places[kernel_id] = _Place(session.id, manager, provisioner)
        manager.on_connect = lambda: self._open(place)
        self._show(manager, session)
        kernels = self._kernels
        kernels._kernels[kernel_id] = manager  # noqa: SLF001  there is no public way to add a kernel that runs
        kernels._kernel_connections[kernel_id] = 0  # noqa: SLF001
        kernels._kernel_ports[kernel_id] = manager.ports  # noqa: SLF001
        self._remember(session, name)

    def _manager(self, session: Session, name: str) -> tuple[AdoptedKernelManager, RemoteGpuProvisioner]:
        kernels = self._kernels
        specs = kernels.kernel_spec_manager
        manager = AdoptedKernelManager(
            parent=kernels,
            log=kernels.log,
            kernel_name=name if specs is None or name in specs.find_kernel_specs() else NATIVE_KERNEL_NAME,
            context=kernels.context,
            autorestart=False,
            **({} if specs is None else {"kernel_spec_manager": specs}),
        )
        manager.kernel_id = session.kernel_id
        manager.load_connection_info(_connection(session.kernel_id))
        provisioner = RemoteGpuProvisioner(kernel_id=session.kernel_id, kernel_spec=manager.kernel_spec, parent=manager)
        provisioner.session_id, provisioner.owner = session.id, True  # the server ends it only when the user says so
        provisioner.connection_info = manager.get_connection_info()
        manager.provisioner = provisioner
        manager._launch_args = {}  # noqa: SLF001  as after a start: a restart needs them
        manager._attempted_start = True  # noqa: SLF001
        manager.ready.set_result(None)
        return manager, provisioner

    def _show(self, manager: AdoptedKernelManager, session: Session) -> None:
        """What ``/api/kernels`` says; the supervisor tells it, so that no front has to listen for it."""
        kernel = session.kernel or {}
        state = str(kernel.get("state", "starting"))
        manager.execution_state = "dead" if state == "ended" else state
        manager.reason = str(kernel.get("text") or "")
        manager.last_activity = datetime.now(UTC)

    def _open(self, place: _Place) -> None:
        """Open the front that a client is about to connect to, if it is not open."""
        is_open = self._parts.sessions.attachment(place.session, front_id(place.manager.kernel_id)) is not None
        if not is_open and (place.opening is None or place.opening.done()):
            place.opening = self._parts.sessions.spawn(self._front(place))

    async def _front(self, place: _Place) -> None:
        kernel_id = place.manager.kernel_id
        identity = front_id(kernel_id)
        after = place.front.published if place.front is not None else None
        terms = Terms(after=after, name=f"kernel:{kernel_id}", identity=identity, cursor_file=True, paced=True)
        try:
            attachment, _ = await self._parts.sessions.attach(place.session, terms)
        except RemoteGpuError as error:
            self._log.warning("The kernel %s cannot be reached: %s", kernel_id, error)
            return
        place.provisioner.attachment_id = identity
        place.front = attachment.front

    def _drop(self, kernel_id: str) -> None:
        """Forget a kernel whose session is over; a shutdown under way does the rest itself."""
        self._known.discard(kernel_id)
        place = self._places.pop(kernel_id, None)
        if self._is_remote(kernel_id) and not self._kernels.get_kernel(kernel_id).shutting_down:
            self._take_out(kernel_id)
        remove_folder(node_folder("f") / front_id(kernel_id))
        if place is not None or kernel_id in {row.kernel_id for row in self._parts.registry.server_kernels()}:
            self._parts.registry.forget_server_kernel(kernel_id)

    def _take_out(self, kernel_id: str) -> None:
        kernels = self._kernels
        kernels.stop_watching_activity(kernel_id)
        kernels.stop_buffering(kernel_id)
        kernels.remove_kernel(kernel_id)
        kernels._kernel_connections.pop(kernel_id, None)  # noqa: SLF001  as jupyter_server does after a shutdown
        kernels._kernel_ports.pop(kernel_id, None)  # noqa: SLF001

    # when the server stops

    def release_all(self) -> None:
        """Remote kernels leave the server's list; their sessions go on."""
        self._unsubscribe()
        self._notebooks.close()
        for kernel_id in self._kernels.list_kernel_ids():
            if self._is_remote(kernel_id):
                self._take_out(kernel_id)
        self._places.clear()


def _connection(kernel_id: str) -> Any:
    """How to connect to the front of a kernel, before it is open; with the key that an earlier gateway gave it, if there was one."""
    return connection_info(ConnectionFile.make(node_folder("f") / front_id(kernel_id), "remote-gpu").path)


def _lives(pid: int, start_time: int) -> bool:
    try:
        return pid != os.getpid() and (process_start_time(pid) or 0) == start_time
    except (ProcessLookupError, PermissionError):
        return False
