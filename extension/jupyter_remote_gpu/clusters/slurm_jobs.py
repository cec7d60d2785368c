"""The jobs of sessions on one cluster: submitting, ending, extending them, and the files that belong to them.

A session's files lie in the user's cache folder on the cluster, which its nodes share: what it is to be (mode 0600; it may hold variables that are
nobody else's business) and what its job wrote.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import PurePosixPath

from jupyter_remote_gpu.clusters.commands import redact
from jupyter_remote_gpu.clusters.machines import Done, Hello, Machine
from jupyter_remote_gpu.clusters.node_commands import FOLDER_VARIABLE
from jupyter_remote_gpu.clusters.options import RemoteOptions
from jupyter_remote_gpu.clusters.slurm_commands import asking, submitting
from jupyter_remote_gpu.clusters.slurm_gpus import choose_type
from jupyter_remote_gpu.clusters.slurm_nodes import known_types, nodes_command, parse_nodes
from jupyter_remote_gpu.clusters.slurm_refusals import no_controller, refusal_of
from jupyter_remote_gpu.clusters.slurm_script import Batch, GpusBy, merged, options, script
from jupyter_remote_gpu.clusters.slurm_streams import node_folder_of
from jupyter_remote_gpu.clusters.slurm_submit import cancel_command, parse_submitted, submit_command
from jupyter_remote_gpu.clusters.slurm_values import NodeGroup
from jupyter_remote_gpu.models import KernelLaunch, ResourceRequest
from remote_gpu.errors import LinkProblem, NotAllowed, NotWritable, StartTimedOut

__all__ = ["Jobs"]

_LIMIT = 60.0  # seconds that a command may take which changes something
_WARN_BEFORE = 300  # seconds before the end of a job that its session says so
_NOT_WRITTEN = 98
_REQUEUE = "--requeue"
"""A configured option of its own: a job that its node is taken from waits in the queue again, and begins with an empty memory."""
_NAMED = re.compile(r'/(\w+)\.json:"name": "([^"]*)"$', re.MULTILINE)
_TAIL = 16384

# One command for the request and the job, for each takes a round trip. The first line of stdin is the request, the rest the script.
_SUBMIT = (
    f'umask 077; mkdir -p "$1" || exit {_NOT_WRITTEN}; IFS= read -r line || exit {_NOT_WRITTEN}; '
    f'printf "%s\\n" "$line" > "$2" || exit {_NOT_WRITTEN}; shift 2; exec "$@"'
)


class Jobs:
    """Those that one user gives to one cluster. All calls raise `LinkProblem` and `AccessRefused` as `Machine` does."""

    def __init__(self, machine: Machine, configured: RemoteOptions, where: str) -> None:
        self._machine = machine
        self._configured = configured
        self._where = where

    async def submit(self, request: ResourceRequest, kernel: KernelLaunch) -> str:
        """Give the job of a session to Slurm; returns its id.

        Raises `UsageProblem` or `StartFailed` in Slurm's words, `NotWritable`, `StartTimedOut` (then there may be a job all the same).
        """
        hello = await self._machine.hello()
        told, text = await self.told(request, kernel, hello)
        argv = submitting(submit_command(told))
        what = json.dumps({**kernel.json(), "inherit": True, "at_home": True})
        command = ["sh", "-c", _SUBMIT, "sh", self._folder(hello), self._path(hello, kernel.session, "json"), *argv]
        done = await self._machine.run(command, given=f"{what}\n{text}", limit=_LIMIT)
        if done.status == _NOT_WRITTEN:
            message = f"{self._machine.name} cannot write in {self._folder(hello)}: {done.err.strip()[-300:]}"
            raise NotWritable(message, hint="Is your quota on the cluster used up?")
        if done.status is None:
            message = f"sbatch did not answer within {_LIMIT:g} s on {self._where}."
            raise StartTimedOut(message, hint="Slurm may be overloaded. If the job is there, it is cancelled as soon as Slurm answers.")
        if done.status != 0:
            raise refusal_of(redact(done.err or done.out), self._where, status=done.status)
        return parse_submitted(done.out)[0]

    async def cancel(self, job_id: str) -> None:
        """End a job; one that is over is not an error."""
        done = await self._machine.run(cancel_command(job_id), limit=_LIMIT)
        if done.status != 0:
            raise self._failed("scancel", done)

    async def extend(self, job_id: str, seconds: int) -> None:
        """Move its end; raises `NotAllowed` with Slurm's words: most sites let only operators do this to a job that runs."""
        change = f"TimeLimit=+{max(1, round(seconds / 60))}"
        done = await self._machine.run(asking(["scontrol", "update", f"jobid={job_id}", change]), limit=_LIMIT)
        if done.status == 0:
            return
        if no_controller(done.err) or done.status is None:
            raise self._failed("scontrol", done)
        message = f"Slurm on {self._where} does not move the end of job {job_id}: {done.err.strip().removeprefix('slurm_update error: ')}."
        raise NotAllowed(
            message, hint="Most sites let only their operators do that. Save what you need; a new session can ask for more with --time."
        )

    async def log(self, session: str, size: int = _TAIL) -> str:
        """The last `size` bytes of what a session's job wrote; "" when there is nothing."""
        path = self._path(await self._machine.hello(), session, "log")
        done = await self._machine.run(["tail", "-c", str(size), path])
        return done.out if done.status == 0 else ""

    async def begun(self, session: str, limit: float) -> bool:
        """Whether a session's job begins within `limit` seconds: Slurm makes its log then. A file system over a network may tell late, or not at all."""
        return await self._machine.appears(self._path(await self._machine.hello(), session, "log"), limit)

    async def names(self) -> dict[str, str]:
        """The names of sessions by their ids, of those whose files are there."""
        folder = self._folder(await self._machine.hello())
        done = await self._machine.run(["grep", "-rHom1", "--include=*.json", '"name": "[^"]*"', folder])
        return {found[1]: found[2] for found in _NAMED.finditer(done.out)}

    async def forget(self, session: str) -> None:
        """Remove a session's files."""
        hello = await self._machine.hello()
        await self._machine.run(["rm", "-f", *(self._path(hello, session, ending) for ending in ("json", "log"))])

    async def nodes(self) -> tuple[NodeGroup, ...]:
        """The cluster's nodes, like ones together."""
        done = await self._machine.run(asking(nodes_command()), limit=_LIMIT)
        if done.status != 0:
            raise self._failed("sinfo", done)
        return parse_nodes(done.out)

    async def told(self, request: ResourceRequest, kernel: KernelLaunch, hello: Hello) -> tuple[list[str], str]:
        """(the options that sbatch is told for the job of a session, its script). Raises `UsageProblem`, and `LinkProblem` as `nodes` does."""
        configured = self._configured
        named = {name: getattr(configured, name) for name in ("account", "partition", "qos") if getattr(configured, name)}
        wanted = merged(request, replace(configured.request, **named))
        if wanted.gpus is None:
            wanted = replace(wanted, gpus=1)
        model = ""
        if wanted.gpus and (wanted.gpu_model or wanted.gpu_memory_mb):
            groups = [group for group in await self.nodes() if not wanted.partition or group.partition == wanted.partition]
            model = choose_type(wanted, known_types(groups), self._where)
        variables = {"LD_LIBRARY_PATH": hello.library_path} if not configured.prologue and hello.library_path else {}
        settings = [f"{name}={value}" for name, value in {**variables, FOLDER_VARIABLE: node_folder_of(hello.uid)}.items()]
        batch = Batch(
            kernel.session,
            folder=self._folder(hello),
            log=self._path(hello, kernel.session, "log"),
            command=(
                "env",
                *settings,
                hello.python,
                "-Xfrozen_modules=off",
                hello.bundle,
                "run",
                self._path(hello, kernel.session, "json"),
            ),
            prologue=configured.prologue,
            warn_before=min(_WARN_BEFORE, wanted.time // 4) if wanted.time else _WARN_BEFORE,
        )
        told = options(
            wanted,
            ResourceRequest(),
            batch=batch,
            gpus_by=GpusBy(configured.gpus_by),
            gpu_type=model,
            extra=[option for option in configured.options if option != _REQUEUE],
            requeue=_REQUEUE in configured.options,
        )
        return told, script(batch)

    @staticmethod
    def _folder(hello: Hello) -> str:
        return str(PurePosixPath(hello.bundle).parent.parent / "s")

    def _path(self, hello: Hello, session: str, ending: str) -> str:
        return f"{self._folder(hello)}/{session}.{ending}"

    def _failed(self, program: str, done: Done) -> LinkProblem:
        said = done.err.strip()[-600:] or ("it took too long" if done.status is None else f"exit status {done.status}")
        return LinkProblem(f"{program} failed on {self._where}: {said}.", hint="Slurm may be busy or away; try again in a minute.")
