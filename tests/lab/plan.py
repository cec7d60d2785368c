"""What a lab is made of: its folder, ports, users and owner, decided once and kept in ``lab.json``.

Every process that uses a lab reads it there. Labs of one host take their ports under one lock, so that two checkouts,
or two runs, do not meet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.lab.machines import LabError
from tests.lab.processes import alive, start_time

__all__ = ["PREFIX", "Owner", "Plan", "User", "free_folder", "labs", "lock_file", "locked"]

PREFIX = "/tmp/jrg-lab-"
_USERS = ("alice", "bob", "carol")
_FIRST_UID = 66000  # up to 66569: between what Debian gives to accounts and what is given to containers
_FIRST_PORT, _BLOCK, _BLOCKS = 20000, 64, 190  # up to 32160: below the ports that Linux gives to outgoing connections


@dataclass(frozen=True, slots=True)
class Owner:
    """The process with which a lab ends; pid 0: nobody's, it stays until it is taken down."""

    pid: int = 0
    started: int = 0

    @classmethod
    def of(cls, pid: int) -> Owner:
        """The owner that `pid` is now."""
        return cls(pid, start_time(pid))

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.pid > 0 and not alive(self.pid, self.started)


@dataclass(frozen=True, slots=True)
class User:
    """A user of the lab's machines; the host knows only the number."""

    name: str
    uid: int
    gid: int
    home: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """A lab's decisions."""

    folder: Path
    isolated: bool
    first_port: int
    password: str
    owner: Owner = field(default_factory=Owner)

    def port(self, number: int) -> int:
        """The `number`-th of the lab's ports."""
        assert 0 <= number < _BLOCK
        return self.first_port + number

    @property
    def users(self) -> tuple[User, ...]:
        """Alice, Bob and Carol, each lab's with numbers of their own; without root, all are the one user that there is."""
        if not self.isolated:
            return (User(pwd.getpwuid(os.getuid()).pw_name, os.getuid(), os.getgid(), Path.home()),) * 3
        first = _FIRST_UID + (self.first_port - _FIRST_PORT) // _BLOCK * len(_USERS)
        return tuple(User(name, first + i, first + i, self.folder / "home" / name) for i, name in enumerate(_USERS))

    def write(self) -> None:
        """Keep it in ``lab.json``, for this user's eyes: the password is in it."""
        path = self.folder / "lab.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of the lab in `folder`; OSError or ValueError when there is none."""
        content = json.loads((folder / "lab.json").read_text())
        return cls(**{**content, "folder": Path(content["folder"]), "owner": Owner(**content["owner"])})

    @classmethod
    def make(cls, folder: Path, owner: Owner, *, isolated: bool) -> Plan:
        """Decide, and make the folder; other labs of the host are left alone. Call it with the lock of all labs."""
        taken = {plan.first_port for plan in labs()}
        blocks = [first for n in range(_BLOCKS) if (first := _FIRST_PORT + n * _BLOCK) not in taken]
        first = next((first for first in blocks if all(map(_free, range(first, first + _BLOCK)))), None)
        if first is None:
            raise LabError(f"The lab needs {_BLOCK} free ports in a row from {_FIRST_PORT} on, and found none.")
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        plan = cls(folder, isolated, first, secrets.token_hex(8), owner)
        plan.write()
        return plan


def labs() -> list[Plan]:
    """The labs of this user on this host, up or half way."""
    found = []
    for folder in Path(PREFIX).parent.glob(f"{Path(PREFIX).name}*"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if folder.is_dir() and folder.stat().st_uid == os.getuid():
                found.append(Plan.read(folder))
    return found


def free_folder() -> Path:
    """A name for a lab's folder: short, as there are sockets in it, and directly below /tmp."""
    while (folder := Path(PREFIX + secrets.token_hex(2))).exists():
        pass
    return folder


def lock_file(name: str) -> Path:
    """The file of the lock `name`."""
    return Path(f"{PREFIX.rstrip('-')}.{os.getuid()}.{name}.lock")


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` among all of this user's processes."""
    descriptor = os.open(lock_file(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
