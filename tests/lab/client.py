"""The client's side of the lab's logins: keys, certificates, known hosts and one ``ssh_config``.

The product runs plain ``ssh HOST``. So the lab has a folder with an `ssh` (and scp, sftp) that adds ``-F CONFIG``; with that
folder first in PATH, the lab's hosts are there. The configuration has no ControlMaster and no BatchMode: those are the product's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.lab.machines import CLEAN
from tests.lab.plan import User

__all__ = ["Keys", "Login", "write_commands", "write_config", "write_known_hosts", "write_node_access"]


@dataclass(frozen=True, slots=True)
class Login:
    """One Host of the client's configuration."""

    host: str
    port: int
    user: str
    keys: tuple[str, ...] = ()
    """Further lines of its entry."""
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Keys:
    """The folder with all keys; only root (or the one user) can enter its private half."""

    folder: Path

    def make(self, names: Iterable[str]) -> None:
        """Make a key pair per name, side by side."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._make, names))

    def _make(self, name: str) -> None:
        _keygen("-t", "ed25519", "-N", "", "-C", f"lab {name}", "-f", str(self.folder / name))

    def public(self, name: str) -> str:
        """The line of a public key."""
        return (self.folder / f"{name}.pub").read_text()

    def sign(self, seconds: float, user: str) -> Path:
        """Let the lab's authority certify the key `certified` for `user`; it is valid for `seconds` from now. Returns its path."""
        end = f"+{max(1, round(seconds))}s" if seconds > 0 else f"-{max(1, round(-seconds))}s"
        public = self.folder / "certified.pub"
        _keygen("-s", str(self.folder / "authority"), "-I", "lab", "-n", user, "-V", f"-1h:{end}", str(public))
        return self.folder / "certified-cert.pub"


def _keygen(*words: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *words], env=CLEAN, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def write_known_hosts(path: Path, servers: Mapping[tuple[str, int], str]) -> None:
    """`servers`: the line of each server's public key by address and port."""
    path.write_text("".join(f"[{address}]:{port} {' '.join(key.split()[:2])}\n" for (address, port), key in servers.items()))


def write_config(
    path: Path, logins: Iterable[Login], keys: Path | str, known_hosts: Path | str, *, first: Iterable[str] = (), hosts: str = "*"
) -> None:
    """Write an ssh_config(5) with one identity for `hosts`. The first value that ssh finds wins, so an entry's own lines come first."""
    lines = list(first)
    for login in logins:
        lines += [f"Host {login.host}", f"  HostName {login.address}", f"  Port {login.port}", f"  User {login.user}"]
        lines += [f"  {line}" for line in login.keys]
    lines += [
        f"Host {hosts}",
        f"  IdentityFile {keys}/id",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {known_hosts}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  HashKnownHosts no",
        "  KexAlgorithms ^curve25519-sha256",  # a third less time for a connection
        "",
    ]
    path.write_text("\n".join(lines))


def write_commands(folder: Path, config: Path) -> None:
    """The `ssh`, `scp` and `sftp` that know the lab's hosts."""
    folder.mkdir(mode=0o755)
    for name in ("ssh", "scp", "sftp"):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec /usr/bin/{name} -F "{config}" "$@"\n')
        path.chmod(0o755)


def write_node_access(user: User, logins: Iterable[Login], key: Path, known_hosts: Path) -> None:
    """Let `user`, on a login, ``ssh NODE``: a key, the nodes' host keys and a configuration in the home's ``.ssh``."""
    folder = user.home / ".ssh"
    folder.mkdir(mode=0o700)
    write_config(folder / "config", logins, "~/.ssh", "~/.ssh/known_hosts")
    (folder / "id").touch(mode=0o600)
    (folder / "id").write_text(key.read_text())
    (folder / "known_hosts").write_text(known_hosts.read_text())
    for path in (folder, *folder.iterdir()):
        os.chown(path, user.uid, user.gid)
        path.chmod(0o700 if path == folder else 0o600)
