"""The magics' lines: text in, frozen dataclasses out. A mistake is a `LineError` that says what was probably meant."""

from __future__ import annotations

import difflib
import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CELL_OPTIONS",
    "CELL_USAGE",
    "LINE_USAGE",
    "CellLine",
    "LineError",
    "Place",
    "Verb",
    "VerbLine",
    "nearest",
    "parse_cell",
    "parse_verb",
    "verb_options",
]

CELL_USAGE = """\
%%remote_gpu [--session NAME] [--cluster NAME] [--gpus N]

Run this cell in a remote session. The first cell starts one, later cells use it again.

  --session NAME   the session to run in; several can be there at once
  --cluster NAME   where to run; otherwise what is chosen in the sidebar, or a fitting cluster
  --gpus N         how many GPUs a new session asks for
  --help           show this text

The stop button (Ctrl-C) interrupts the cell; pressed again, it leaves the cell running, and
%remote_gpu attach brings its output back. %remote_gpu help lists the other commands."""

LINE_USAGE = """\
%remote_gpu VERB

  status [NAME]               this notebook's sessions, and what runs in them
  clusters                    the clusters that you can use
  sessions                    your remote sessions
  start [NAME]                start a session now (--cluster NAME, --gpus N)
  use NAME                    the session, or else the cluster, that following cells run in
  attach [NAME]               bring back the output of a cell that was left running, and follow it
  interrupt [NAME]            interrupt what runs there; its variables stay
  restart [NAME]              a new kernel in the same place; its variables are gone
  stop [NAME]                 end a session and give its GPUs back
  logs [NAME] [--lines N]     what the session wrote outside of cells
  on [--session NAME] [--cluster NAME] [--gpus N]
                              run all following cells remotely; %%local runs one here
  off                         run following cells here again
  help                        show this text

NAME is a session's name or id; --session NAME says the same. Without one, this notebook's session is meant.
%%remote_gpu --help tells about cells."""


class LineError(ValueError):
    """A magic line that cannot be understood; the text is for the user."""


class Verb(StrEnum):
    """What `%remote_gpu` can be told."""

    STATUS = "status"
    CLUSTERS = "clusters"
    SESSIONS = "sessions"
    START = "start"
    USE = "use"
    ATTACH = "attach"
    INTERRUPT = "interrupt"
    RESTART = "restart"
    STOP = "stop"
    LOGS = "logs"
    ON = "on"
    OFF = "off"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Place:
    """Which session a cell is for; empty strings leave the choice to the sidebar and the gateway."""

    session: str = ""
    cluster: str = ""
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class CellLine:
    """`%%remote_gpu …`: empty strings and 0 mean "not said"."""

    session: str = ""
    cluster: str = ""
    gpus: int = 0
    help: bool = False

    @property
    def place(self) -> Place:
        """Where the cell runs."""
        return Place(self.session, self.cluster, self.gpus)


@dataclass(frozen=True, slots=True)
class VerbLine:
    """`%remote_gpu VERB …`."""

    verb: Verb = Verb.STATUS
    name: str = ""
    cluster: str = ""
    gpus: int = 0
    lines: int = 100
    session: str = ""


CELL_OPTIONS = ("--session", "--cluster", "--gpus", "--help")
_PLACE = ("--session", "--cluster", "--gpus")
_NAMED = frozenset({Verb.STATUS, Verb.START, Verb.USE, Verb.ATTACH, Verb.INTERRUPT, Verb.RESTART, Verb.STOP, Verb.LOGS})
_OPTIONS: dict[Verb, tuple[str, ...]] = {
    **dict.fromkeys(_NAMED, ("--session",)),
    Verb.START: _PLACE,
    Verb.LOGS: ("--session", "--lines"),
    Verb.ON: _PLACE,
}
_NUMBERS = frozenset({"--gpus", "--lines"})


def verb_options(verb: str) -> tuple[str, ...]:
    """The options of a verb, for completion."""
    return _OPTIONS.get(Verb(verb), ()) if verb in set(Verb) else ()


def nearest(word: str, known: Sequence[str]) -> str:
    """`` Did you mean …?`` when something known is near, else a list of what is known, else nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    if found:
        return f" Did you mean {found[0]}?"
    return f" Known: {', '.join(known)}." if known else ""


@functools.lru_cache(maxsize=64)
def parse_cell(line: str) -> CellLine:
    """The options of a cell's first line; raises `LineError`."""
    values, names = _split(line, CELL_OPTIONS, "%%remote_gpu")
    if names:
        hint = nearest(names[0], list(Verb)) if names[0] in set(Verb) else f" A session is named with --session {names[0]}."
        if names[0] in set(Verb):
            hint = f" As a command it is a line of its own: %remote_gpu {names[0]}."
        raise LineError(f"%%remote_gpu takes options only, not {names[0]!r}.{hint}")
    return CellLine(values.get("--session", ""), values.get("--cluster", ""), int(values.get("--gpus", 0)), "--help" in values)


def parse_verb(line: str) -> VerbLine:
    """A line magic's command; raises `LineError`."""
    first, _, rest = line.strip().partition(" ")
    if first in ("", "-h", "--help"):
        return VerbLine(Verb.STATUS if not first else Verb.HELP)
    if first not in set(Verb):
        raise LineError(f"%remote_gpu has no command {first!r}.{nearest(first, list(Verb))}")
    verb = Verb(first)
    values, names = _split(rest, (*_OPTIONS.get(verb, ()), "--help"), f"%remote_gpu {verb}")
    if "--help" in values:
        return VerbLine(Verb.HELP)
    most = 1 if verb in _NAMED else 0
    if len(names) > most:
        raise LineError(f"%remote_gpu {verb} takes {'one name' if most else 'no name'}, not {' '.join(names)!r}.")
    session = values.get("--session", "")
    if names and session not in ("", names[0]):
        raise LineError(f"%remote_gpu {verb}: {names[0]!r} or --session {session!r}? One name is enough.")
    name = names[0] if names else session if most else ""
    if verb is Verb.USE and not name:
        raise LineError("%remote_gpu use needs a name: of a session, or of a cluster. %remote_gpu sessions lists them.")
    return VerbLine(
        verb,
        name,
        values.get("--cluster", ""),
        int(values.get("--gpus", 0)),
        int(values.get("--lines", 100)),
        session,
    )


def _split(line: str, options: Sequence[str], what: str) -> tuple[dict[str, str], list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise LineError(f"{what}: a quotation mark is not closed in {line.strip()!r}.") from error
    values: dict[str, str] = {}
    names: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            names.append(word)
            continue
        option, has_value, value = word.partition("=")
        if option == "-h":
            option = "--help"
        if option not in options:
            raise LineError(f"{what} has no option {option}.{nearest(option, options)}")
        if option == "--help":
            values[option] = ""
            continue
        values[option] = _value(option, value if has_value else next(rest, ""), what)
    return values, names


def _value(option: str, value: str, what: str) -> str:
    if not value or value.startswith("--"):
        raise LineError(f"{what}: {option} needs a value.")
    if option in _NUMBERS and not (value.isdecimal() and int(value) > 0):
        raise LineError(f"{what}: {option} needs a number of at least 1, not {value!r}.")
    return value
