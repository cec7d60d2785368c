"""The gateway's REST API for the command line: what `remote_gpu.gateway.Gateway` has, and clusters that come and go, and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self
from urllib.parse import quote

from remote_gpu.gateway import Gateway, PromptInfo

__all__ = ["CliGateway", "TaskInfo"]


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as the gateway describes it; `state` is running, done or failed."""

    id: str
    kind: str
    about: str
    state: str
    lines: tuple[str, ...]
    prompts: tuple[PromptInfo, ...]
    result: Mapping[str, Any]
    problem: Mapping[str, Any]
    stamp: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the answer's JSON."""
        known = {each.name for each in fields(PromptInfo)}
        prompts = tuple(PromptInfo(**{name: value for name, value in each.items() if name in known}) for each in data["prompts"])
        plain = {name: str(data[name]) for name in ("id", "kind", "about", "state", "stamp")}
        return cls(**plain, lines=tuple(data["lines"]), prompts=prompts, result=data["result"] or {}, problem=data["problem"] or {})


class CliGateway(Gateway):
    """Each method raises what the gateway raised."""

    def clusters_problem(self) -> Mapping[str, Any]:
        """Why the file of the user's own clusters is not as it should be; {} when it is."""
        return self._call("GET", "/clusters")["problem"] or {}

    def add_cluster(self, name: str, config: Mapping[str, Any]) -> None:
        """Write a cluster of the user's own down; it is there at once."""
        self._call("POST", "/clusters", body={"name": name, "config": dict(config)})

    def remove_cluster(self, name: str) -> None:
        """Remove one of the user's own."""
        self._call("DELETE", f"/clusters/{quote(name, safe='')}")

    def cluster_config(self, name: str) -> Mapping[str, Any]:
        """Its ``config``, and whether it is the user's ``own``."""
        found: Mapping[str, Any] = self._call("GET", f"/clusters/{quote(name, safe='')}/config")
        return found

    def begin_task(self, kind: str, **body: Any) -> TaskInfo:
        """Begin a task; `body` as in the API's description of ``POST /remote-gpu/tasks``, None for what is not said."""
        said = {name: value for name, value in body.items() if value is not None}
        return TaskInfo.of(self._call("POST", "/tasks", body={"kind": kind, **said}))

    def task(self, task: TaskInfo, *, wait: float) -> TaskInfo:
        """The task as soon as it is another than `task`, or after `wait` s."""
        return TaskInfo.of(self._call("GET", f"/tasks/{task.id}", query={"wait": wait, "seen": task.stamp}, wait=wait))

    def cancel_task(self, task: TaskInfo, *, patience: float) -> None:
        """Cancel it; the answer comes when nothing of it is left."""
        self._call("DELETE", f"/tasks/{task.id}", wait=patience)
