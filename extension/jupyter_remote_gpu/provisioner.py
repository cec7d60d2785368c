"""A remote session as an ordinary Jupyter kernel: jupyter_client's adaptor to the gateway.

It runs in whichever process made the `KernelManager`: the Jupyter server, nbclient, a console, a plain script without a
running event loop. So it keeps no task and no socket: each step is a call of the gateway's REST API from a worker thread, in the gateway's own
process too. What a manager deletes (its front's sockets, at each shutdown and restart) is bound again before a restart returns.
When the gateway is gone, the next call finds or starts another one and attaches there under the same id, so that clients go on where they were.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Float, Unicode

from remote_gpu.discovery import GatewayRecord, find_gateway, find_or_start_gateway, read_record
from remote_gpu.errors import GatewayUnavailable, RemoteGpuError, SessionEnded, StartFailed, StartTimedOut, UnknownSession, UsageProblem
from remote_gpu.gateway import AttachmentInfo, Gateway, SessionInfo

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

__all__ = ["RemoteGpuProvisioner", "connection_info"]

_Answer = TypeVar("_Answer")
_GONE = 0  # the exit code of a kernel whose end we only know of
_CONNECTION_KEYS = ("transport", "ip", "shell_port", "iopub_port", "stdin_port", "hb_port", "control_port", "signature_scheme")


class RemoteGpuProvisioner(KernelProvisionerBase):
    """Starts, watches and ends the remote session of one `KernelManager`."""

    cluster = Unicode("auto", help="The cluster that kernels of this kernelspec start on, or `auto`.").tag(config=True)
    session = Unicode("", help="The name of a running remote session to join instead of starting one.").tag(config=True)
    start_timeout = Float(60.0, help="Seconds that a start may wait for the cluster; the request itself is kept.").tag(config=True)

    session_id: str = ""
    attachment_id: str = ""
    owner: bool = False
    """Whether shutting the kernel down ends the session; a session that was only joined goes on."""
    _home: GatewayRecord | None = None  # the gateway that serves the front
    _given_up: bool = False  # the manager does not wait for the kernel any longer

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._moving = threading.Lock()  # calls come from several threads at once, and one of them moves

    @property
    def has_process(self) -> bool:
        """True from the start until the session is over or left."""
        return bool(self.session_id)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepare a (re)start; `cmd` is asked for by the manager and not run: the kernel starts on the node."""
        kwargs.pop("extra_arguments", None)
        kwargs.pop("transport_encryption", None)
        if self.parent is not None:
            self.parent.autorestart = False  # each automatic restart would be a new, paid job
        return await super().pre_launch(cmd=list(self.kernel_spec.argv), **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:  # noqa: ARG002  the node has its own
        """Start the session, or restart the kernel in the one that is there; returns how to connect to this manager's front.

        Raises `StartTimedOut` with the place in the queue after `start_timeout` (the request is kept), `StartFailed` in the launcher's own words.
        """
        if self.session_id:
            await self._restart()
        else:
            await self._start(kwargs)
        self._given_up = False
        return self.connection_info

    async def _start(self, kwargs: Mapping[str, Any]) -> None:
        wanted = {
            "cluster": self.cluster,
            "own_kernel_id": self.kernel_id,
            "env": _own_environment(kwargs.get("env") or {}),
            "cwd": str(kwargs.get("cwd") or Path.cwd()),
            "notebook": (kwargs.get("env") or {}).get("JPY_SESSION_NAME"),
            "reuse": False,
        }
        wanted = {name: value for name, value in wanted.items() if value}
        if self.session:
            found = await self._ask(lambda gateway: gateway.session(self.session))
        else:
            found = await self._ask(lambda gateway: gateway.start_session(wait=self.start_timeout, **wanted), start=True)
            found = await self._until_it_runs(found)
        self.owner = not self.session
        _check_running(found, self.start_timeout)
        self.take(found, await self._ask(lambda gateway: self._attach(gateway, found.id), start=True))

    async def _until_it_runs(self, found: SessionInfo) -> SessionInfo:
        """A start answers early when its login asks something, which the panel or a terminal shows; wait on, to the end of the time."""
        deadline = time.monotonic() + self.start_timeout
        while found.state.lower() == "pending" and (left := deadline - time.monotonic()) > 0:
            known = found
            found = await self._ask(lambda gateway: gateway.session(known.id, wait=left, seen="pending"))  # noqa: B023  awaited at once
        return found

    def _attach(self, gateway: Gateway, session: str) -> AttachmentInfo:
        role = "owner" if self.owner else "editor"  # an editor's shutdown_request is refused: who joined ends nothing
        attached = gateway.attach(session, role=role, own_kernel_id=self.kernel_id)
        self._home = gateway.record
        return attached

    def take(self, session: SessionInfo, attachment: AttachmentInfo) -> None:
        """Be the provisioner of a session that runs already, through `attachment`."""
        self.session_id = session.id
        self.attachment_id = attachment.id
        self.connection_info = connection_info(attachment.connection_file)

    async def _restart(self) -> None:
        await self._ask(lambda gateway: gateway.restart(self.session_id), start=True)
        if self.attachment_id:
            await self._ask(lambda gateway: gateway.rebind(self.session_id, self.attachment_id))

    async def poll(self) -> int | None:
        """None while the kernel lives, and while nobody can say: a gateway that is away is not a dead kernel."""
        if not self.session_id or self._given_up:
            return _GONE
        try:
            found = await self._ask(lambda gateway: gateway.session(self.session_id), start=self._home is not None)
        except (UnknownSession, SessionEnded):
            return _GONE
        except RemoteGpuError:
            return None
        return _exit_code(found)

    async def wait(self) -> int | None:
        """Wait until the kernel has ended."""
        while (code := await self.poll()) is None:  # noqa: ASYNC110  nobody could set an event: there is no task
            await asyncio.sleep(0.1)
        return code

    async def send_signal(self, signum: int) -> None:
        """SIGINT interrupts, SIGTERM and SIGKILL end; raises `UsageProblem` for any other signal but 0."""
        if signum == signal.SIGINT:
            await self._ask(lambda gateway: gateway.interrupt(self.session_id), start=True)
        elif signum in {signal.SIGTERM, signal.SIGKILL}:
            await self.kill()
        elif signum:
            message = f"A remote kernel cannot be sent signal {signum}."
            raise UsageProblem(message, hint="Interrupt it, or shut it down.")

    async def shutdown_requested(self, restart: bool = False) -> None:  # noqa: ARG002  both leave this kernel
        """The manager has asked the kernel to end; one that does not own the session only leaves it."""
        self._given_up = not self.owner

    async def terminate(self, restart: bool = False) -> None:
        """See `kill`."""
        await self.kill(restart=restart)

    async def kill(self, restart: bool = False) -> None:  # noqa: ARG002  a manager does not always say
        """Wait for the kernel no longer. What ends it for sure follows at once: `cleanup`, or a restart in the same allocation."""
        self._given_up = True

    async def cleanup(self, restart: bool = False) -> None:
        """End the session if it is this manager's own, else leave it. May come twice; a restart keeps everything."""
        if restart or not self.session_id:
            return
        session, attachment, self.session_id, self.attachment_id = self.session_id, self.attachment_id, "", ""
        self._home = None
        try:
            if self.owner:
                await self._ask(lambda gateway: gateway.stop_session(session), start=True)
            elif attachment:
                await self._ask(lambda gateway: gateway.detach(session, attachment))
        except GatewayUnavailable as error:
            self.log.warning("The remote session %s was not told to end: %s Its idle time ends it.", session, error)
        except RemoteGpuError as error:  # it is over already, or its end is under way
            self.log.debug("Leaving the remote session %s: %s", session, error)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """What another process needs to go on with this session."""
        info = await super().get_provisioner_info()
        return {**info, "session": self.session_id, "attachment": self.attachment_id, "owner": self.owner}

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Go on with the session that `get_provisioner_info` described."""
        await super().load_provisioner_info(provisioner_info)
        self.session_id = provisioner_info["session"]
        self.attachment_id = provisioner_info["attachment"]
        self.owner = bool(provisioner_info["owner"])

    async def _ask(self, call: Callable[[Gateway], _Answer], *, start: bool = False) -> _Answer:
        return await asyncio.to_thread(self._call, call, start=start)

    def _call(self, call: Callable[[Gateway], _Answer], *, start: bool) -> _Answer:
        home = self._home and read_record(self._home.file)
        record = home or (find_or_start_gateway() if start else find_gateway())
        if record is None:
            raise GatewayUnavailable("No gateway runs on this machine.", hint="Remote sessions keep running without one.")
        with Gateway(record) as gateway:
            with self._moving:
                if self._home is not None and not _same(self._home, record):
                    self.log.info("The gateway is gone; the session %s goes on through process %d.", self.session_id, record.pid)
                    self._attach(gateway, self.session_id)
            return call(gateway)


def connection_info(file: Path) -> KernelConnectionInfo:
    """The connection file as a kernel manager wants it: the key as bytes, nothing that it would not compare.

    Raises `StartFailed` when the file is gone or is not one of a front.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        info = {name: content[name] for name in _CONNECTION_KEYS}
        info["key"] = content["key"].encode()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"The connection file {file} cannot be used: {error}."
        raise StartFailed(message, hint="Start the kernel again.") from error
    return cast("KernelConnectionInfo", info)


def _same(one: GatewayRecord, other: GatewayRecord) -> bool:
    return (one.pid, one.start_time) == (other.pid, other.start_time)


def _own_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What was set for this kernel alone: jupyter_client hands over this whole process's environment, secrets and all."""
    return {name: value for name, value in env.items() if os.environ.get(name) != value and not name.startswith("JPY_")}


def _check_running(found: SessionInfo, waited: float) -> None:
    if found.over:
        message = f"The remote session {found.name} did not start on {found.cluster}: {found.detail or found.state}."
        raise StartFailed(message, hint=f"`jupyter remote-gpu logs {found.name}` has more.")
    if found.state.lower() != "running" and found.prompts:
        message = f"The login to {found.cluster} asks something, and nobody answered within {waited:g} s."
        raise StartTimedOut(
            message, hint=f"Log in with `jupyter remote-gpu login {found.cluster}` or `%remote_gpu login`, then start the kernel again."
        )
    if found.state.lower() != "running":
        message = f"The cluster {found.cluster} did not start the kernel within {waited:g} s: {found.detail or 'it is in the queue'}."
        raise StartTimedOut(
            message, hint=f"The request is kept as session {found.name}; use it with `%%remote_gpu --session {found.name}`."
        )


def _exit_code(found: SessionInfo) -> int | None:
    if found.over:
        return _GONE
    if found.kernel.get("state") != "ended":
        return None
    code = found.kernel.get("exit_code")
    return int(code) if code is not None else _GONE
