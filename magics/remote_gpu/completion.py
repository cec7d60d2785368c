"""Remote names in completion and in ``?``, inside remote cells; and the magics' own words on their lines.

A question to the remote kernel has a short limit: while a cell runs there it goes to a subshell, and where there is none, the
answer is simply left out. Local completion is never disturbed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote_gpu.arguments import CELL_OPTIONS, LineError, Place, Verb, parse_cell, verb_options
from remote_gpu.errors import RemoteGpuError

if TYPE_CHECKING:
    from remote_gpu.sessions import Sessions

__all__ = ["Asked", "Completion"]

_LIMIT = 0.3  # seconds for an answer beside a running cell
_FIRST_LIMIT = 5.0  # seconds for an idle kernel: the first answer of any kernel loads its completer
_MAGIC = re.compile(r"%%?remote_gpu\b")
_NAMES = {"--session": "sessions", "--cluster": "clusters"}
_VARIABLES = frozenset({"-i", "--input", "-o", "--output"})
_NAMING_VERBS = frozenset({"start", "use", "attach", "interrupt", "restart", "stop", "extend", "logs", "vars", "queue", "why"})
_OF_CLUSTERS = frozenset({"login", "logout"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about remote code: `offset` characters of the cell stand before it."""

    place: Place
    code: str
    offset: int


class Completion:
    """Hooks into one shell. `following` tells the place of cells without a magic line, or None."""

    def __init__(self, shell: Any, sessions: Callable[[], Sessions], following: Callable[[], Place | None]) -> None:
        self._shell = shell
        self._sessions = sessions
        self._following = following
        self._matcher: Any = None
        self._had_inspect = False

    def load(self) -> None:
        """Hook in."""
        from IPython.core.completer import context_matcher

        @context_matcher(identifier="remote_gpu", priority=1000)  # it sets attributes, which a method would refuse
        def matcher(context: Any) -> Any:
            return self.match(context)

        self._matcher = matcher
        self._shell.Completer.custom_matchers.append(self._matcher)
        kernel = getattr(self._shell, "kernel", None)
        if kernel is not None:
            local = kernel.do_inspect
            self._had_inspect = "do_inspect" in vars(kernel)

            def do_inspect(code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()) -> Any:
                found = self.inspect(code, cursor_pos, detail_level)
                return found if found is not None else local(code, cursor_pos, detail_level, omit_sections)

            self._local_inspect = local
            kernel.do_inspect = do_inspect

    def unload(self) -> None:
        """Take the hooks out."""
        matchers = self._shell.Completer.custom_matchers
        if self._matcher in matchers:
            matchers.remove(self._matcher)
        kernel = getattr(self._shell, "kernel", None)
        if kernel is not None:
            if self._had_inspect:
                kernel.do_inspect = self._local_inspect
            else:
                del kernel.do_inspect

    def match(self, context: Any) -> dict[str, Any]:
        """A matcher of IPython's second version."""
        lines = context.full_text.split("\n")
        before = lines[context.cursor_line][: context.cursor_position]
        own = self._own_words(before)
        if own is not None:
            word = re.split(r"[\s=,]", before)[-1]
            return _result([each for each in own if each.startswith(word)], word)
        asked = self.asked(context.full_text)
        position = sum(len(line) + 1 for line in lines[: context.cursor_line]) + context.cursor_position
        if asked is None or position < asked.offset:
            return _result([], "")
        content = {"code": asked.code, "cursor_pos": position - asked.offset}
        reply = self._ask(asked.place, "complete_request", content)
        if not reply or reply.get("status") != "ok":
            return _result([], "")
        start, end = int(reply["cursor_start"]), int(reply["cursor_end"])
        fragment = asked.code[start:end]
        if end != content["cursor_pos"] or not before.endswith(fragment) or "\n" in fragment:
            return _result([], "")
        types = {each.get("text"): each.get("type") for each in (reply.get("metadata") or {}).get("_jupyter_types_experimental") or ()}
        return _result([str(each) for each in reply.get("matches") or ()], fragment, types)

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, Any] | None:
        """The remote kernel's answer to ``?``; None when the question is not a remote one, or has no answer in time."""
        asked = self.asked(code)
        if asked is None or cursor_pos < asked.offset:
            return None
        content = {"code": asked.code, "cursor_pos": cursor_pos - asked.offset, "detail_level": detail_level}
        return self._ask(asked.place, "inspect_request", content)

    def asked(self, text: str) -> Asked | None:
        """The remote part of a cell, or None when the cell runs here."""
        stripped = text.lstrip("\n ")
        if stripped.startswith("%%remote_gpu"):
            first, newline, body = stripped.partition("\n")
            try:
                line = parse_cell(first.removeprefix("%%remote_gpu").strip())
            except LineError:
                line = parse_cell("")
            return Asked(line.place, body, len(text) - len(body)) if newline else None
        place = self._following()
        if place is None or stripped.startswith(("%%local", "%remote_gpu")):
            return None
        return Asked(place, text, 0)

    def _ask(self, place: Place, msg_type: str, content: dict[str, Any]) -> dict[str, Any] | None:
        attached = self._sessions().current(place)
        if attached is None or attached.connection.death is not None:
            return None
        connection = attached.connection
        return connection.request(msg_type, content, timeout=_LIMIT if connection.busy else _FIRST_LIMIT)

    def _own_words(self, before: str) -> list[str] | None:
        """Words that fit on a line of ours; None on another line."""
        found = _MAGIC.match(before.lstrip())
        if found is None or len(before.lstrip()) == found.end():
            return None
        words = re.split(r"[\s=]+", before.lstrip())
        cell, earlier = found.group().startswith("%%"), words[1:-1]
        if earlier and earlier[-1] in _NAMES:
            return self._names(_NAMES[earlier[-1]])
        if earlier and (earlier[-1] in _VARIABLES or earlier[-1].endswith(",")):
            return self._variables()
        if cell:
            return [each for each in CELL_OPTIONS if each not in earlier]
        if not earlier:
            return [str(verb) for verb in Verb]
        options = [each for each in verb_options(earlier[0]) if each not in earlier]
        if earlier[0] in ("push", "pull"):
            return [*self._variables(), *options]
        if earlier[0] in _OF_CLUSTERS and not words[-1].startswith("-"):
            return [*self._names("clusters"), *options]
        if earlier[0] in _NAMING_VERBS and not words[-1].startswith("-"):
            return [*self._names("sessions"), *(self._names("clusters") if earlier[0] == "use" else []), *options]
        return options

    def _variables(self) -> list[str]:
        hidden = self._shell.user_ns_hidden
        return [name for name, value in self._shell.user_ns.items() if not name.startswith("_") and hidden.get(name, self) is not value]

    def _names(self, what: str) -> list[str]:
        try:
            gateway = self._sessions().gateway_if_any()
            return [each.name for each in getattr(gateway, what)()] if gateway is not None else []
        except RemoteGpuError:
            return []


def _result(words: list[str], fragment: str, types: dict[Any, Any] | None = None) -> dict[str, Any]:
    from IPython.core.completer import SimpleCompletion

    completions = [SimpleCompletion(text=word, type=(types or {}).get(word)) for word in words]
    return {"completions": completions, "matched_fragment": fragment, "suppress": bool(words), "ordered": True}
