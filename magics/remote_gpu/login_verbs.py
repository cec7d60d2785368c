"""`%remote_gpu login` and `%remote_gpu logout`, and what `%remote_gpu status` says of a login."""

from __future__ import annotations

from remote_gpu.arguments import LineError, Place, VerbLine, nearest
from remote_gpu.errors import LinkProblem, RemoteGpuError
from remote_gpu.gateway import LoginInfo
from remote_gpu.sessions import Sessions
from remote_gpu.times import clock, moment

__all__ = ["LoginVerbs"]

_STATES = {"out": "not logged in", "trying": "logging in", "refused": "needs you"}


class LoginVerbs:
    """Those of one notebook kernel."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def login(self, line: VerbLine) -> str:
        """Log in, asking the user here; returns to where. Raises `AccessRefused`, `LinkProblem`."""
        name = self._named(line)
        try:
            login = self._sessions.logins.log_in(name)
        except LinkProblem as error:
            if near := self._near(name):
                raise type(error)(error.message, hint=f"{error.hint} {near}".strip()) from None
            raise
        until = f" Your certificate ends {clock(moment(login.expires))}." if login.expires else ""
        return f"Logged in to {login.host}.{until}"

    def logout(self, line: VerbLine) -> str:
        """Log out; returns of where."""
        name, gateway = self._named(line), self._sessions.gateway
        host = gateway.login(name).host
        gateway.end_login(name)
        return f"Logged out of {host}; sessions there go on."

    def stands(self, cluster: str) -> str:
        """How the login to a cluster stands, in words; "" while it works, and where there is none."""
        try:
            logins = self._sessions.gateway.logins()
        except RemoteGpuError:
            return ""
        login = next((each for each in logins if cluster in each.clusters), None)
        return _described(login) if login is not None and login.state != "in" else ""

    def _named(self, line: VerbLine) -> str:
        """The cluster that is meant: the line's, else this notebook's, else the only one that has a login."""
        if line.cluster:
            return line.cluster
        current = self._sessions.current() or next(iter(self._sessions.known()), None)
        name = current.info.cluster if current is not None else self._sessions.resolved(Place()).cluster
        names = list(dict.fromkeys(cluster for login in self._sessions.gateway.logins() for cluster in login.clusters))
        if name in names or (name and not names):
            return name
        if len(names) == 1:
            return names[0]
        if not names:
            raise LineError("No cluster of yours needs a login.")
        raise LineError(f"Which cluster? %remote_gpu {line.verb} NAME, with one of: {', '.join(names)}.")

    def _near(self, name: str) -> str:
        """The cluster that may have been meant by `name`, which is none but may be a host's."""
        names = [each.name for each in self._sessions.gateway.clusters()]
        return "" if name in names else nearest(name, names).strip()


def _described(login: LoginInfo) -> str:
    how = _STATES.get(login.state, login.state)
    asks = f"; it asks: {login.prompts[0].text}" if login.prompts else ""
    return f"login to {login.host}: {how}{asks}" + (f". {login.detail}" if login.detail and login.state == "refused" else "")
