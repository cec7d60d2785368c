"""Waits for a session that starts, for as long as its queue takes: shows how it stands, and asks what the login to its cluster wants to know."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from remote_gpu.errors import AccessRefused, GatewayUnavailable, RemoteGpuError, StartFailed, from_problem
from remote_gpu.failures import StoppedWaiting, plain
from remote_gpu.gateway import Gateway, SessionInfo
from remote_gpu.output import Output
from remote_gpu.prompts import Prompts
from remote_gpu.record import duration
from remote_gpu.waiting import wait_for

__all__ = ["Starting"]

_SOON = 1.0  # seconds in which a start is over where nothing has to be waited for: nothing is shown of it
_LOOK = 20.0  # seconds of one long poll; there is no limit to how many
_FAILS = 5.0  # seconds that a login may take to fail once its question is refused
_AGAIN = (0.2, 1.0, 3.0, 10.0)  # seconds before each further question to a gateway that does not answer: it may be replaced


class Starting:
    """Starts sessions for one shell. Only the thread of the cells may use it: it may ask the user."""

    def __init__(self, gateway: Callable[[], Gateway], prompts: Prompts, output: Output) -> None:
        self._gateway = gateway
        self._prompts = prompts
        self._output = output

    def start(self, body: Mapping[str, Any]) -> SessionInfo:
        """Find or start the session that `body` describes (see `Gateway.start_session`), and wait until it runs.

        Raises `StartFailed` and its like when it does not, `AccessRefused` when the user would have to answer and does not, `StoppedWaiting` after
        Ctrl-C: the request then stays.
        """
        began = time.monotonic()
        try:
            info = self._gateway().start_session(wait=_SOON, **body)
        except KeyboardInterrupt:
            message = "Stopped waiting while the session was asked for."
            raise plain(StoppedWaiting(message, hint="It may start all the same; %remote_gpu sessions tells.")) from None
        if info.pending:
            info = self._waited(info, began)
        if info.over:
            raise _failure(info)
        return info

    def _waited(self, info: SessionInfo, began: float) -> SessionInfo:
        wait, running = wait_for(self._output), ""
        try:
            while info.pending:
                if self._prompts.new(info.prompts):
                    wait.pause()
                    self._ask(info)
                elif info.detail:
                    wait.show(f"{info.cluster}: {info.detail}")
                info = self._look(info)
            running = (
                "" if info.over else f"{info.cluster}: running on {info.node or info.cluster} after {duration(time.monotonic() - began)}."
            )
        except KeyboardInterrupt:
            raise _stopped(info) from None
        finally:
            wait.end(running)
        return info

    def _ask(self, info: SessionInfo) -> None:
        try:
            self._prompts.serve(info.prompts, info.cluster)
        except AccessRefused:
            self._settled(info)
            raise

    def _settled(self, info: SessionInfo) -> None:
        """Give a login that was refused the time to fail, so that the next cell does not find what is left of it."""
        until = time.monotonic() + _FAILS
        with contextlib.suppress(RemoteGpuError, KeyboardInterrupt):
            while info.pending and (left := until - time.monotonic()) > 0:
                info = self._gateway().session(info.id, wait=left, seen=info.stamp or info.state)

    def _look(self, info: SessionInfo) -> SessionInfo:
        """The session as soon as it is another. A gateway may be replaced while a queue is waited in: what was asked for stays."""
        for pause in (*_AGAIN, None):
            try:
                return self._gateway().session(info.id, wait=_LOOK, seen=info.stamp or info.state)
            except GatewayUnavailable as error:
                if pause is None:
                    raise plain(
                        type(error)(f"{error.message} Session {info.name!r} goes on waiting.", hint="Run the cell again.")
                    ) from None
                time.sleep(pause)
        raise AssertionError


def _stopped(info: SessionInfo) -> RemoteGpuError:
    stands = info.detail.strip().rstrip(".") or "it is starting"
    message = f"Stopped waiting for session {info.name!r} on {info.cluster} ({stands})."
    hint = f"The request stays: the next cell waits on, and %remote_gpu stop {info.name} cancels it."
    return plain(StoppedWaiting(message, hint=hint))


def _failure(info: SessionInfo) -> RemoteGpuError:
    problem = from_problem(dict(info.problem)) if info.problem else StartFailed("")
    said = (problem.message or info.detail or info.state.lower()).rstrip(".")
    return type(problem)(f"Session {info.name!r} on {info.cluster} did not start: {said}.", hint=problem.hint)
