"""The look at a host: log in, see what is there, ask Slurm what it would take, and propose a configuration."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jupyter_remote_gpu.clusters.login import Login
from jupyter_remote_gpu.clusters.options import read_options
from jupyter_remote_gpu.clusters.slurm_refusals import refusal_of
from jupyter_remote_gpu.clusters.slurm_submit import Estimate, parse_estimate
from jupyter_remote_gpu.looking.channel import run_program
from jupyter_remote_gpu.looking.facts import OLDEST_PYTHON, Facts, Python, SlurmFacts
from jupyter_remote_gpu.looking.programs import look_program, parts_of, pythons_program, trials_program
from jupyter_remote_gpu.looking.proposal import Proposal, kind_of, propose
from jupyter_remote_gpu.looking.reading import facts_of, module_version, pythons_of
from jupyter_remote_gpu.looking.slurm_choice import Config, candidates, trial_options
from jupyter_remote_gpu.models import ClusterKind
from remote_gpu.errors import LinkProblem, RemoteGpuError, UsageProblem

__all__ = ["Say", "Seen", "check_wanted", "look", "see"]

Say = Callable[[str], None]
"""Takes a sentence on what is being done now."""

_LOOK_LIMIT = 120.0  # seconds: the parts have limits of their own, and a busy login node takes its time
_SHORT_LIMIT = 60.0
_SENTENCES = {
    "login": "Looking at {host}.",
    "pythons": "Looking for a Python with ipykernel on {host}.",
    "slurm.config": "Asking Slurm on {host} what there is.",
    "internet": "Looking whether {host} reaches the internet.",
    "modules": "Looking for environment modules on {host}.",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look brought."""

    facts: Facts
    proposal: Proposal

    def json(self) -> dict[str, Any]:
        """The result of a task of the kind ``look``."""
        return {"facts": self.facts.json(), "proposal": self.proposal.json()}


def check_wanted(host: str, wanted: Config) -> None:
    """Raise `UsageProblem` for a host or a wanted setting that cannot be, before anybody logs in."""
    if "trust" in wanted:
        raise UsageProblem("`trust` cannot be set from here.", hint="See the page on security.")
    kind = str(wanted.get("kind") or ClusterKind.SLURM)
    if kind not in (ClusterKind.SSH, ClusterKind.SLURM):
        raise UsageProblem(f"A host cannot be a cluster of kind {kind!r}.", hint="It may be ssh or slurm.")
    read_options(host, kind, {**wanted, "kind": kind, "host": host})


async def look(login: Login, wanted: Config, say: Say) -> Seen:
    """Log in, with the user's help, and look. Nothing is written or started over there.

    Raises `AccessRefused`, `LinkProblem`, `StartFailed` for a prologue that fails, `UsageProblem` for what is wanted and cannot be.
    """
    facts = await see(login, wanted, say)
    kind = kind_of(facts, wanted)
    slurm, refused = (await _taken(login, facts, wanted, say)) if kind == ClusterKind.SLURM and facts.slurm is not None else (None, "")
    proposal = propose(facts, wanted, slurm=slurm, refused=refused, here=_here())
    read_options(login.host, kind, proposal.config)
    return Seen(facts, proposal)


async def see(login: Login, wanted: Config, say: Say) -> Facts:
    """The facts of a host, after a login. Raises as `look` does."""
    host = login.host
    if not await login.lives():
        say(f"Logging in to {host}.")
    await login.ensure(ask=True)
    asks_slurm = wanted.get("kind") != ClusterKind.SSH

    def heard(line: str) -> None:
        if (sentence := _SENTENCES.get(line.removeprefix("JRG-LOOK "))) and line.startswith("JRG-LOOK "):
            say(sentence.format(host=host))

    program = look_program(python=str(wanted.get("python") or ""), slurm=asks_slurm)
    said = await run_program(login, program, prologue=_lines(wanted), limit=_LOOK_LIMIT, heard=heard)
    parts = parts_of(said.out)
    if "machine" not in parts:
        words = said.err.strip()[-600:] or said.out.strip()[-600:] or "nothing"
        raise LinkProblem(f"{host} runs no shell for us. It said: {words}", hint="It may let its users run certain commands only.")
    facts = facts_of(host, parts, slurm_asked=asks_slurm)
    return await _with_module(login, replace(facts, certificate_ends=login.expires), wanted, say)


async def _with_module(login: Login, facts: Facts, wanted: Config, say: Say) -> Facts:
    """`facts` with the Pythons of the best environment module, where no other one suits."""
    if facts.python is not None or wanted.get("python") or wanted.get("prologue") or not facts.modules:
        return facts
    module = max(facts.modules, key=lambda name: (module_version(name) >= OLDEST_PYTHON, module_version(name), not module_version(name)))
    say(f"Looking at the environment module {module}.")
    prologue = (f"module load {module}",)
    try:
        said = await run_program(login, pythons_program(), prologue=prologue, limit=_SHORT_LIMIT)
    except RemoteGpuError as error:
        say(f"The module {module} cannot be used: {error.message}")
        return facts
    part = parts_of(said.out).get("pythons")
    known = {each.path for each in facts.pythons}
    more: Sequence[Python] = [each for each in pythons_of(part.said if part else "", prologue) if each.path not in known]
    return replace(facts, pythons=(*facts.pythons, *more))


async def _taken(login: Login, facts: Facts, wanted: Config, say: Say) -> tuple[Config | None, str]:
    """(the candidate that Slurm would take a job of, "") or (None, why it takes none)."""
    slurm = facts.slurm
    if slurm is None or (slurm.said and not slurm.partitions):
        return None, ""
    found, options = _told(facts, slurm, wanted)
    say(f"Asking Slurm on {facts.host} whether it would take a job.")
    prologue = _lines(wanted) or (("true",) if slurm.login_only else ())
    said = await run_program(login, trials_program(options), prologue=prologue, limit=_SHORT_LIMIT * 2)
    parts = parts_of(said.out)
    for number, candidate in enumerate(found):
        part = parts.get(f"trial.{number}")
        if part is not None and part.status == 0:
            _tell(parse_estimate(part.said), say)
            return candidate, ""
    first = parts.get("trial.0")
    return None, str(refusal_of(first.said if first else said.err, facts.host, status=first.status if first else None))


def _told(facts: Facts, slurm: SlurmFacts, wanted: Config) -> tuple[list[Config], list[list[str]]]:
    """(the candidates that sbatch can be asked about, the options of each). Raises `UsageProblem` when it is none."""
    found: list[Config] = []
    options: list[list[str]] = []
    problem: UsageProblem | None = None
    for candidate in candidates(slurm, wanted):
        try:
            options.append(trial_options(candidate, slurm, where=facts.host, home=facts.home))
            found.append(candidate)
        except UsageProblem as error:  # a partition without the model that is wanted, say
            problem = problem or error
    if problem is not None and not found:
        raise problem
    return found, options


def _tell(estimate: Estimate | None, say: Say) -> None:
    if estimate is not None and estimate.start:
        wait = estimate.start - time.time()
        when = "at once" if wait < _SHORT_LIMIT else f"at about {time.strftime('%H:%M on %-d %B', time.localtime(estimate.start))}"
        say(f"Slurm would start it {when}, in the partition {estimate.partition}.")


def _lines(wanted: Config) -> tuple[str, ...]:
    prologue = wanted.get("prologue") or ()
    return tuple(prologue.splitlines() if isinstance(prologue, str) else prologue)


def _here() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
