"""An `ssh` that reaches made-up hosts on this machine: each has a login shell, a home folder, and commands of its own; some ask for a password.

It takes what our ssh programs are given (see `clusters/openssh.py`), and runs a command as sshd does: the words, joined, by the user's login shell, in his home
folder, with an environment that is not ours. Logins, second factors and networks are real in tests/lab; this is for what a host says.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["FakeHost", "FakeSsh"]

_SSH = """#!/bin/sh
mode=run
while [ $# -gt 0 ]; do
  case $1 in
    -V) echo 'OpenSSH_0.0 (not the real one)' >&2; exit 0 ;;
    -G) mode=config; shift ;;
    -M) mode=master; shift ;;
    -S) master=$2; shift 2 ;;
    -O) mode=control; verb=$2; shift 2 ;;
    -o) shift 2 ;;
    --) host=$2; shift 2; break ;;
    *) shift ;;
  esac
done
there={hosts}/$host
case $mode in
  config) printf 'hostname %s\\nport 22\\n' "$host" ;;
  control) if [ "$verb" = exit ]; then rm -f "$master"; else [ -e "$master" ]; fi ;;
  master)
    if ! [ -d "$there" ]; then echo "ssh: Could not resolve hostname $host: Name or service not known" >&2; exit 255; fi
    if [ -e "$there/password" ] && [ "$("$SSH_ASKPASS" "alice@$host's password: ")" != "$(cat "$there/password")" ]; then
      echo "alice@$host: Permission denied (publickey,password)." >&2
      exit 255
    fi
    : > "$master" ;;
  run)
    if ! [ -e "$master" ]; then echo 'Control socket connect: No such file or directory' >&2; exit 255; fi
    cd "$there/home" || exit 255
    exec env -i HOME="$there/home" USER=alice SHELL="$(cat "$there/shell")" PATH="$there/bin:{hosts}/usr" {environment} "$(cat "$there/shell")" -c "$*" ;;
esac
"""


_BASH = """#!/bin/sh
if [ "$1" = -lc ]; then
  script=$2
  shift 2
  exec {bash} -c '[ ! -f ~/.bash_profile ] || . ~/.bash_profile
'"$script" "$@"
fi
exec {bash} "$@"
"""
"""A bash whose login shells read the user's start-up file, and not this machine's."""

_USUAL = (
    *(
        "awk",
        "basename",
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "df",
        "dirname",
        "echo",
        "env",
        "false",
        "find",
        "grep",
        "head",
        "hostname",
        "id",
        "kill",
    ),
    *(
        "ln",
        "ls",
        "mkdir",
        "mktemp",
        "mv",
        "od",
        "printf",
        "pwd",
        "readlink",
        "rm",
        "sed",
        "sh",
        "sleep",
        "sort",
        "stat",
        "tail",
        "timeout",
        "touch",
    ),
    *("tr", "true", "uname", "wc", "which"),
)
"""What every host has; neither Slurm, nor a Python, nor a way to the network."""


class FakeHost:
    """One host, in a folder."""

    def __init__(self, folder: Path, shell: str) -> None:
        self.folder = folder
        for name in ("home", "bin"):
            (folder / name).mkdir(parents=True)
        real = shutil.which(shell) or shell
        (folder / "shell").write_text(real)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def command(self, name: str, script: str) -> Path:
        """A command in its PATH."""
        return executable(self.folder / "bin" / name, f"#!/bin/sh\n{script}\n")

    def asks(self, password: str) -> None:
        """Have its login ask."""
        (self.folder / "password").write_text(password)

    def files(self) -> dict[str, tuple[int, int]]:
        """(size, time) of whatever is in the home folder."""
        return {
            str(path.relative_to(self.home)): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in self.home.rglob("*")
            if path.is_file()
        }


class FakeSsh:
    """The program, in a folder for PATH; `environment` is what each host has in its environment beside the usual."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        usual = folder / "usr"
        usual.mkdir()
        for name in _USUAL:
            if found := shutil.which(name):
                (usual / name).symlink_to(found)
        executable(usual / "bash", _BASH.replace("{bash}", shutil.which("bash") or "/bin/bash"))
        variables = " ".join(f"{name}={value}" for name, value in environment.items())
        executable(self.bin / "ssh", _SSH.replace("{hosts}", str(folder)).replace("{environment}", variables))

    @property
    def path(self) -> str:
        """The value for PATH."""
        return f"{self.bin}:{os.environ.get('PATH', os.defpath)}"

    def host(self, name: str, shell: str = "bash") -> FakeHost:
        """A new host."""
        return FakeHost(self.folder / name, shell)


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path
