"""The configuration of a cluster that is reached by ssh or through Slurm: checked once, with the nearest name for a mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from jupyter_remote_gpu.models import ClusterKind, ResourceRequest
from remote_gpu.errors import UsageProblem

__all__ = ["DataWay", "RemoteOptions", "StreamWay", "read_options", "request_from"]

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:%+-]*")
_OF_SSH = ("host", "python", "prologue", "request", "scratch")
_OF_SLURM = (*_OF_SSH, "account", "partition", "qos", "gpus_by", "options", "stream", "data")


class StreamWay(StrEnum):
    """How messages reach a session in a job: by a step of the job (``srun --overlap``), or by ssh from the login node to the job's node."""

    SRUN = "srun"
    SSH = "ssh"


class DataWay(StrEnum):
    """How arrays and files do; AUTO takes the widest that works."""

    AUTO = "auto"
    SSH = "ssh"
    SCRATCH = "scratch"
    SRUN = "srun"


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """What can be configured. `host` as ssh knows it ("": this machine); `request` is what a session gets that asks for nothing."""

    host: str = ""
    python: str = "python3"
    prologue: tuple[str, ...] = ()
    request: ResourceRequest = field(default_factory=ResourceRequest)
    scratch: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    gpus_by: str = "gpus-per-node"
    options: tuple[str, ...] = ()
    stream: StreamWay = StreamWay.SRUN
    data: DataWay = DataWay.AUTO


def read_options(name: str, kind: str, given: Mapping[str, Any]) -> RemoteOptions:
    """The options of the cluster `name`; raises `UsageProblem` that says which setting is wrong and what it may be."""
    known = _OF_SLURM if kind == ClusterKind.SLURM else _OF_SSH
    where = f"The cluster {name!r}"
    for key in given:
        if key not in (*known, "kind"):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"A cluster of kind {kind} knows {', '.join(known)}."
            raise UsageProblem(f"{where} has the unknown setting {key!r}.", hint=hint)
    values: dict[str, Any] = {}
    for each in fields(RemoteOptions):
        if each.name in given:
            values[each.name] = _value(where, each.name, given[each.name])
    options = RemoteOptions(**values)
    if options.host and not _HOST.fullmatch(options.host):
        raise UsageProblem(
            f"{where}: {options.host!r} is not a host as ssh knows one.", hint="Give a name of your ~/.ssh/config, or user@host."
        )
    if kind == ClusterKind.SSH and not options.host:
        raise UsageProblem(f"{where} has no host.", hint="Set `host` to a name of your ~/.ssh/config, or to user@host.")
    return options


def _value(where: str, name: str, value: Any) -> Any:
    if name == "request":
        return request_from(value, where)
    if name in ("prologue", "options"):
        lines = value.splitlines() if isinstance(value, str) else value
        if not isinstance(lines, Sequence) or not all(isinstance(line, str) and "\n" not in line for line in lines):
            raise UsageProblem(f"{where}: `{name}` must be a list of lines.")
        return tuple(line.strip() for line in lines if line.strip())
    if not isinstance(value, str):
        raise UsageProblem(f"{where}: `{name}` must be a text, not {value!r}.")
    kinds: dict[str, type[StrEnum]] = {"stream": StreamWay, "data": DataWay}
    if (kind := kinds.get(name)) is not None:
        if value not in set(kind):
            raise UsageProblem(f"{where}: `{name}` cannot be {value!r}.", hint=f"It may be {', '.join(kind)}.")
        return kind(value)
    return value.strip()


def request_from(value: Any, where: str) -> ResourceRequest:
    """A `ResourceRequest` from its JSON; raises `UsageProblem`, whose message begins with `where`."""
    if not isinstance(value, Mapping):
        raise UsageProblem(f"{where}: a request is an object, not {value!r}.")
    types: dict[str, type] = {each.name: _TYPES[str(each.type).split(" ")[0]] for each in fields(ResourceRequest)}
    given: dict[str, Any] = {}
    for key, content in value.items():
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1)
            raise UsageProblem(
                f"{where}: a request has no {key!r}.", hint=f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(types)}."
            )
        if content is None:
            continue
        if not isinstance(content, types[key]) or (isinstance(content, bool) and types[key] is not bool):
            raise UsageProblem(f"{where}: {key!r} must be of type {types[key].__name__}, not {content!r}.")
        if isinstance(content, int) and content < 0:
            raise UsageProblem(f"{where}: {key!r} cannot be negative.")
        given[key] = content
    return ResourceRequest(**given)


_TYPES: dict[str, type] = {"int": int, "str": str, "bool": bool}
