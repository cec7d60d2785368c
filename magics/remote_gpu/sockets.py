"""The four sockets of one connection. Everything here runs on the pump's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import zmq

from remote_gpu.messages import Message, Signer, UnsignedMessage
from remote_gpu.pump import log

__all__ = ["Sockets"]

_BATCH = 500  # messages taken in before anything else is looked at
_KINDS = ((zmq.DEALER, "shell_port"), (zmq.DEALER, "control_port"), (zmq.DEALER, "stdin_port"), (zmq.SUB, "iopub_port"))


class Sockets:
    """Shell, control, stdin and iopub, in this order, without a limit on what may wait in them: a limit would drop."""

    def __init__(self, info: Mapping[str, Any], signer: Signer) -> None:
        self.sockets: tuple[zmq.Socket[bytes], ...] = ()
        self._info = info
        self._signer = signer

    def open(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Connect; shell and stdin share an identity, by which the kernel finds whom to ask."""
        sockets = []
        for kind, port in _KINDS:
            socket = context.socket(kind)
            socket.linger = 0
            socket.set_hwm(0)
            if kind == zmq.SUB:
                socket.subscribe(b"")
            else:
                socket.identity = self._signer.session.encode()
            socket.connect(self._address(port))
            sockets.append(socket)
        self.sockets = tuple(sockets)

    def close(self) -> None:
        """Close all."""
        for socket in self.sockets:
            socket.close(linger=0)
        self.sockets = ()

    def send(self, index: int, frames: Sequence[Any]) -> None:
        """Send one message."""
        if self.sockets:
            self.sockets[index].send_multipart(frames)

    def arrived(self, index: int, channel: str) -> list[Message]:
        """What waits on a socket, at most a batch of it; what is not ours is left out and logged."""
        messages: list[Message] = []
        if not self.sockets:
            return messages
        socket = self.sockets[index]
        with contextlib.suppress(zmq.Again):
            while len(messages) < _BATCH:
                frames = socket.recv_multipart(zmq.NOBLOCK)
                try:
                    messages.append(self._signer.unpack(channel, frames))
                except UnsignedMessage as error:
                    log.warning("A message of the remote kernel is left out: %s.", error)
        return messages

    def _address(self, port: str) -> str:
        between = "-" if self._info["transport"] == "ipc" else ":"
        return f"{self._info['transport']}://{self._info['ip']}{between}{self._info[port]}"
