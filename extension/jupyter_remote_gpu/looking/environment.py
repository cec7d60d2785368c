"""Makes a Python with ipykernel on a host that has none that suits: an environment in the user's home folder, by uv or by a Python that is there."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.looking.channel import run_program
from jupyter_remote_gpu.looking.facts import OLDEST_PYTHON, Facts, Python
from jupyter_remote_gpu.looking.look import Say, see
from jupyter_remote_gpu.looking.programs import Part, environment_program, parts_of
from jupyter_remote_gpu.looking.reading import pythons_of
from jupyter_remote_gpu.looking.slurm_choice import Config
from jupyter_remote_gpu.models import ClusterKind
from remote_gpu.errors import LinkProblem, NotWritable, RemoteGpuError, StartFailed, UsageProblem

__all__ = ["PLACE", "Plan", "bootstrap", "check_packages", "plan", "problem_of"]

PLACE = "~/.local/share/jupyter-remote-gpu/env"
"""Where the environment is made; one for each home folder."""

_KERNEL = "ipykernel>=7,<8"
_LIMIT = 1800.0  # seconds for all of it: a network file system takes its time with ten thousand small files
_NEEDS = 300  # MiB
_VERSION = re.compile(r"3\.\d{1,2}")
_PACKAGE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9._,-]+\])?(?:(?:==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!]+(?:,(?:==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!]+)*)?"
)
_TOLD = (
    (re.compile(r"JRG-SAY (.*)"), r"\1"),
    (re.compile(r"(?:Collecting|Downloading) .*"), "Fetching packages."),
    (re.compile(r"Resolved (\d+ packages).*"), r"Fetching \1."),
    (
        re.compile(r"Installing collected packages: .*|Prepared \d+ packages.*"),
        "Putting them in place; a network file system takes its time for that.",
    ),
)
"""What is told of the lines that come, and how."""

_FULL = re.compile(r"No space left on device|Disk quota exceeded|Errno (?:28|122)\b", re.IGNORECASE)
_NO_PYTHON = re.compile(r"python-build-standalone|No interpreter found|managed Python", re.IGNORECASE)
_AWAY = re.compile(
    r"name resolution|Name or service not known|Network is unreachable|No route to host|Connection (?:refused|timed out|to \S+ timed out)|"
    r"Max retries exceeded|Could not (?:connect|fetch|find a version)|No matching distribution|Failed to fetch|ProxyError|timed out|"
    r"CERTIFICATE_VERIFY_FAILED|error sending request",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How an environment is made: `tool` is uv or venv, `program` the uv or Python that does it, `version` the one that is best for uv."""

    tool: str
    program: str
    version: str = ""
    prologue: tuple[str, ...] = ()


def check_packages(version: str, packages: Sequence[str]) -> None:
    """Raise `UsageProblem` for what is no version of Python, or no package as pip knows them."""
    if version and (not _VERSION.fullmatch(version) or tuple(map(int, version.split("."))) < OLDEST_PYTHON):
        raise UsageProblem(f"{version!r} is no version of Python that a session runs in.", hint="For example 3.12; 3.10 is the oldest.")
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise UsageProblem(f"{package!r} is no package as pip knows them.", hint="Write NAME, or NAME==1.2; each on its own.")


def plan(facts: Facts, version: str = "", *, here: tuple[int, int] = sys.version_info[:2]) -> Plan:
    """How to make one on this host. Without a wanted `version`, the one of the gateway (`here`) is best: notebook and node then agree.

    Raises `NotWritable` without space, `StartFailed` when no Python there will do.
    """
    if facts.home_free_mb is not None and facts.home_free_mb < _NEEDS:
        message = f"Your home folder on {facts.host} has {facts.home_free_mb} MB left, and an environment needs about {_NEEDS}."
        raise NotWritable(message, hint="Free some space there first.")
    ours = ".".join(map(str, here))
    if facts.uv:
        return Plan("uv", facts.uv, version or ours)
    fitting = [each for each in facts.pythons if each.new_enough and each.venv and not each.path.endswith(f"{PLACE[1:]}/bin/python")]
    if version:
        fitting = [each for each in fitting if _minor(each) == version]
    if not fitting:
        raise _none(facts, version)
    best = min(fitting, key=lambda each: (bool(each.prologue), _minor(each) != ours))
    return Plan("venv", best.path, prologue=best.prologue)


async def bootstrap(login: Login, wanted: Config, say: Say, *, version: str = "", packages: Sequence[str] = ()) -> dict[str, Any]:
    """Make it; returns ``python``, its ``version`` and ``ipykernel``, and the ``prologue`` that it needs.

    Doing it again, or after it was cut short, goes on from what is there. Raises as `plan`, `see` and `problem_of`.
    """
    check_packages(version, packages)
    facts = await see(login, {**{name: wanted[name] for name in ("prologue",) if name in wanted}, "kind": ClusterKind.SSH}, say)
    made = plan(facts, version)
    if facts.internet is False:
        say(f"{login.host} does not reach the Python Package Index; trying all the same, for pip may be set up otherwise there.")
    prologue = tuple(wanted.get("prologue") or made.prologue)

    def heard(line: str) -> None:
        for pattern, sentence in _TOLD:
            if (found := pattern.fullmatch(line.strip())) is not None:
                say(found.expand(sentence))

    program = environment_program(made.tool, made.program, [_KERNEL, *packages], version=version, best=made.version)
    said = await run_program(login, program, prologue=prologue, limit=_LIMIT, heard=heard)
    parts = parts_of(said.out)
    for part in ("make", "install"):
        if part not in parts or parts[part].status != 0:
            raise problem_of(parts.get(part, Part(said.err, said.status)), login.host)
    found = pythons_of(parts["pythons"].said if "pythons" in parts else "")
    if not found or not found[0].suits:
        raise StartFailed(
            f"The new environment in {PLACE} on {login.host} does not run as it should.", hint="Try again with another --python."
        )
    say(f"{found[0].path} is Python {found[0].version} with ipykernel {found[0].ipykernel}.")
    return {"python": found[0].path, "version": found[0].version, "ipykernel": found[0].ipykernel, "prologue": list(prologue)}


def problem_of(part: Part, host: str) -> RemoteGpuError:
    """Why a step did not work, by the words of uv or pip."""
    lines = [line for line in part.said.splitlines() if line.strip() and not line.startswith("JRG-SAY ")]
    words = "\n".join(lines[-6:])[-800:] or "nothing"
    if part.status is None:
        return LinkProblem(f"Making the environment on {host} was cut short.", hint="Run it again: it goes on from what is there.")
    if _FULL.search(part.said):
        return NotWritable(f"The disk, or your quota, on {host} is full. It said: {words}", hint="Free some space there, and run it again.")
    if _NO_PYTHON.search(part.said):
        message = f"{host} has no Python of that version, and uv cannot fetch one from there. It said: {words}"
        return StartFailed(message, hint="Leave --python out, or name a version that is there.", step="bootstrap")
    if _AWAY.search(part.said):
        message = f"The packages cannot be had from {host}: it does not reach the Python Package Index. It said: {words}"
        hint = "If the site has a proxy or an index of its own, set pip up for it there; or load a module that has ipykernel (--prologue)."
        return StartFailed(message, hint=hint, step="bootstrap")
    return StartFailed(f"The environment on {host} could not be made. It said: {words}", hint="Try another --python.", step="bootstrap")


def _none(facts: Facts, version: str) -> StartFailed:
    seen = ", ".join(f"{each.path} ({each.version})" for each in facts.pythons[:6]) or "none"
    what = f"Python {version}" if version else f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    hint = "Install uv there (it brings a Python of its own), or load a module with a newer Python: --prologue 'module load python'."
    return StartFailed(f"No {what} that can make environments was found on {facts.host}; found was {seen}.", hint=hint, step="bootstrap")


def _minor(python: Python) -> str:
    return ".".join(python.version.split(".")[:2])
