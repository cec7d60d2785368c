"""Ways from the gateway into a job: a step of the job, or ssh from the login node to the job's node."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jupyter_remote_gpu.clusters.options import StreamWay
from jupyter_remote_gpu.models import Allocation
from remote_gpu.errors import LinkProblem, SessionEnded
from remote_gpu.frames import Frame, Kind
from remote_gpu.streams import CommandStream

if TYPE_CHECKING:
    from remote_gpu.streams import FrameStream

__all__ = ["Primed", "node_folder_of", "primed", "within_job"]

_DESCRIBES = 5.0  # seconds that a supervisor has to say where it runs


def node_folder_of(uid: int) -> str:
    """The base folder of sessions on a compute node. Said to both ends: a site's TMPDIR differs between a job and a step of it."""
    return f"/tmp/jrg-{uid}"  # noqa: S108  the node's half checks that it is private


def within_job(way: StreamWay, allocation: Allocation, argv: Sequence[str]) -> list[str]:
    """The command for the login node that runs `argv` beside the supervisor of `allocation`, and carries its stdin and stdout.

    A step may overlap what runs: it asks for no resources of its own (srun(1)).
    """
    if way is StreamWay.SSH:
        options = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "LogLevel=ERROR", "-T")
        return ["ssh", *options, "--", allocation.node, f"exec {shlex.join(argv)}"]
    step = ("--overlap", f"--jobid={allocation.job_id}", "--nodes=1", "--ntasks=1", f"--nodelist={allocation.node}")
    return ["srun", *step, "--quiet", "--unbuffered", "--chdir=/", "--cpu-bind=none", "--mpi=none", "--", *argv]


class Primed:
    """A stream of which some frames were read already; they come first. See `FrameStream`."""

    def __init__(self, stream: CommandStream, frames: Sequence[Frame]) -> None:
        self._stream = stream
        self._frames = list(frames)

    @property
    def holds_back(self) -> bool:
        """As `FrameStream.holds_back`."""
        return self._stream.holds_back

    async def send(self, frames: Sequence[Frame]) -> None:
        """As `FrameStream.send`."""
        await self._stream.send(frames)

    async def receive(self) -> Sequence[Frame]:
        """As `FrameStream.receive`."""
        frames, self._frames = self._frames, []
        return frames or await self._stream.receive()

    async def aclose(self) -> None:
        """As `FrameStream.aclose`."""
        await self._stream.aclose()


async def primed(stream: CommandStream) -> tuple[FrameStream, dict[str, Any]]:
    """(the stream, what its supervisor says of where it runs). Raises `LinkProblem` when it breaks before."""
    frames: list[Frame] = []
    try:
        async with asyncio.timeout(_DESCRIBES):
            while True:
                came = await stream.receive()
                frames += came
                for frame in came:
                    if frame.kind is Kind.EVENT and (event := frame.json()).get("event") == "session":
                        return Primed(stream, frames), event
    except TimeoutError:  # a supervisor of an earlier version
        return Primed(stream, frames), {}
    except (LinkProblem, SessionEnded):
        await stream.aclose()
        raise
