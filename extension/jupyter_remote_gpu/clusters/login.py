"""The login to one host: a master connection of OpenSSH that everything else on that host shares, from any number of clusters.

A login that may ask the user (`ensure(ask=True)`) is begun only by a user's wish. Everything else tries at most once, asks nobody, and remembers a
refusal until something has changed: the user logged in, also by an ssh of his own, or his certificate or key is another file now. So no
prompt and no failed attempt is ever repeated by itself; repeated ones lock accounts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any
from zlib import crc32

from jupyter_remote_gpu.clusters import openssh
from jupyter_remote_gpu.clusters.openssh import HostConfig
from jupyter_remote_gpu.clusters.prompts import Prompts
from jupyter_remote_gpu.models import iso
from remote_gpu.errors import AccessRefused, LinkProblem
from remote_gpu.folders import node_folder

__all__ = ["Login", "LoginState"]

_ASKING = 600.0  # seconds that a login may take which may ask: somebody looks for a telephone
_SILENT = 90.0  # the same for one that asks nobody
_LOOK_EVERY = 5.0  # seconds between looks at whether a refused login may work now
_FURTHER = 60  # seconds that a further master outlives the last channel on it
_CHECK = 5.0  # seconds that a question to a master on this machine may take


class LoginState(StrEnum):
    """How a host is reached. REFUSED: it needs the user."""

    OUT = "out"
    TRYING = "trying"
    IN = "in"
    REFUSED = "refused"


class Login:
    """One host, by the name that the user's ssh knows it under. All calls come from the gateway's event loop."""

    def __init__(self, host: str, prompts: Prompts, *, changed: Callable[[Login], None], entered: Callable[[Login], None]) -> None:
        self.host = host
        self.state = LoginState.OUT
        self.detail = ""
        self.expires: float | None = None
        """When the user's certificate for it ends, if it has one."""
        self._prompts = prompts
        self._changed = changed
        self._entered = entered
        self._lock = asyncio.Lock()
        self._config: HostConfig | None = None
        self._refused: AccessRefused | None = None
        self._seen: dict[str, tuple[float, int]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._further: list[str] = []

    def json(self) -> dict[str, Any]:
        """The `Login` of the REST API."""
        return {
            "host": self.host,
            "state": self.state,
            "detail": self.detail,
            "expires": iso(self.expires),
            "prompts": [prompt.json() for prompt in self._prompts.all(self.host)],
            "stamp": self.stamp,
        }

    @property
    def stamp(self) -> str:
        """Changes with all that somebody who waits for the login wants to see."""
        seen = (self.state, self.detail, tuple(prompt.id for prompt in self._prompts.all(self.host)))
        return f"{crc32(repr(seen).encode()):08x}"

    @property
    def environment(self) -> dict[str, str]:
        """What each ssh of this login has as its environment."""
        return openssh.environment(os.environ, {})

    async def path(self) -> str:
        """The master's socket: the user's own ControlPath, if there is one, else one in a private folder."""
        config = await self._configured()
        return config.control_path or self._own_path(config)

    @staticmethod
    def _own_path(config: HostConfig) -> str:
        where = repr((config.host, config.hostname, config.port, config.user, config.proxy))
        return str(node_folder("m") / hashlib.sha256(where.encode()).hexdigest()[:16])

    async def ensure(self, *, ask: bool = False) -> str:
        """Be logged in, and return the master's socket; whoever asks meanwhile waits for the same attempt.

        With `ask`, the user may be asked (see `Prompts`). Raises `AccessRefused`, at once while an earlier refusal stands and
        `ask` is false; `LinkProblem` when the host cannot be reached.
        """
        async with self._lock:
            path = await self.path()
            if await self._lives(path):
                self._set(LoginState.IN)
                return path
            if self._refused is not None and not ask and not self._may_work_now():
                raise self._refused
            await self._attempt(path, ask=ask)
            return path

    def begins(self) -> None:
        """A user's wish to log in was heard: what was known before does not count."""
        self._set(LoginState.TRYING, "Logging in.")

    async def roomy(self) -> str:
        """The socket of the master that has room for another channel, as far as is known."""
        while self._further and not await self._lives(self._further[-1]):
            self._further.pop()
        return self._further[-1] if self._further else await self.path()

    async def widen(self) -> bool:
        """Log in once more, beside the master that is full; False when that would need the user."""
        async with self._lock:
            config = await self._configured()
            path = f"{self._own_path(config)}.{len(self._further) + 1}"
            _remove(path)
            with contextlib.suppress(AccessRefused):
                await self._log_in(path, None, persist=_FURTHER)
                self._further.append(path)
                return True
        return False

    async def lives(self) -> bool:
        """Whether a master runs; it may have lost its connection without knowing."""
        return await self._lives(await self.path())

    async def renew(self) -> None:
        """Drop a master that has lost its connection, unless it is the user's own; the next `ensure` logs in anew."""
        config = await self._configured()
        if not config.control_path:
            for path in (await self.path(), *self._further):
                await self._run(openssh.control(self.host, path, "exit"))
            self._further.clear()
        self._set(LoginState.OUT)

    async def end(self) -> None:
        """Log out: everything that runs over this login loses its connection; sessions go on."""
        async with self._lock:
            self._prompts.refuse(self.host)
            for path in (await self.path(), *self._further):
                await self._run(openssh.control(self.host, path, "exit"))
            self._further.clear()
            self._set(LoginState.OUT)

    async def reaches(self) -> bool | None:
        """Whether the host, or the jump host before it, takes a new connection now; None when that cannot be told."""
        config = await self._configured()
        if config.proxy:
            jump = config.proxy.split(",")[0]
            if " " in jump:  # a command of the user's
                return None
            status, out, _ = await self._run(openssh.config_of(jump.removeprefix("ssh://")))
            config = openssh.parse_config(jump, out) if status == 0 else config
        try:
            async with asyncio.timeout(_CHECK):
                _, writer = await asyncio.open_connection(config.hostname, config.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def aclose(self) -> None:
        """Stop watching; a master stays, for the gateway that comes next."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    async def _attempt(self, path: str, *, ask: bool) -> None:
        self._set(LoginState.TRYING, "Logging in." if ask else "Logging in, without asking.")
        self._seen = self._identities()
        _remove(path)  # of a master that was killed; a living one would have answered
        try:
            if ask:
                async with self._prompts.of(self.host) as asking:
                    await self._log_in(path, asking)
            else:
                await self._log_in(path, None)
        except AccessRefused as error:
            self._refused = await self._explained(error, ask=ask)
            self._set(LoginState.REFUSED, str(self._refused))
            self._watch()
            raise self._refused from error
        except BaseException as error:
            self._set(LoginState.OUT, str(error))
            raise
        self._refused = None
        self.expires = await self._expiry()
        self._set(LoginState.IN)
        self._entered(self)

    async def _log_in(self, path: str, asking: Mapping[str, str] | None, persist: int = openssh.PERSIST) -> None:
        limit = _SILENT if asking is None else _ASKING
        command = openssh.log_in(self.host, path, asks=asking is not None, persist=persist)
        status, _, said = await self._run(command, asking, limit, background=True)
        if status is None:
            raise LinkProblem(f"The login to {self.host} took longer than {limit:g} s and was given up.", hint="Try again.")
        if status != 0:
            raise openssh.problem(self.host, said)

    async def _explained(self, error: AccessRefused, *, ask: bool) -> AccessRefused:
        """What the user can do about a refusal: renew a certificate, or log in where he can be asked."""
        self.expires = await self._expiry()
        if self.expires is not None and self.expires < time.time():
            when = time.strftime("%H:%M on %-d %B", time.localtime(self.expires))
            message = f"Your SSH certificate for {self.host} ended at {when}. Sessions there go on."
            return AccessRefused(message, hint="Renew it as your site says; the connection then comes back by itself.")
        if ask:
            return error
        message = f"{self.host} wants you to log in. Sessions there go on. {error.message}"
        return AccessRefused(message, hint=f"`%remote_gpu login {self.host}` or `jupyter remote-gpu login {self.host}` asks you.")

    async def _expiry(self) -> float | None:
        """When the newest certificate for this host ends, of those in files and in the agent."""
        certificates = [file for name in (await self._configured()).identities if name.endswith("-cert.pub") and (file := _there(name))]
        ends = [openssh.valid_until((await self._run(["ssh-keygen", "-L", "-f", file]))[1]) for file in certificates]
        known = [end for end in ends if end is not None]
        return max(known, default=None)

    def _identities(self) -> dict[str, tuple[float, int]]:
        """(when written, size) of each key and certificate that there is."""
        found = {}
        for name in self._config.identities if self._config is not None else ():
            with contextlib.suppress(OSError):
                stat = Path(name).expanduser().stat()
                found[name] = (stat.st_mtime, stat.st_size)
        return found

    def _may_work_now(self) -> bool:
        return self._identities() != self._seen

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._until_it_works(), name=f"refused login to {self.host}")

    async def _until_it_works(self) -> None:
        """Look now and then whether the user did something about a refusal; looking costs the host nothing."""
        while self._refused is not None:
            await asyncio.sleep(_LOOK_EVERY)
            path = await self.path()
            if self._lock.locked() or not (self._may_work_now() or (_there(path) and await self._lives(path))):
                continue
            with contextlib.suppress(LinkProblem):
                await self.ensure()
                if self._refused is not None:  # it was the user's own master
                    self._refused = None
                    self._entered(self)

    async def _lives(self, path: str) -> bool:
        return (await self._run(openssh.control(self.host, path, "check")))[0] == 0

    async def _configured(self) -> HostConfig:
        if self._config is None:
            status, out, said = await self._run(openssh.config_of(self.host))
            if status != 0:
                raise openssh.problem(self.host, said)
            self._config = openssh.parse_config(self.host, out)
        return self._config

    async def _run(
        self, argv: list[str], env: Mapping[str, str] | None = None, limit: float = _CHECK, *, background: bool = False
    ) -> tuple[int | None, str, str]:
        """(status, output, errors) of an ssh program. One that goes into the `background` keeps open what it was born with: a file, no pipe."""
        with tempfile.TemporaryFile() as errors:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL if background else asyncio.subprocess.PIPE,
                    stderr=errors,
                    env=self.environment | dict(env or {}),
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                message = f"The program {argv[0]} cannot be run here: {error.strerror}."
                raise LinkProblem(message, hint="Install the OpenSSH client.") from error
            status, out = await _ended(process, limit)
            errors.seek(0)
            return status, out.decode(errors="replace"), errors.read().decode(errors="replace")

    def _set(self, state: LoginState, detail: str = "") -> None:
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self._changed(self)


def _there(name: str) -> str:
    """The path that `name` stands for, if there is something; else ""."""
    path = os.path.expanduser(name)  # noqa: PTH111  an asynchronous caller
    return path if os.path.exists(path) else ""  # noqa: PTH110


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108  an asynchronous caller


async def _ended(process: asyncio.subprocess.Process, limit: float) -> tuple[int | None, bytes]:
    try:
        async with asyncio.timeout(limit):
            out, _ = await process.communicate()
    except TimeoutError:
        return None, b""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  else its pipe is left to the garbage collector
    return process.returncode, out or b""
