"""The magics' lines: text in, frozen dataclasses out. A mistake is a `LineError` that says what was probably meant."""

from __future__ import annotations

import difflib
import functools
import keyword
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from remote_gpu.resources import NOTHING, OPTIONS, WHERE_OPTIONS, Request, request_of
from remote_gpu.usage import CELL_USAGE, LINE_USAGE

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
    EXTEND = "extend"
    LOGS = "logs"
    WHERE = "where"
    WHY = "why"
    LOGIN = "login"
    LOGOUT = "logout"
    ON = "on"
    OFF = "off"
    PUSH = "push"
    PULL = "pull"
    VARS = "vars"
    PUT = "put"
    GET = "get"
    QUEUE = "queue"
    CANCEL = "cancel"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Place:
    """Which session a cell is for, and what it asks for if it is new; empty strings leave the choice to the sidebar and the gateway."""

    session: str = ""
    cluster: str = ""
    request: Request = NOTHING


@dataclass(frozen=True, slots=True)
class CellLine:
    """`%%remote_gpu …`: empty strings mean "not said".

    `inputs` and `outputs` are the variables that were named by hand; None leaves them to the analysis of the cell, unless `sync` is off.
    `name` is that of a background cell's job.
    """

    session: str = ""
    cluster: str = ""
    request: Request = NOTHING
    help: bool = False
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    sync: bool = True
    background: bool = False
    files: tuple[str, ...] = ()
    name: str = ""

    @property
    def place(self) -> Place:
        """Where the cell runs."""
        return Place(self.session, self.cluster, self.request)


@dataclass(frozen=True, slots=True)
class VerbLine:
    """`%remote_gpu VERB …`. `name` is the session that is meant; `words` are variables, paths, or a job."""

    verb: Verb = Verb.STATUS
    name: str = ""
    cluster: str = ""
    request: Request = NOTHING
    lines: int = 100
    session: str = ""
    words: tuple[str, ...] = ()
    everywhere: bool = False


CELL_OPTIONS = (
    "--session",
    "--cluster",
    *OPTIONS,
    "--input",
    "--output",
    "--no-sync",
    "--files",
    "--background",
    "--name",
    "--help",
)
_SHORT = {"-h": "--help", "-i": "--input", "-o": "--output"}
_FLAGS = frozenset({"--help", "--no-sync", "--background", "--all", *(name for name, option in OPTIONS.items() if not option.takes_value)})
_LISTS = frozenset({"--input", "--output", "--files"})
_PLACE = ("--session", "--cluster", *OPTIONS)
_NAMED = frozenset(
    {
        Verb.STATUS,
        Verb.START,
        Verb.USE,
        Verb.ATTACH,
        Verb.INTERRUPT,
        Verb.RESTART,
        Verb.STOP,
        Verb.EXTEND,
        Verb.LOGS,
        Verb.VARS,
        Verb.QUEUE,
        Verb.WHY,
    }
)
_OF_CLUSTERS = frozenset({Verb.LOGIN, Verb.LOGOUT})
_TAKES: dict[Verb, tuple[str, int]] = {
    Verb.PUSH: ("the names of variables", 0),
    Verb.PULL: ("the names of variables", 0),
    Verb.PUT: ("a file or a folder, and where it shall be there", 2),
    Verb.GET: ("a file or a folder there, and where it shall be here", 2),
    Verb.CANCEL: ("a job, as %remote_gpu queue shows it", 1),
}
"""What else a verb takes than a session's name, in words, and at most how many words (0: any number)."""
_OPTIONS: dict[Verb, tuple[str, ...]] = {
    **dict.fromkeys((*_NAMED, *_TAKES), ("--session",)),
    Verb.SESSIONS: ("--all",),
    Verb.START: _PLACE,
    Verb.LOGS: ("--session", "--lines"),
    Verb.EXTEND: ("--session", "--time"),
    Verb.ON: _PLACE,
    Verb.WHERE: WHERE_OPTIONS,
    **dict.fromkeys(_OF_CLUSTERS, ("--cluster",)),
}


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
    what = "%%remote_gpu"
    values, names = _split(line, CELL_OPTIONS, what)
    if names:
        hint = f" A session is named with --session {names[0]}."
        if names[0] in set(Verb):
            hint = f" As a command it is a line of its own: %remote_gpu {names[0]}."
        raise LineError(f"{what} takes options only, not {names[0]!r}.{hint}")
    if "--name" in values and "--background" not in values:
        raise LineError(f"{what}: --name is for the job of a cell with --background.")
    lists = {option: _parts(values[option]) for option in _LISTS & set(values)}
    for option in ("--input", "--output"):
        _check_variables(lists.get(option, ()), f"{what}: {option}")
    return CellLine(
        values.get("--session", ""),
        values.get("--cluster", ""),
        request_of(values),
        "--help" in values,
        inputs=lists.get("--input"),
        outputs=lists.get("--output"),
        sync="--no-sync" not in values,
        background="--background" in values,
        files=lists.get("--files", ()),
        name=values.get("--name", ""),
    )


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
    session, cluster = values.get("--session", ""), values.get("--cluster", "")
    words: tuple[str, ...] = ()
    if verb in _TAKES:
        name, words = session, _words(verb, names)
    elif verb in _OF_CLUSTERS:
        name, cluster = "", _name(verb, names, cluster, "--cluster")
    else:
        name = _name(verb, names, session)
    return VerbLine(
        verb,
        name,
        cluster,
        request_of(values),
        int(values.get("--lines", 100)),
        session,
        words,
        "--all" in values,
    )


def _name(verb: Verb, names: list[str], said: str, option: str = "--session") -> str:
    """The session or cluster that is meant, by its name or `said` after `option`; empty for verbs that take none."""
    most = 1 if verb in _NAMED | _OF_CLUSTERS else 0
    if len(names) > most:
        raise LineError(f"%remote_gpu {verb} takes {'one name' if most else 'no name'}, not {' '.join(names)!r}.")
    if names and said not in ("", names[0]):
        raise LineError(f"%remote_gpu {verb}: {names[0]!r} or {option} {said!r}? One name is enough.")
    name = names[0] if names else said if most else ""
    if verb is Verb.USE and not name:
        raise LineError("%remote_gpu use needs a name: of a session, or of a cluster. %remote_gpu sessions lists them.")
    return name


def _words(verb: Verb, words: list[str]) -> tuple[str, ...]:
    """What `push`, `pull`, `put`, `get` and `cancel` are about."""
    meant, most = _TAKES[verb]
    if verb in (Verb.PUSH, Verb.PULL):
        words = list(_parts(",".join(words)))
        _check_variables(words, f"%remote_gpu {verb}")
    if not words:
        raise LineError(f"%remote_gpu {verb} needs {meant}.")
    if most and len(words) > most:
        raise LineError(f"%remote_gpu {verb} takes {meant}, not {' '.join(words)!r}. A path with spaces stands in quotation marks.")
    return tuple(words)


def _parts(text: str) -> tuple[str, ...]:
    """What stands between commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _check_variables(names: Sequence[str], what: str) -> None:
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise LineError(f"{what} takes names of variables, separated by commas, not {name!r}.")


def _split(line: str, options: Sequence[str], what: str) -> tuple[dict[str, str], list[str]]:
    """Options with their values, and the other words. A list that is given twice is one list."""
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
        option = _SHORT.get(option, option)
        if option not in options:
            raise LineError(f"{what} has no option {option}.{nearest(option, options)}")
        if option in _FLAGS:
            if has_value:
                raise LineError(f"{what}: {option} takes no value.")
            values[option] = ""
            continue
        value = _value(option, value if has_value else next(rest, ""), what)
        if option in _LISTS:
            while value.endswith(","):  # -i a, b
                value += next(rest, "") or " "
            value = f"{values[option]},{value}" if option in values else value
        values[option] = value
    return values, names


def _value(option: str, value: str, what: str) -> str:
    if not value or value.startswith("--") or value in _SHORT:
        raise LineError(f"{what}: {option} needs a value.")
    if option in _LISTS and not _parts(value):
        raise LineError(f"{what}: {option} needs at least one {'path' if option == '--files' else 'name'}, not {value!r}.")
    if option == "--lines" and not (value.isdecimal() and int(value) > 0):
        raise LineError(f"{what}: {option} needs a number of at least 1, not {value!r}.")
    if option in OPTIONS:
        try:
            request_of({option: value})
        except ValueError:
            raise LineError(f"{what}: {option} needs {OPTIONS[option].needs}, not {value!r}.") from None
    return value
