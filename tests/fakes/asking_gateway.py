"""A plain gateway with a queue, and with a login that asks: sessions start in the steps of a script, and a login wants the right answer.

``load(shell, *steps)`` loads the magics with it, ``load_local(shell)`` with the user's real gateway and that login; the code of a notebook's
cells can look at what it was asked and told.
"""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.plain_gateway import PlainGateway

from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.errors import AccessRefused, NotAllowed, UnknownPrompt
from remote_gpu.gateway import Gateway, LoginInfo, PromptInfo, SessionInfo

RIGHT = "the right answer"


@dataclass(frozen=True)
class Step:
    """How a session that starts stands: until somebody looks again, until `ask` (kind, text) is answered, or for ever."""

    detail: str = ""
    ask: tuple[str, str] | None = None
    for_ever: bool = False


class AskingLogin:
    """The methods of a gateway that are about logins: one login, to `host`, asks what `asks` has. `works` is touched when it works."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answers: list[str] = []
        self.refused: list[str] = []
        self.begun = 0
        self.host = LoginInfo("host.example", ("plain", "local"), "in", stamp="0")
        self.asks = [("secret", "(me@host.example) Password:")]
        self.works = Path()
        self._prompts: dict[str, PromptInfo] = {}
        self._news = threading.Condition()
        self._count = 0

    def logins(self) -> tuple[LoginInfo, ...]:
        return (self.host,)

    def login(self, name: str, *, wait: float | None = None, seen: str | None = None) -> LoginInfo:
        if wait is not None and self.host.stamp == seen and self.host.state == "trying":
            with self._news:
                self._news.wait_for(lambda: self.host.stamp != seen, timeout=wait)
        return self.host

    def begin_login(self, name: str) -> LoginInfo:
        self.begun += 1
        before = self.host
        if self.host.state not in ("in", "trying"):
            self._host("trying", prompts=tuple(self._asked(*each) for each in self.asks))
        return before

    def end_login(self, name: str) -> None:
        self._host("out")

    def answer(self, prompt: str, text: str) -> None:
        found = self._taken(prompt)
        self.answers.append(text)
        if self.host.state == "trying" and found in self.host.prompts:
            rest = tuple(each for each in self.host.prompts if each != found)
            if text not in (RIGHT, "yes"):
                self._host("refused", "Permission denied (password).")
            elif rest:
                self._host("trying", prompts=rest)
            else:
                self._logged_in()

    def refuse(self, prompt: str) -> None:
        found = self._taken(prompt)
        self.refused.append(found.text)
        if self.host.state == "trying":
            self._host("refused", "Permission denied (password).")

    def _logged_in(self) -> None:
        self._host("in")
        if self.works.name:
            self.works.touch()

    def _host(self, state: str, detail: str = "", prompts: tuple[PromptInfo, ...] = ()) -> None:
        with self._news:
            stamp = str(int(self.host.stamp) + 1)
            self.host = dataclasses.replace(self.host, state=state, detail=detail, prompts=prompts, stamp=stamp)
            self._news.notify_all()

    def _asked(self, kind: str, text: str) -> PromptInfo:
        self._count += 1
        prompt = PromptInfo(f"p{self._count}", "host.example", text, kind)
        if kind != "notice":
            self._prompts[prompt.id] = prompt
        return prompt

    def _taken(self, prompt: str) -> PromptInfo:
        with self._news:
            found = self._prompts.pop(prompt, None)
            self._news.notify_all()
        if found is None:
            raise UnknownPrompt("That question is not waiting any more.")
        return found

    def vanish(self) -> None:
        """As if what is asked had been answered elsewhere."""
        with self._news:
            self._prompts.clear()
            self._news.notify_all()


class AskingGateway(AskingLogin, PlainGateway):
    """A plain gateway with a queue and that login."""

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self.steps = list(steps)
        self.bodies: list[dict[str, Any]] = []
        self.extended: list[int] = []
        self.starts = 0
        self.stopped: list[str] = []
        self._at = 0

    def start_session(self, *, name: str = "default", cluster: str = "auto", **body: Any) -> SessionInfo:
        self.bodies.append({"name": name, "cluster": cluster, **body})
        known = next((each for each in self._sessions.values() if each.name == name and not each.over), None)
        if known is not None or not self.steps:
            return known or self._granted(super().start_session(name=name, cluster=cluster))
        self._at, self._count, self.starts = 0, self._count + 1, self.starts + 1
        info = SessionInfo(f"pending{self._count}", name, "plain", state="pending", notebook=str(body.get("notebook", "")))
        self._sessions[info.id] = info
        return self._stands(info)

    def session(self, session: str, *, wait: float | None = None, seen: str | None = None, **_: Any) -> SessionInfo:
        info = super().session(session)
        if not info.pending or wait is None or info.stamp != seen:
            return info
        step = self.steps[self._at]
        if step.ask is not None and step.ask[0] != "notice":
            with self._news:
                self._news.wait_for(lambda: not self._prompts or self.refused, timeout=wait)
            if self.refused:
                problem = AccessRefused("Permission denied.").problem()
                return self._kept(dataclasses.replace(info, state="failed", prompts=(), problem=problem))
            if self._prompts:
                return info
        elif step.for_ever:
            threading.Event().wait(wait)
            return info
        self._at += 1
        if self._at < len(self.steps):
            return self._stands(info)
        del self._sessions[info.id]
        return self._granted(PlainGateway.start_session(self, name=info.name, cluster=info.cluster))

    def _stands(self, info: SessionInfo) -> SessionInfo:
        step = self.steps[self._at]
        prompts = (self._asked(*step.ask),) if step.ask is not None else ()
        return self._kept(dataclasses.replace(info, detail=step.detail, prompts=prompts, stamp=f"step {self._at}"))

    def _granted(self, info: SessionInfo) -> SessionInfo:
        return self._kept(dataclasses.replace(info, link="connected"))

    def _kept(self, info: SessionInfo) -> SessionInfo:
        self._sessions[info.id] = info
        return info

    def change(self, name: str = "default", **facts: Any) -> None:
        """As if the gateway had heard something else of a session."""
        self._kept(dataclasses.replace(PlainGateway.session(self, name), **facts))

    def _logged_in(self) -> None:
        super()._logged_in()
        for each in tuple(self._sessions.values()):
            self._kept(dataclasses.replace(each, link="connected"))

    def stop_session(self, session: str, **_: Any) -> None:
        self.stopped.append(session)
        if session in self._kernels:
            super().stop_session(session)
        else:
            del self._sessions[session]

    def extend(self, session: str, seconds: int) -> SessionInfo:
        if not PlainGateway.session(self, session).ends:
            raise NotAllowed("Requested time limit is invalid (missing or exceeds some limit).")
        self.extended.append(seconds)
        self.change(PlainGateway.session(self, session).name, ends="2099-01-01T12:00:00Z")
        return PlainGateway.session(self, session)


class LocalGateway(AskingLogin, Gateway):
    """The real gateway of this user, with that login in place of its own: while it does not work, a session's link is lost."""

    def session(self, session: str, **more: Any) -> SessionInfo:
        info = super().session(session, **more)
        return info if self.host.state == "in" else dataclasses.replace(info, link="lost")


def load(shell: Any, *steps: Step) -> AskingGateway:
    """Load the magics into `shell` with a gateway of its own."""
    from remote_gpu import magics

    gateway = AskingGateway(*steps)
    magics.load(shell, connect_gateway=lambda: gateway)  # type: ignore[arg-type, return-value]
    return gateway


def load_local(shell: Any) -> LocalGateway:
    """Load the magics into `shell` with the real gateway, which is started."""
    from remote_gpu import magics

    gateway = LocalGateway(find_or_start_gateway(timeout=90))
    magics.load(shell, connect_gateway=lambda: gateway)
    return gateway
