"""Streams to a machine, each a command of its own there; and another login when the server has no room for one more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from jupyter_remote_gpu.clusters import openssh
from jupyter_remote_gpu.clusters.machines import Machine
from jupyter_remote_gpu.data_commands import DataCommand
from remote_gpu.errors import LinkProblem
from remote_gpu.streams import CommandStream

__all__ = ["open_data", "open_stream"]

_Stream = TypeVar("_Stream")
_Open = Callable[[Sequence[str], Mapping[str, str]], Awaitable[_Stream]]


async def open_stream(machine: Machine, argv: Sequence[str]) -> CommandStream:
    """The frames that `argv`, run on `machine`, carries. Raises what `CommandStream.open` and `Machine.command` raise."""
    return await _opened(machine, argv, lambda command, env: CommandStream.open(command, env=env, cwd="/"))


async def open_data(machine: Machine, argv: Sequence[str]) -> DataCommand:
    """The data stream of `argv`, once it has begun to speak. Raises `LinkProblem` with its last words."""

    async def opened(command: Sequence[str], env: Mapping[str, str]) -> DataCommand:
        data = await DataCommand.open(command, env)
        try:
            await data.spoken()
        except BaseException:
            await data.aclose()
            raise
        return data

    return await _opened(machine, argv, opened)


async def _opened(machine: Machine, argv: Sequence[str], open_it: _Open[_Stream]) -> _Stream:
    command, env = await machine.command(argv)
    try:
        return await open_it(command, env)
    except LinkProblem as problem:
        if not openssh.is_full(str(problem)):
            raise
        if not await machine.widen():
            raise openssh.problem(machine.name, str(problem)) from problem
    command, env = await machine.command(argv)
    return await open_it(command, env)
