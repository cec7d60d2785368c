"""Tasks: ``/remote-gpu/tasks``. Looks at hosts, tests of clusters, and Pythons that are made there."""

from __future__ import annotations

from typing import Any

from jupyter_remote_gpu.clusters.base import NeedsLogin
from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.handlers.base import Handler, authorized
from jupyter_remote_gpu.looking.environment import bootstrap, check_packages
from jupyter_remote_gpu.looking.look import check_wanted, look
from jupyter_remote_gpu.looking.testing import PATIENCE, ClusterTest
from jupyter_remote_gpu.tasks import Task, TaskKind, Work
from remote_gpu.errors import UsageProblem

__all__ = ["TaskHandler", "TasksHandler"]


class TasksHandler(Handler):
    """All of them."""

    @authorized
    async def post(self) -> None:
        """Begin one; answers at once."""
        body, tasks = self.body(), self.parts.tasks
        kind = self._kind(body)
        about, work = {TaskKind.LOOK: self._look, TaskKind.TEST: self._test, TaskKind.BOOTSTRAP: self._bootstrap}[kind](body)
        running = tasks.running(kind, about) if kind is not TaskKind.LOOK else None
        if running is not None:
            raise UsageProblem(f"A {kind} of {about} runs already.", hint=f"Wait for it, or cancel the task {running.id}.", task=running.id)
        self.answer(tasks.begin(kind, about, work).json(), 201)

    def _kind(self, body: dict[str, Any]) -> TaskKind:
        kind = self.typed(body, "kind", str)
        if kind not in set(TaskKind):
            raise UsageProblem(f"There is no kind of task {kind!r}.", hint=f"Kinds: {', '.join(TaskKind)}.")
        return TaskKind(kind)

    def _look(self, body: dict[str, Any]) -> tuple[str, Work]:
        """Look at ``host``; ``config`` has what of the configuration is decided already, ``cluster`` the name that it is to have."""
        self.only(body, {"kind", "host", "config", "cluster"})
        host, config, name = self._host(body), self.typed(body, "config", dict) or {}, self.typed(body, "cluster", str)
        check_wanted(host, config)
        if name is not None:
            self.parts.clusters.configurations.check_new(name, config)
        login = self.parts.logins.of(host)

        async def work(task: Task) -> dict[str, Any]:
            task.login = login
            return (await look(login, config, task.say)).json()

        return host, work

    def _test(self, body: dict[str, Any]) -> tuple[str, Work]:
        """Test ``cluster``; with ``config``, as it would be."""
        self.only(body, {"kind", "cluster", "config", "wait"})
        name, config = self._cluster(body), self.typed(body, "config", dict)
        parts, patience = self.parts, float(self.typed(body, "wait", int) or PATIENCE)
        if config is not None:
            parts.clusters.check(name, config)
        else:
            parts.clusters.configured(name)
        owner = self.current_user.username

        async def work(task: Task) -> dict[str, Any]:
            def follow(login: Login | None) -> None:
                task.login = login

            return await ClusterTest(name, parts.clusters, parts.sessions, task.say, follow, patience, owner).run(config)

        return name, work

    def _bootstrap(self, body: dict[str, Any]) -> tuple[str, Work]:
        """Make a Python for ``cluster``, whose configuration then names it; or on ``host``, which is no cluster yet."""
        self.only(body, {"kind", "cluster", "host", "config", "version", "packages"})
        version, packages = self.typed(body, "version", str) or "", self.typed(body, "packages", list) or []
        check_packages(version, [str(package) for package in packages])
        config = self.typed(body, "config", dict) or {}
        name, clusters = self.typed(body, "cluster", str), self.parts.clusters
        if name is not None:
            config = dict(clusters.configurations.own_config(name))
            login = self._login_to(name)
        else:
            check_wanted(self._host(body), config)
            login = self.parts.logins.of(self._host(body))

        async def work(task: Task) -> dict[str, Any]:
            task.login = login
            made = await bootstrap(login, config, task.say, version=version, packages=packages)
            if name is not None:
                prologue = {"prologue": made["prologue"]} if made["prologue"] else {}
                clusters.change(name, {"python": made["python"], **prologue})
                task.say(f"The cluster {name} uses it from now on.")
            return made

        return login.host, work

    def _login_to(self, name: str) -> Login:
        cluster = self.parts.clusters[name]
        if not isinstance(cluster, NeedsLogin) or cluster.login is None:
            raise UsageProblem(
                f"The cluster {name} is not behind a login.", hint="Make the environment on this machine, and name its Python."
            )
        return cluster.login

    def _host(self, body: dict[str, Any]) -> str:
        if not (host := self.typed(body, "host", str)):
            raise UsageProblem("'host' is missing.", hint="A name of your ~/.ssh/config, or user@host.")
        return host

    def _cluster(self, body: dict[str, Any]) -> str:
        if not (name := self.typed(body, "cluster", str)):
            raise UsageProblem("'cluster' is missing.", hint="`jupyter remote-gpu clusters` lists them.")
        return name


class TaskHandler(Handler):
    """One task."""

    @authorized
    async def get(self, task: str) -> None:
        """It as it is; with ``?wait=SECONDS&seen=STAMP``, as soon as it is another."""
        wait, seen = self.seconds(self.get_query_argument("wait", None)), self.get_query_argument("seen", "")
        found = await self.parts.tasks.wait(task, seen, wait) if wait else self.parts.tasks.get(task)
        self.answer(found.json())

    @authorized
    async def delete(self, task: str) -> None:
        """Cancel it; answers when nothing of it is left."""
        await self.parts.tasks.cancel(task)
        self.answer(None)
