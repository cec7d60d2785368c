"""``jupyter remote-gpu clusters …``: list, add, look at, test, show and remove clusters, and make a Python there. The gateway does all of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jupyter_remote_gpu.cli_gateway import CliGateway
from jupyter_remote_gpu.cli_output import duration, note, print_json, print_table, say
from jupyter_remote_gpu.cli_parser import given
from jupyter_remote_gpu.cli_tasks import ask_yes, follow
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.errors import RemoteGpuError, StartFailed, UsageProblem, from_problem
from remote_gpu.gateway import ClusterInfo

__all__ = ["run"]

_ORDER = (
    "kind",
    "host",
    "python",
    "prologue",
    "account",
    "partition",
    "qos",
    "request",
    "gpus",
    "gpu_model",
    "time",
    "gpus_by",
    "options",
    "scratch",
)
_PLACE = "~/.local/share/jupyter-remote-gpu/env"


def run(options: argparse.Namespace) -> int:
    """Do what ``clusters`` and the word after it say; returns the exit status."""
    with CliGateway(find_or_start_gateway()) as gateway:
        return _ACTIONS[options.action or ""](gateway, options)


def _list(gateway: CliGateway, options: argparse.Namespace) -> int:
    found, problem = gateway.clusters(), gateway.clusters_problem()
    if problem:
        note(f"jupyter remote-gpu: {from_problem(dict(problem))}")
    if options.json:
        return print_json([asdict(cluster) for cluster in found])
    return print_table(("NAME", "KIND", "STATE", "GPUS", "FREE", "WHAT"), (_row(cluster) for cluster in found))


def _row(cluster: ClusterInfo) -> tuple[str, ...]:
    what = f"{cluster.label} ({cluster.detail})" if cluster.detail and cluster.detail != cluster.label else cluster.label
    return cluster.name, cluster.kind, cluster.state, str(cluster.gpus_total), str(cluster.gpus_free), what


def _add(gateway: CliGateway, options: argparse.Namespace) -> int:
    seen = follow(gateway, "look", host=options.ssh, cluster=options.name, config=_wanted(options))
    proposal = seen["proposal"]
    config = dict(proposal["config"])
    if not options.json:
        _show_proposal(options.ssh, proposal)
    if proposal["bootstrap"]:
        config |= _made(gateway, options, config)
    elif proposal["blockers"]:
        raise StartFailed(" ".join(proposal["blockers"]))
    if not _agreed(options, f"{'Add it' if options.no_test else 'Run a test cell there, and add it'} as {options.name}?", otherwise=True):
        raise UsageProblem("Nothing was written.")
    tested = None if options.no_test else _tested(gateway, options, config)
    config = dict(tested["config"]) if tested else config
    gateway.add_cluster(options.name, config)
    if options.json:
        return print_json({"cluster": options.name, "config": config, **seen, "test": tested})
    say(f"\n{options.name} is a cluster now: %%remote_gpu --cluster {options.name}")
    return 0


def _made(gateway: CliGateway, options: argparse.Namespace, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a Python that is made there changes in the configuration, with the user's consent."""
    note("")
    if not _agreed(options, f"Make a Python with ipykernel on {options.ssh}, in {_PLACE}?", otherwise=True):
        raise StartFailed(
            "A session needs a Python with ipykernel there.", hint="Name one by --python, or load a module that has one by --prologue."
        )
    made = follow(gateway, "bootstrap", host=options.ssh, config={name: config[name] for name in ("prologue",) if name in config})
    return {"python": made["python"], **({"prologue": made["prologue"]} if made["prologue"] else {})}


def _tested(gateway: CliGateway, options: argparse.Namespace, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The result of a test; None when it failed and the user wants the cluster all the same."""
    note("")
    try:
        tested = follow(gateway, "test", cluster=options.name, config=config)
    except RemoteGpuError as error:
        note(f"\nThe test failed{_at(error)}: {error}")
        if options.yes or not sys.stdin.isatty():
            raise StartFailed("Nothing was written.", hint="With --no-test, it is written without a test.") from error
        if not ask_yes(f"Add {options.name} all the same?"):
            raise StartFailed("Nothing was written.") from error
        return None
    if not options.json:
        _show_test(tested)
    return tested


def _look(gateway: CliGateway, options: argparse.Namespace) -> int:
    seen = follow(gateway, "look", host=options.host, config=_wanted(options))
    if options.json:
        return print_json(seen)
    _show_facts(seen["facts"])
    _show_proposal(options.host, seen["proposal"])
    for blocker in seen["proposal"]["blockers"]:
        say(f"\nThis is in the way: {blocker}")
    return 1 if seen["proposal"]["blockers"] else 0


def _test(gateway: CliGateway, options: argparse.Namespace) -> int:
    tested = _test_of(gateway, options.name, options.wait)
    if options.json:
        return print_json(tested)
    _show_test(tested)
    return 0


def _test_of(gateway: CliGateway, name: str, wait: int | None = None) -> Mapping[str, Any]:
    try:
        return follow(gateway, "test", cluster=name, wait=wait)
    except RemoteGpuError as error:
        if at := _at(error):
            error.message = f"The test of {name} failed{at}: {error.message}"
        raise


def _show(gateway: CliGateway, options: argparse.Namespace) -> int:
    found = gateway.cluster_config(options.name)
    if options.json:
        return print_json(found)
    whose = "one of yours" if found["own"] else "of the Jupyter server's configuration"
    say(f"{options.name} ({whose})\n")
    return print_table(("SETTING", "VALUE"), _flat(found["config"]))


def _remove(gateway: CliGateway, options: argparse.Namespace) -> int:
    gateway.remove_cluster(options.name)
    if options.json:
        return print_json({"removed": options.name})
    say(f"Removed {options.name}.")
    return 0


def _bootstrap(gateway: CliGateway, options: argparse.Namespace) -> int:
    config = {"prologue": options.prologue} if options.prologue else None
    made = follow(
        gateway, "bootstrap", cluster=options.name, host=options.ssh, config=config, version=options.python, packages=options.package
    )
    tested = _test_of(gateway, options.name) if options.name is not None and not options.no_test else None
    if options.json:
        return print_json({**made, "test": tested})
    if options.name is not None:
        say(f"{options.name} uses {made['python']} from now on.")
    if tested is not None:
        _show_test(tested)
    if options.ssh is not None:
        lines = "".join(f" --prologue '{line}'" for line in made["prologue"])
        say(f"\nMake a cluster of it: jupyter remote-gpu clusters add NAME --ssh {options.ssh} --python {made['python']}{lines}")
    return 0


_ACTIONS: Mapping[str, Callable[[CliGateway, argparse.Namespace], int]] = {
    "": _list,
    "add": _add,
    "look": _look,
    "test": _test,
    "show": _show,
    "remove": _remove,
    "bootstrap": _bootstrap,
}


def _wanted(options: argparse.Namespace) -> dict[str, Any]:
    """What of the configuration the command line says."""
    wanted = given(options, "python", "prologue", "account", "partition", "qos", "scratch")
    if options.slurm is not None:
        wanted["kind"] = "slurm" if options.slurm else "ssh"
    if options.option:
        wanted["options"] = options.option
    if request := given(options, "gpus", "time"):
        wanted["request"] = request
    return wanted


def _agreed(options: argparse.Namespace, question: str, *, otherwise: bool) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageProblem(f"{question} Nobody can answer here.", hint="With --yes, all of this is answered with yes.")
    return ask_yes(question, otherwise=otherwise)


def _at(error: RemoteGpuError) -> str:
    step = error.details.get("step")
    return f" at its step {step!r}" if step else ""


def _show_proposal(host: str, proposal: Mapping[str, Any]) -> None:
    say(f"\nAs a cluster, {host} would be configured like this:\n")
    whys = {choice["setting"]: choice for choice in proposal["choices"]}
    flat = _flat(proposal["config"])
    rows = [(name, value, str(whys.pop(name, {}).get("why", ""))) for name, value in flat]
    rows += [(name, "(not set)", str(choice["why"])) for name, choice in whys.items()]
    print_table(("SETTING", "VALUE", "WHY"), rows)
    for warning in proposal["warnings"]:
        say(f"\nNote: {warning}")


def _show_facts(facts: Mapping[str, Any]) -> None:
    slurm = facts["slurm"]
    rows = [("machine", f"{facts['node']}, {facts['system']} on {facts['arch']}; you are {facts['user']}")]
    rows += [("Python", _python(each)) for each in facts["pythons"]] or [("Python", "none")]
    rows += [("GPU", f"{each['name']}, {each['memory_mb']} MB") for each in facts["gpus"]]
    if slurm is not None:
        rows.append(("Slurm", f"{slurm['version']} of {slurm['cluster']}, {slurm['gpus_total']} GPUs"))
        rows += [("partition", _partition(each)) for each in slurm["partitions"]]
    if slurm is not None and slurm["accounts"]:
        rows.append(
            ("accounts", ", ".join(name + (" (default)" if name == slurm["default_account"] else "") for name in slurm["accounts"]))
        )
    rows += [("folder", f"{each['path']} ({each['kind']})") for each in facts["scratch"]]
    rows.append(("internet", {True: "yes", False: "no"}.get(facts["internet"], "not known")))
    say()
    print_table(("WHAT", "FOUND"), rows)


def _python(python: Mapping[str, Any]) -> str:
    kernel = f"ipykernel {python['ipykernel']}" if python["ipykernel"] else "no ipykernel"
    module = f"; after {'; '.join(python['prologue'])}" if python["prologue"] else ""
    return f"{python['path']} ({python['version']}, {kernel}{module})"


def _partition(partition: Mapping[str, Any]) -> str:
    gpus = ", ".join(f"{each['free']} of {each['total']} × {each['type'] or 'GPU'} free" for each in partition["gpus"]) or "no GPU"
    marks = [
        text
        for name, text in (("default", "the default"), ("whole_nodes", "whole nodes only"), ("displaced", "may be displaced"))
        if partition[name]
    ]
    limit = f"at most {duration(partition['max_time'])}" if partition["max_time"] else "no time limit"
    return f"{partition['name']}: {gpus}; {limit}" + (f" ({', '.join(marks)})" if marks else "")


def _show_test(tested: Mapping[str, Any]) -> None:
    internet = "reaches the internet" if tested["internet"] else "does not reach the internet"
    rows = [
        ("node", f"{tested['node']} ({tested['arch']}, {tested['cpus']} CPUs), {internet}"),
        ("Python", f"{tested['python']} ({tested['python_version']}, ipykernel {tested['ipykernel']})"),
        ("GPUs", tested["gpus"]),
        *((step["name"], duration(step["seconds"])) for step in tested["steps"]),
        ("round trip", f"{tested['round_trip_ms']} ms"),
    ]
    say()
    print_table(("TESTED", "RESULT"), rows)
    for warning in tested["warnings"]:
        say(f"\nNote: {warning}")


def _flat(config: Mapping[str, Any], before: str = "") -> Sequence[tuple[str, str]]:
    """(setting, value) in words, in the order in which the settings are documented."""
    rows: list[tuple[str, str]] = []
    for name in sorted(config, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)):
        value = config[name]
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}.")
        else:
            rows.append((f"{before}{name}", _worded(name, value)))
    return rows


def _worded(name: str, value: Any) -> str:
    if name == "time":
        return f"{value} ({duration(value)})"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
