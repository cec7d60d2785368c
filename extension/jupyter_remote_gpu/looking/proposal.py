"""The smallest configuration that should work on a host, with a sentence for each choice. Pure: facts in, a proposal out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from jupyter_remote_gpu.clusters.slurm_gpus import accelerator_of, architecture_of
from jupyter_remote_gpu.clusters.slurm_nodes import GpuUse
from jupyter_remote_gpu.looking.facts import OLDEST_PYTHON, Facts, Python, SlurmFacts
from jupyter_remote_gpu.looking.slurm_choice import Config, partition_of, uses_in
from jupyter_remote_gpu.models import ClusterKind, gpu_label

__all__ = ["Choice", "Proposal", "kind_of", "propose"]

_SOON = 2 * 3600  # seconds
_LITTLE_SPACE = 500  # MiB
_OTHER_APIS = {"rocm": "AMD's (ROCm)", "xpu": "Intel's (oneAPI)"}
_OVERLAP = (20, 11)
"""The Slurm that first let a step of ours run beside the job's own: ``srun --overlap``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting of a proposal, and why it is as it is; `value` None: why it is left out."""

    setting: str
    value: Any
    why: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration. `blockers` are what keeps it from working; `bootstrap`: a Python that suits is all that is missing."""

    config: Config
    choices: tuple[Choice, ...] = ()
    warnings: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    bootstrap: bool = False

    def json(self) -> dict[str, Any]:
        """The `Proposal` of the REST API."""
        return asdict(self)


def kind_of(facts: Facts, wanted: Config) -> str:
    """Which kind of cluster the host is to be: as the user wants, else Slurm where there is one."""
    return str(wanted.get("kind") or (ClusterKind.SLURM if facts.slurm is not None else ClusterKind.SSH))


def propose(
    facts: Facts, wanted: Config, *, slurm: Config | None = None, refused: str = "", here: str = "", now: float | None = None
) -> Proposal:
    """The proposal for a host, in which everything stands that the user `wanted`.

    `slurm` is the candidate that Slurm took, None with what it said instead in `refused`. `here` is the architecture of the gateway's machine.
    """
    kind = kind_of(facts, wanted)
    config: dict[str, Any] = {
        "kind": kind,
        "host": facts.host,
        **(slurm or {}),
        **{name: wanted[name] for name in wanted if name != "request"},
    }
    if slurm is None and wanted.get("request"):
        config["request"] = wanted["request"]
    choices = [_kind(facts, kind, wanted)]
    choices += _python(facts, config, wanted)
    choices += _scratch(facts, config, wanted)
    if kind == ClusterKind.SLURM and facts.slurm is not None:
        choices += _slurm(facts.slurm, config, wanted)
    bootstrap = _python_for(facts, wanted) is None
    blockers = [*_slurm_blockers(facts, kind, refused), *([_no_python(facts, wanted)] if bootstrap else [])]
    warnings = tuple(_warnings(facts, config, here=here, now=time.time() if now is None else now))
    return Proposal(config, tuple(choices), warnings, tuple(blockers), bootstrap=bootstrap and len(blockers) == 1)


def _kind(facts: Facts, kind: str, wanted: Config) -> Choice:
    if "kind" in wanted:
        return Choice("kind", kind, "You asked for it.")
    if kind == ClusterKind.SLURM:
        return Choice("kind", kind, f"{facts.host} has Slurm, so a session is a job; --no-slurm for sessions on {facts.host} itself.")
    return Choice("kind", kind, f"{facts.host} has no Slurm, so sessions run on it directly.")


def _python_for(facts: Facts, wanted: Config) -> Python | None:
    """The Python that sessions will run in; the user's, if he named one, which was looked at first."""
    if wanted.get("python"):
        return facts.pythons[0] if facts.pythons and facts.pythons[0].suits and _is_named(facts.pythons[0], str(wanted["python"])) else None
    return facts.python


def _is_named(python: Python, name: str) -> bool:
    return python.path.endswith(name.removeprefix("~"))


def _python(facts: Facts, config: dict[str, Any], wanted: Config) -> Iterator[Choice]:
    python = _python_for(facts, wanted)
    if facts.slurm is not None and facts.slurm.login_only and not wanted.get("prologue"):
        config["prologue"] = ["true"]
        yield Choice(
            "prologue", ["true"], "Slurm's commands are found in a login shell only, and with a prologue, of whatever lines, there is one."
        )
    if python is None:
        return
    if python.prologue:
        config["prologue"] = [*config.get("prologue", ()), *python.prologue]
        yield Choice("prologue", list(python.prologue), f"{python.path} needs it.")
    what = f"Python {python.version} with ipykernel {python.ipykernel}"
    if wanted.get("python"):
        yield Choice("python", wanted["python"], f"You named it: {what}.")
    elif python == facts.pythons[0] and PurePosixPath(python.path).name == "python3" and not config.get("prologue"):
        yield Choice("python", None, f"python3 on {facts.host} is {what}, in {python.path}.")
    else:
        config["python"] = python.path
        yield Choice("python", python.path, f"It is {what}.")


def _scratch(facts: Facts, config: dict[str, Any], wanted: Config) -> Iterator[Choice]:
    shared = next((folder for folder in facts.scratch if folder.shared), None)
    if not wanted.get("scratch") and shared is not None and config["kind"] == ClusterKind.SLURM:
        config["scratch"] = shared.path
        yield Choice(
            "scratch", shared.path, f"You can write there, and its file system ({shared.kind}) is one that login and nodes usually share."
        )


def _slurm(slurm: SlurmFacts, config: dict[str, Any], wanted: Config) -> Iterator[Choice]:
    request: Mapping[str, Any] = config.get("request") or {}
    asked: Mapping[str, Any] = wanted.get("request") or {}
    partition = partition_of(slurm, config.get("partition", ""))
    uses = uses_in(slurm, partition)
    if partition is not None and "partition" not in wanted:
        gpus = gpu_label([use.gpu_type for use in uses for _ in range(use.total)])
        why = f"It is the default one, with {gpus}." if "partition" not in config else f"It has {gpus}, and the default one would not do."
        yield Choice("partition", config.get("partition"), why)
    if len(slurm.account_names) > 1 and "account" not in wanted:
        yield _account(slurm, config)
    if "gpus_by" in config and "gpus_by" not in wanted:
        yield Choice("gpus_by", config["gpus_by"], "Slurm took a job that asks for a GPU like this, and not in the usual way.")
    if "time" in request and "time" not in asked:
        yield Choice("request.time", request["time"], _time(partition.default_time if partition is not None else None, request["time"]))
    if request.get("gpus") and "gpus" not in asked:
        yield Choice("request.gpus", request["gpus"], "The partition gives whole nodes only, and this is one: all of it counts as yours.")
    if request.get("gpus") == 0 and "gpus" not in asked:
        yield Choice("request.gpus", 0, "No node here has a GPU that Slurm knows of.")
    if "gpu_model" in request and "gpu_model" not in asked:
        yield Choice("request.gpu_model", request["gpu_model"], _model(uses))
    if (0, 0) != slurm.installation.version < _OVERLAP and "stream" not in wanted:
        config["stream"] = "ssh"
        yield Choice("stream", "ssh", "This Slurm is older than 20.11, where a step cannot run beside the job's own.")


def _account(slurm: SlurmFacts, config: Config) -> Choice:
    used = config.get("account") or slurm.default_account
    others = ", ".join(name for name in slurm.account_names if name != used)
    default = "your default account" if used == slurm.default_account else "an account from which Slurm takes jobs"
    return Choice(
        "account",
        config.get("account"),
        f"Jobs are charged to {used or 'none that is named'}, {default}. You have {others}, too: --account NAME.",
    )


def _time(default: int | None, asked: int) -> str:
    given = f"ends after {_hours(default)}" if default is not None else "asks for the longest that is allowed, and waits longer"
    return f"A job that names no time {given}; a session asks for {_hours(asked)}."


def _hours(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


def _model(uses: Sequence[Any]) -> str:
    types = ", ".join(use.gpu_type or "unnamed" for use in uses)
    return (
        f"There are {types} in the partition, and a session is to get a whole GPU of a known kind."
        if len(uses) > 1
        else "Slurm wants the type named."
    )


def _slurm_blockers(facts: Facts, kind: str, refused: str) -> Iterator[str]:
    if kind != ClusterKind.SLURM:
        return
    if facts.slurm is None:
        yield (
            f"There is no sbatch on {facts.host}, neither in a plain shell nor in a login shell. "
            "If it needs a module, say so: --prologue 'module load slurm'. Without Slurm: --no-slurm."
        )
    elif facts.slurm.said and not facts.slurm.partitions:
        yield f"Slurm on {facts.host} does not answer: {facts.slurm.said.strip().splitlines()[-1]}. Try again in a minute."
    elif refused:
        yield refused


def _no_python(facts: Facts, wanted: Config) -> str:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    named = wanted.get("python")
    if named:
        found = next((each for each in facts.pythons if _is_named(each, str(named))), None)
        what = (
            f"is Python {found.version} {f'with ipykernel {found.ipykernel}' if found.ipykernel else 'without ipykernel'}"
            if found
            else "does not run"
        )
        return f"{named} on {facts.host} {what}; a session needs Python {oldest} or newer with ipykernel 7."
    seen = ", ".join(f"{each.path} ({each.version})" for each in facts.pythons[:4]) or "none at all"
    return f"No Python with ipykernel 7 was found on {facts.host}; found was {seen}."


def _warnings(facts: Facts, config: Config, *, here: str, now: float) -> Iterator[str]:
    yield from _architecture(facts, config, here)
    if facts.slurm is not None and config["kind"] == ClusterKind.SLURM:
        partition = partition_of(facts.slurm, config.get("partition", ""))
        if partition is not None and partition.name in facts.slurm.displaced:
            yield f"Jobs of the partition {partition.name} may be displaced by those of another one; a session then starts anew, with empty memory."
    if facts.certificate_ends is not None and facts.certificate_ends - now < _SOON:
        when = time.strftime("%H:%M", time.localtime(facts.certificate_ends))
        yield f"Your SSH certificate for {facts.host} ends at {when}. Sessions go on then, and come back when you have renewed it."
    if facts.home_free_mb is not None and facts.home_free_mb < _LITTLE_SPACE:
        yield f"Your home folder on {facts.host} has {facts.home_free_mb} MB left."
    if facts.modules_slow:
        yield f"`module avail` took too long on {facts.host} and was left out; name a module yourself: --prologue 'module load python'."
    if facts.cut_off:
        yield f"The look took too long and was cut off at its part {facts.cut_off!r}; what comes after that is not known."


def _architecture(facts: Facts, config: Config, here: str) -> Iterator[str]:
    nodes, api = facts.arch, facts.accelerator
    if facts.slurm is not None and config["kind"] == ClusterKind.SLURM:
        model = (config.get("request") or {}).get("gpu_model", "")
        uses = [use for use in _uses(facts.slurm, config) if model in ("", use.gpu_type)]
        nodes = next((use.architecture for use in uses if use.architecture), "") or architecture_of(model)
        api = next((accelerator_of(use.gpu_type) for use in uses), "")
    if nodes and facts.arch and nodes != facts.arch:
        yield f"The nodes are {nodes} and the login node is {facts.arch}: a Python of the one may not run on the other. The test cell tells."
    elif nodes and here and nodes != here:
        yield f"Its processors are {nodes}, those of this machine {here}: packages there must be built for {nodes}."
    if api in _OTHER_APIS:
        yield f"Its GPUs are {_OTHER_APIS[api]}: packages that are built for CUDA do not use them."


def _uses(slurm: SlurmFacts, config: Config) -> Sequence[GpuUse]:
    return uses_in(slurm, partition_of(slurm, config.get("partition", "")))
