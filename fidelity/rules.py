"""Normalising: what two local runs of one cell say differently is no difference of ours. Pure.

A rule is used for a cell only if what it matches differs between the local runs of that very cell. So a remote run that shows an
address where local runs always show the same one is found out, and a cell whose local runs agree is compared to the letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RULES", "Rule", "Verdict", "compare", "mapped", "normalised"]

_NUMBER = r"(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?)"


@dataclass(frozen=True, slots=True)
class Rule:
    """What `pattern` matches is replaced by `instead`; `why` is for the documentation."""

    name: str
    pattern: re.Pattern[str]
    instead: str
    why: str


def _rule(name: str, pattern: str, why: str, instead: str | None = None) -> Rule:
    return Rule(name, re.compile(pattern), f"<{name}>" if instead is None else instead, why)


RULES = (
    _rule(
        "progress", r"(?m)^(?:[^\r\n]*\r)+(?=[^\r\n])", "a bar is redrawn as often as the clock lets it; the last state of a line stays", ""
    ),
    _rule("address", r"(?:0|\.{3})x[0-9a-fA-F]{6,16}", "where an object lies in memory (scikit-learn shortens such texts)"),
    _rule("id", r"\b\d{14,16}\b", "`id()` of an object"),
    _rule("process", r"(?<=ipykernel_)\d+", "the kernel's process number in the file name of a cell"),
    _rule("uuid", r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", "random ids in HTML and widgets"),
    _rule("style", r"(?<=T_)[0-9a-f]{5}", "random ids of pandas' styles"),
    _rule("temporary", r"(?<=/tmp/)[\w-]+(?:/[\w-]+)*", "names of temporary files and folders"),
    _rule("moment", r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?|\d{4}-\d{2}-\d{2}", "the time of day"),
    _rule("duration", _NUMBER + r"(?: ?± ?" + _NUMBER + r")? ?(?:ns|us|[µμ]s|ms|s|sec|seconds|min)\b", "how long something took"),
    _rule("rate", r"(?:" + _NUMBER + r"|\?) ?[A-Za-z]+/(?:s|it)\b", "how fast something went"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`same`, `different` or `not comparable`; `rules` are those that were needed; `local` and `remote` are the normalised records."""

    result: str
    rules: tuple[str, ...]
    local: Any
    remote: Any


def normalised(value: Any, rules: Sequence[Rule]) -> Any:
    """`value` (JSON) with `rules` applied to each of its texts."""
    return mapped(value, lambda text: _applied(text, rules))


def _applied(text: str, rules: Sequence[Rule]) -> str:
    for rule in rules:
        text = rule.pattern.sub(rule.instead.replace("\\", r"\\"), text)
    return text


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """`value` (JSON) with `change` made to each of its texts and names."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [mapped(each, change) for each in value]
    if isinstance(value, dict):
        return {change(name): mapped(each, change) for name, each in value.items()}
    return value


def _matches(value: Any, rule: Rule) -> list[str]:
    found: list[str] = []

    def look(text: str) -> str:
        found.extend(rule.pattern.findall(text))
        return text

    mapped(value, look)
    return found


def compare(locals_: Sequence[Any], remote: Any) -> Verdict:
    """Compare a cell's records: of two or more local runs, and of the remote one.

    With more local runs a rule is more surely found to be needed: two runs in one second show the same time of day.
    """
    rules = tuple(rule for rule in RULES if len({json.dumps(_matches(each, rule)) for each in locals_}) > 1)
    plain = [normalised(each, rules) for each in locals_]
    there = normalised(remote, rules)
    names = tuple(rule.name for rule in rules)
    if there in plain:
        return Verdict("same", names, plain[0], there)
    alike = all(each == plain[0] for each in plain)
    return Verdict("different" if alike else "not comparable", names, plain[0], there)
