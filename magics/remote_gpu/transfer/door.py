"""Where a notebook gets its data streams: the gateway's door for them, a private Unix socket that hands descriptors out."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from remote_gpu.errors import GatewayUnavailable, LinkProblem, NotAllowed, from_problem

__all__ = ["connect_data"]

_PATIENCE = 60.0


def connect_data(gateway: Path, session: str, attachment: str) -> socket.socket:
    """The stream to the data process of `session`, for `attachment` of the gateway whose own socket is `gateway`.

    Raises what the gateway says (`NoDataStream`, `UnknownAttachment`, `SessionEnded`), `GatewayUnavailable`, or `LinkProblem`.
    """
    path = gateway.with_suffix(".data")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(_PATIENCE)
        try:
            if path.lstat().st_uid != os.getuid():
                raise NotAllowed(f"The socket {path} is not yours, so it is not used.")
            door.connect(str(path))
            door.sendall(json.dumps({"session": session, "attachment": attachment}).encode())
        except OSError as error:
            raise GatewayUnavailable(f"The gateway opens no data stream: {error.strerror or error}.") from error
        try:
            data, descriptors, _, _ = socket.recv_fds(door, 65536, 1)
        except OSError as error:
            raise LinkProblem(f"The gateway did not open a data stream: {error}.") from error
    if descriptors:
        os.set_inheritable(descriptors[0], False)  # a command of the user's must not keep the stream open
        return socket.socket(fileno=descriptors[0])
    try:
        problem = json.loads(data)
    except ValueError:
        problem = {"reason": "link", "title": "The gateway did not open a data stream."}
    raise from_problem(problem)
