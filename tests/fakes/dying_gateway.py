"""A gateway that kills itself: between two commands of a launch (or a stop), as a crash of its machine would.

``python dying_gateway.py BASE CLUSTER_JSON COMMAND MOMENT``: starts a session on the cluster and then ends with SIGKILL at the first command that begins with COMMAND
("login" is the login itself), ``before`` it is run or ``after`` it was run and before its answer is taken in. With COMMAND "stop-…", the session is stopped first.
Prints "went through" when nothing of the kind came.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from jupyter_remote_gpu.gateway import build
from jupyter_remote_gpu.models import AllocationState, ResourceRequest
from jupyter_remote_gpu.settings import Settings
from jupyter_remote_gpu.wishes import Wish

__all__ = ["built"]


class Dying:
    """A machine around another one, that dies at its command."""

    def __init__(self, machine, command: str, moment: str) -> None:
        self._machine = machine
        self._command = command
        self._moment = moment
        self.armed = True

    def __getattr__(self, name):
        return getattr(self._machine, name)

    def _die(self, words, moment: str) -> None:
        if self.armed and moment == self._moment and any(word == self._command for word in words):
            os.kill(os.getpid(), signal.SIGKILL)

    async def hello(self, *, ask=False):
        self._die(["login"] * ask, "before")
        found = await self._machine.hello(ask=ask)
        self._die(["login"] * ask, "after")
        return found

    async def run(self, argv, **more):
        self._die(argv, "before")
        done = await self._machine.run(argv, **more)
        self._die(argv, "after")
        return done

    async def command(self, argv):
        self._die(argv, "before")
        return await self._machine.command(argv)


def built(base: Path, cluster: dict):
    """A gateway over the registry in `base`, with one cluster."""

    async def notebook_of(_: str) -> None:
        return None

    settings = Settings(clusters={"tested": cluster}, data_folder=base / "d")
    return build(settings, kind="server", log=logging.getLogger("test"), notebook_of=notebook_of)


async def main(base: Path, cluster: dict, command: str, moment: str) -> None:
    parts = built(base, cluster)
    made = parts.clusters["tested"]
    stops = command.startswith("stop-")
    dying = Dying(made._machine, command.removeprefix("stop-"), moment)
    dying.armed = not stops
    if command != "login":  # what a login sets going is not what is tried here
        await made._machine.hello(ask=True)
        await asyncio.gather(*parts.sessions._tasks)
    for holder in (made, made.queue, made._jobs):
        holder._machine = dying
    session, _ = await parts.sessions.start(Wish(name="crash", cluster="tested", request=ResourceRequest(gpus=1)))
    while (found := await parts.sessions.get(session.id)).state is AllocationState.PENDING:
        await parts.sessions.wait(session.id, found.stamp, 5)
    if stops:
        dying.armed = True
        await parts.sessions.stop(session.id)
    print("went through", found.state, found.detail, flush=True)
    await parts.sessions.stop(session.id)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]))
