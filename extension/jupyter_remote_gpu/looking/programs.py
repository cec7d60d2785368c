"""The programs that a look runs on a host: texts for the stdin of a plain ``sh``, and the parts of what they print. Pure.

The host may be anything: its login shell csh or fish, its start-up files talkative, half of the commands missing. So nothing of a program passes through
the login shell but the words ``sh -s``, and nothing is read of its output but what stands between marks.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jupyter_remote_gpu.clusters.slurm_commands import asking
from jupyter_remote_gpu.clusters.slurm_nodes import nodes_command
from jupyter_remote_gpu.clusters.slurm_site import accounts_command, config_command, partitions_command
from jupyter_remote_gpu.clusters.slurm_submit import submit_command

__all__ = ["Part", "environment_program", "look_program", "parts_of", "program", "pythons_program", "trials_program"]

_MARK = re.compile(r"^JRG-LOOK (?P<name>[a-z][\w.]*)$\n(?P<said>.*?)(?:\n?^JRG-LOOK = (?P<status>\d+)$|\Z)", re.MULTILINE | re.DOTALL)
_ME = "JRG_ME"
_ASK = 25  # seconds that each question to Slurm may take: a controller that is away is waited for twice ten

# Whoever runs the program holds its stdin open. When that ends, so do the program and all that it started.
_FRAME = """set -- {arguments}
{text}
{{ exec 3<&0; (cat <&3 >/dev/null; kill -TERM 0) >/dev/null 2>&1 & {call}; status=$?; kill $! 2>/dev/null; exit $status; }}
"""


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a program said, and its exit status (None: it was cut off)."""

    said: str
    status: int | None


def program(text: str, call: str, arguments: Sequence[str] = ()) -> str:
    """A program of the functions in `text`, that runs `call` with the `arguments` as its positional parameters, and ends with its stdin."""
    return _FRAME.format(text=text, call=call, arguments=shlex.join(arguments))


def look_program(*, python: str = "", slurm: bool = True) -> str:
    """The look at everything. `python` is one to look at first; `slurm`: whether Slurm is asked."""
    return program(f"{_probe()}\nslurm() {{\n{_questions()}\n}}", 'look "$@"', [python, "slurm" if slurm else ""])


def pythons_program() -> str:
    """A look at Pythons alone."""
    return program(_probe(), "part pythons pythons ''; part end true")


def trials_program(trials: Sequence[Sequence[str]]) -> str:
    """``sbatch --test-only`` with the options of each trial in turn, until one is taken. The parts are ``trial.NUMBER``."""
    tried = (
        f"part trial.{number} trial {shlex.join(asking(submit_command(options, test_only=True)))}\n[ $last -ne 0 ] || return 0"
        for number, options in enumerate(trials)
    )
    return program("\n".join([_probe(), "trials() {", *tried, "}"]), "trials; part end true")


def environment_program(tool: str, maker: str, packages: Sequence[str], *, version: str, best: str) -> str:
    """Makes a Python environment; see ``bootstrap.sh``. Its parts are ``make``, ``install`` and ``pythons``."""
    text = f"{_probe()}\n{_text('bootstrap.sh')}"
    return program(text, 'bootstrap "$@"', [tool, maker, version, best, *packages])


def parts_of(output: str) -> Mapping[str, Part]:
    """The parts that a program printed, in their order; of one that was cut off, what there is."""
    return {
        found["name"]: Part(found["said"].strip("\n"), int(found["status"]) if found["status"] else None)
        for found in _MARK.finditer(output)
    }


def _questions() -> str:
    questions = {
        "slurm.config": asking(config_command()),
        "slurm.partitions": asking(partitions_command()),
        "slurm.nodes": asking(nodes_command()),
        "slurm.accounts": asking(accounts_command(_ME)),
    }
    lines = (f"part {name} within {_ASK} {shlex.join(argv)}" for name, argv in questions.items())
    return "\n".join(lines).replace(f"name={_ME}", 'name="$me"')


def _probe() -> str:
    return _text("probe.sh")


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
