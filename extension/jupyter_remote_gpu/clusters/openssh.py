"""What the OpenSSH programs are asked, and what their words mean. Pure: argument vectors out, texts in. See ssh(1), ssh_config(5).

Each ssh of ours uses the user's configuration as it is: aliases, jump hosts, keys, agent, certificates. Two kinds are run. One *logs in*: it
becomes the master of a connection that all others share (ControlMaster), and it alone may ask the user. The others open a *channel* on that
master and can do nothing else: without it they fail at once, for they have no way to the host and no way to ask.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from remote_gpu.errors import AccessRefused, LinkProblem

__all__ = ["HostConfig", "channel", "config_of", "control", "is_full", "log_in", "parse_config", "problem", "valid_until"]

PERSIST = 4 * 3600
"""Seconds that a login of ours outlives the last thing that used it."""

_OURS = (
    # nothing of the user's configuration may listen, print or run beside what was asked for
    *("-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no", "-o", "RemoteCommand=none", "-o", "RequestTTY=no"),
    *("-o", "ForwardX11=no", "-o", "LogLevel=ERROR"),
)
_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8", "-o", "ConnectTimeout=30", "-o", "NumberOfPasswordPrompts=1")


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What ssh makes of a host (``ssh -G``): where it leads, and whether the user has a ControlPath of his own ("" = none)."""

    host: str
    hostname: str = ""
    port: int = 22
    user: str = ""
    control_path: str = ""
    proxy: str = ""
    """The jump host or command that comes before it, "" when there is none."""
    identities: tuple[str, ...] = ()
    """Files of keys and certificates, with ~ for the home folder."""


def config_of(host: str) -> list[str]:
    """The command that prints a host's configuration."""
    return ["ssh", "-G", "--", host]


def parse_config(host: str, text: str) -> HostConfig:
    """What ``ssh -G`` printed: one ``keyword value`` a line, keywords in small letters."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)

    def first(keyword: str) -> str:
        value = found.get(keyword, [""])[0]
        return "" if value == "none" else value

    identities = [*found.get("certificatefile", []), *(f"{key}{end}" for key in found.get("identityfile", []) for end in ("-cert.pub", ""))]
    return HostConfig(
        host,
        hostname=first("hostname") or host,
        port=int(first("port") or 22),
        user=first("user"),
        control_path=first("controlpath"),
        proxy=first("proxyjump") or first("proxycommand"),
        identities=tuple(dict.fromkeys(identities)),
    )


def log_in(host: str, path: str, *, asks: bool, persist: int = PERSIST) -> list[str]:
    """The command that logs in, leaves the master listening at the socket `path` in the background, and ends.

    With `asks` it asks by SSH_ASKPASS; without, what would have to ask fails.
    """
    batch = "no" if asks else "yes"
    master = ("-M", "-N", "-f", "-S", path, "-o", f"ControlPersist={persist}", "-o", f"BatchMode={batch}")
    return ["ssh", *_OURS, *_ALIVE, *master, "--", host]


def channel(host: str, path: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` on the host over the master at `path`, and never by a connection of its own."""
    only = ("-S", path, "-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-o", "BatchMode=yes")
    return ["ssh", *_OURS, *only, "--", host, f"exec {shlex.join(argv)}"]


def control(host: str, path: str, verb: str) -> list[str]:
    """The command that tells a master something: ``check`` or ``exit``."""
    return ["ssh", "-S", path, "-O", verb, "--", host]


_NO_ROOM = re.compile(r"session open refused by peer|open failed: administratively prohibited", re.IGNORECASE)
_CHANGED = re.compile(r"remote host identification has changed|host key verification failed", re.IGNORECASE)
_REFUSED = re.compile(
    r"permission denied|too many authentication failures|authentication failed|no more authentication methods|certificate invalid",
    re.IGNORECASE,
)
_MASTER_GONE = re.compile(r"closed by UNKNOWN|control socket connect|mux_client_\w+: (?:read|write)|stdio forwarding failed", re.IGNORECASE)
_CLOSED = (
    "It may be starting or full; after logins that failed, a server also turns an address away for a while (PerSourcePenalties in "
    "sshd_config(5)). Wait a minute, then try again."
)
_TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"could not resolve hostname", "Its name is not known here", "Is the name in ~/.ssh/config right, and are you online?"),
    (r"connection refused", "Nothing listens there", "Is its ssh service up?"),
    (r"connection timed out|operation timed out", "It does not answer", "Are you online, or does it need a VPN or a jump host?"),
    (r"no route to host|network is unreachable", "There is no way to it", "Are you online, or does it need a VPN?"),
    (r"connection (?:closed|reset)|broken pipe", "It closed the connection", _CLOSED),
)


def is_full(said: str) -> bool:
    """Whether a channel was refused because there are too many on its login."""
    return _NO_ROOM.search(said) is not None


def problem(host: str, said: str) -> LinkProblem:
    """The error that ssh's own words describe; ssh is quoted in it."""
    text = "\n".join(line for line in said.strip().splitlines() if line.strip())
    quoted = f" ssh says: {text[-600:]}" if text else ""
    if _CHANGED.search(said):
        hint = "If the host was set up anew, ask its operators for its key's fingerprint and mend ~/.ssh/known_hosts; else somebody is in between."
        return AccessRefused(f"{host} is not the host that it was: its key is another one, or is not known.{quoted}", hint=hint)
    if _REFUSED.search(said):
        return AccessRefused(f"The login to {host} was refused.{quoted}", hint="It is not tried again by itself.")
    if is_full(said):
        hint = "Stop a session that you do not need; its operators can raise MaxSessions in sshd_config."
        return LinkProblem(f"{host} allows no more channels on one login.", hint=hint, channels=True)
    if _MASTER_GONE.search(said):
        return LinkProblem(f"The login to {host} is gone.")
    for pattern, sentence, hint in _TEXTS:
        if re.search(pattern, said, re.IGNORECASE):
            return LinkProblem(f"{host} cannot be reached. {sentence}.{quoted}", hint=hint)
    if not text:  # ssh does not think that this is an error
        return LinkProblem(f"{host} closed the connection without a word.", hint=_CLOSED)
    return LinkProblem(f"ssh to {host} failed.{quoted}")


_VALID = re.compile(r"^\s*Valid: from \S+ to (\S+)\s*$", re.MULTILINE)


def valid_until(text: str) -> float | None:
    """When the last certificate of ``ssh-keygen -L`` ends (seconds since the epoch); None without one, or for one that never ends."""
    ends = [datetime.fromisoformat(found).timestamp() for found in _VALID.findall(text)]
    return max(ends, default=None)


def environment(source: Mapping[str, str], also: Mapping[str, str]) -> dict[str, str]:
    """What an ssh of ours has of this process's environment: what it needs, so that no SendEnv can carry a token away."""
    names = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TERM", "SSH_AUTH_SOCK", "KRB5CCNAME", "XDG_RUNTIME_DIR", "DISPLAY")
    return {name: source[name] for name in names if name in source} | dict(also)
